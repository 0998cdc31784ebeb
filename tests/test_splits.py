"""What belongs together stays together, whatever the order of rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing.splits import (
    advert_keys,
    linked_groups,
    split_groups,
)

groups = st.lists(st.sampled_from([f"g{number}" for number in range(30)]), max_size=200)
employers = st.sampled_from([None, "", float("nan"), *"ABCDEFG"])
clusters = st.integers(0, 15)
adverts = st.lists(st.tuples(employers, clusters), min_size=1, max_size=40)


def shuffled(rows, random):
    order = random.sample(range(len(rows)), len(rows))
    return [rows[row] for row in order], order


@given(groups, st.integers(0, 2**32 - 1), st.randoms())
def test_no_group_straddles_and_row_order_does_not_matter(groups, seed, random):
    assume(len(set(groups)) >= 3)
    parts = split_groups(groups, 0.2, 0.2, seed)
    assert len(set(zip(groups, parts, strict=True))) == len(set(groups))
    assert set(parts) == {"train", "validation", "test"}
    moved, order = shuffled(groups, random)
    assert split_groups(moved, 0.2, 0.2, seed).tolist() == parts[order].tolist()


@given(st.lists(st.integers(1, 40), min_size=40, max_size=300), st.integers(0, 99))
def test_shares_are_what_was_asked_for(sizes, seed):
    """Held-out parts never exceed their share, and miss it by less than one group."""
    groups = np.repeat([f"g{number}" for number in range(len(sizes))], sizes)
    parts = split_groups(groups, 0.1, 0.15, seed)
    largest = max(sizes)
    for part, share in (("validation", 0.1), ("test", 0.15)):
        wanted = share * len(groups)
        found = (parts == part).sum()
        assert wanted - largest <= found <= max(wanted + 0.5, min(sizes))


@pytest.mark.parametrize("seed", range(10))
def test_one_employer_with_a_third_of_all_adverts_is_for_training(seed):
    sizes = np.random.default_rng(seed).zipf(1.5, size=400).clip(max=60)
    giant = int(sizes.sum() * 0.5)
    groups = np.repeat([f"g{number}" for number in range(401)], [giant, *sizes])
    parts = split_groups(groups, 0.1, 0.1, seed)
    assert set(parts[:giant]) == {"train"}
    for part in ("validation", "test"):
        assert abs((parts == part).mean() - 0.1) < 0.005


def test_one_employer_does_not_make_up_most_of_a_held_out_part():
    groups = ["large"] * 80 + [f"g{number}" for number in range(920)]
    for seed in range(50):
        assert split_groups(groups, 0.1, 0.1, seed)[0] == "train"


def test_another_seed_draws_other_groups():
    groups = [f"g{number}" for number in range(100)]
    splits = {tuple(split_groups(groups, 0.1, 0.1, seed)) for seed in range(10)}
    assert len(splits) == 10


def test_the_split_is_the_same_on_every_machine():
    parts = split_groups(list("abcdefghij"), 0.2, 0.2, seed=0)
    assert dict(zip("abcdefghij", parts, strict=True)) == {
        **dict.fromkeys("abcdefghij", "train"),
        **{"c": "test", "e": "test", "f": "validation", "h": "validation"},
    }


def test_every_part_gets_a_group_even_if_none_fits():
    parts = split_groups(["a"] * 90 + ["b"] * 30 + ["c"] * 20, 0.1, 0.1, seed=1)
    assert set(parts[:90]) == {"train"}
    assert set(parts) == {"train", "validation", "test"}
    parts = split_groups(["a"] * 90 + ["b"] * 5 + ["c"] * 5, 0.1, 0.1, seed=1)
    assert set(parts[:90]) == {"train"}
    assert set(parts) == {"train", "validation", "test"}


def test_a_part_that_is_not_asked_for_stays_empty():
    assert set(split_groups(["a", "b"], 0, 0.5, seed=0)) == {"train", "test"}
    assert set(split_groups(["a"], 0, 0, seed=0)) == {"train"}


@pytest.mark.parametrize(
    ("rows", "adverts"),
    [
        ([("A", "1"), ("B", "1"), (" a", "1")], 2),
        ([("A", "1"), (None, "1")], 1),
        ([("A", "1"), ("B", "1"), (None, "1")], 3),
        ([(None, "x"), (None, "X ")], 1),
        ([("A", None), (None, None), ("A", "1")], 1),
        ([("A", None)], 0),
    ],
)
def test_an_id_with_several_employers_is_another_advert_with_each(rows, adverts):
    table = pd.DataFrame(rows, columns=["employer", "advert"]).iloc[::-1]
    keys = advert_keys(table)
    assert keys.index.equals(table.index)
    assert (keys.isna() == table["advert"].isna()).all()
    assert keys.nunique() == adverts


def test_too_few_groups_are_counted_in_the_error():
    with pytest.raises(ValueError, match=r"found 2 \(adverts: 7\), .* at least 3,"):
        split_groups(["a"] * 5 + ["b"] * 2, 0.1, 0.1, seed=0)
    with pytest.raises(ValueError, match=r"found 0 \(adverts: 0\)"):
        split_groups([], 0.1, 0.1, seed=0)


@given(adverts, st.randoms())
def test_groups_are_what_the_keys_link(adverts, random):
    labels = linked_groups(*zip(*adverts, strict=True))
    # Brute force: pass labels on along shared keys until nothing changes.
    expected = list(range(len(adverts)))
    for _ in adverts:
        for i, (employer, cluster) in enumerate(adverts):
            for j, (other, near) in enumerate(adverts):
                named = isinstance(employer, str) and employer != ""
                if cluster == near or (named and employer == other):
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert len(set(zip(labels, expected, strict=True))) == len(set(labels))
    assert len(set(labels)) == len(set(expected))

    moved, order = shuffled(adverts, random)
    assert linked_groups(*zip(*moved, strict=True)).tolist() == labels[order].tolist()


def test_missing_keys_link_nothing():
    blank = [None, "", "  ", float("nan"), None]
    assert len(set(linked_groups(blank, range(5)))) == 5


def test_spelling_of_an_employer_does_not_matter():
    assert len(set(linked_groups([" ACME  ltd", "Acme Ltd", "acme\u00a0ltd "]))) == 1


def test_equal_values_of_different_keys_are_not_the_same():
    assert linked_groups(["1", None], [None, 1]).tolist() == ["0:1", "1:1"]


def test_an_advert_without_any_key_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"1 of 3 adverts have none of the 2 keys.* 2"):
        linked_groups(["a", None, "b"], [None, "", "c"])


def test_keys_must_be_as_many_as_adverts():
    with pytest.raises(ValueError, match=r"found \[1, 2\]"):
        linked_groups(["a", "b"], ["c"])
