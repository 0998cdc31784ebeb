"""Duplicates are found, others are not, and neither row order nor batches matter."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing import duplicates
from ojd_daps_language_models.preprocessing.duplicates import (
    band_keys,
    choose_representatives,
    cluster_fingerprints,
    count_bands,
    distinct_texts,
    exact_fingerprints,
    fingerprint,
    has_near_duplicate,
    link_texts,
    number_linked,
)

# Few words, so that hypothesis finds texts that share shingles.
short_texts = st.lists(
    st.sampled_from(["nurse", "care", "Ward", "night", "pay", "!", "-"]), max_size=9
)
collections = st.lists(short_texts.map(" ".join), max_size=12)


def cluster_duplicates(texts, threshold=0.8):
    return cluster_fingerprints(*fingerprint(texts), threshold)


def random_words(rng: np.random.Generator, count: int) -> list[str]:
    return [f"w{number}" for number in rng.integers(20_000, size=count)]


def edited(words: list[str], rng: np.random.Generator, changes: int) -> list[str]:
    words = list(words)
    for place in rng.integers(len(words), size=changes):
        words[place] = f"x{rng.integers(10**9)}"
    return words


def shingles(text: str) -> set[tuple[str, ...]]:
    words = [*text.split(), "", ""]
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


def jaccard(left: str, right: str) -> float:
    left, right = shingles(left), shingles(right)
    return len(left & right) / len(left | right)


@pytest.fixture(scope="module")
def families() -> list[str]:
    """Of each of 120 adverts three copies, changed in 0 to 15 of 200 words."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(120):
        words = random_words(rng, 200)
        texts.append(" ".join(words))
        texts.extend(
            " ".join(edited(words, rng, changes))
            for changes in rng.integers(16, size=3)
        )
    return texts


def test_pairs_agree_with_brute_force(families):
    _, signatures = fingerprint(families)
    found, true, near_threshold = [], [], 0
    for start in range(0, len(families), 4):
        for copy in range(start + 1, start + 4):
            similarity = jaccard(families[start], families[copy])
            near_threshold += abs(similarity - 0.8) < 0.1
            true.append(similarity >= 0.8)
            found.extend(
                has_near_duplicate(signatures[[start]], signatures[[copy]], 0.8)
            )
    true, found = np.array(true), np.array(found)
    assert near_threshold > 100  # the planted copies are hard ones
    assert true[found].mean() >= 0.95, "precision"
    assert found[true].mean() >= 0.95, "recall"


def test_clusters_hold_the_copies_of_one_advert_only(families):
    near = cluster_duplicates(families)["near"].to_numpy().reshape(-1, 4)
    assert len(np.unique(near[:, 0])) == len(near)
    for number, copies in enumerate(near):
        others = np.delete(near, number, axis=0)
        assert not np.isin(copies, others).any()


def test_case_punctuation_and_white_space_make_no_other_advert():
    clusters = cluster_duplicates(
        ["Care home: NIGHT nurse!", "care\u00a0home\n• night nurse", "care home night"]
    )
    assert clusters["exact"][0] == clusters["exact"][1] != clusters["exact"][2]


def test_a_digit_makes_another_advert_but_a_near_duplicate_of_a_long_one():
    words = " ".join(random_words(np.random.default_rng(1), 100))
    clusters = cluster_duplicates(
        [f"{words} Band 5", f"{words} Band 6", "Band 5", "Band 6"]
    )
    assert clusters["exact"].nunique() == 4
    assert clusters["near"].nunique() == 3
    assert clusters["near"][0] == clusters["near"][1]


def test_texts_without_words_are_alone_and_tiny_ones_with_their_like():
    clusters = cluster_duplicates(
        ["", " ", "…!", "Apply", "apply.", "Nurse", "", "a b"]
    )
    wordless = [0, 1, 2, 6]
    assert clusters.loc[wordless, "near"].nunique() == 4
    assert clusters.loc[[3, 4], "near"].nunique() == 1
    assert clusters["near"].nunique() == 4 + 3
    assert len(cluster_duplicates([])) == 0


def test_a_chain_of_near_duplicates_is_one_cluster():
    words = random_words(np.random.default_rng(2), 300)
    chain = [" ".join(words[start : start + 200]) for start in range(0, 100, 10)]
    assert jaccard(chain[0], chain[-1]) < 0.5
    assert cluster_duplicates(chain)["near"].nunique() == 1


@given(collections, st.randoms(), st.sampled_from([0.5, 0.8, 1.0]))
def test_row_order_changes_no_number(texts, random, threshold):
    texts = [text for text in texts if exact_fingerprints([text])[0] >= 0]
    order = random.sample(range(len(texts)), len(texts))
    clusters = cluster_duplicates(texts, threshold)
    moved = cluster_duplicates([texts[row] for row in order], threshold)
    pd.testing.assert_frame_equal(moved, clusters.iloc[order].reset_index(drop=True))


@given(collections)
def test_exact_duplicates_share_a_near_cluster(texts):
    clusters = cluster_duplicates(texts)
    assert (clusters.groupby("exact")["near"].nunique() == 1).all()
    assert (
        clusters.groupby("near")["exact"].transform("min") == clusters["near"]
    ).all()
    same_words = pd.Series(" ".join(duplicates._words(text)) for text in texts)
    has_words = same_words != ""
    assert same_words[has_words].nunique() == clusters["exact"][has_words].nunique()


def test_a_lower_threshold_only_merges_clusters(families):
    strict = cluster_duplicates(families, 0.9)["near"]
    loose = cluster_duplicates(families, 0.7)["near"]
    assert (loose.groupby(strict).nunique() == 1).all()
    assert loose.nunique() < strict.nunique()


def test_batches_and_shards_make_no_difference(families, monkeypatch):
    exact, signatures = fingerprint(families)
    clusters = cluster_fingerprints(exact, signatures)
    monkeypatch.setattr(duplicates, "_PAIRS", 7)
    monkeypatch.setattr(duplicates, "_CHUNK", 5)
    shards = [fingerprint(iter(families[:99])), fingerprint(iter(families[99:]))]
    again = cluster_fingerprints(*map(np.concatenate, zip(*shards, strict=True)))
    pd.testing.assert_frame_equal(again, clusters)


def linked_components(signatures):
    """The components that `link_texts` makes of all bands."""
    rows = np.arange(len(signatures))
    return duplicates._link(
        band_keys(signatures, 0.8), signatures.__getitem__, rows, 0.8
    )


@pytest.mark.parametrize("bands_per_task", [1, 7, 30, 100])
def test_tasks_that_link_some_bands_each_find_together_what_one_finds(
    families, bands_per_task
):
    exact, signatures = fingerprint([*families, "", families[3].upper(), "?"])
    rows = distinct_texts(exact)
    keys = list(band_keys(signatures[rows], 0.8))
    assert len(keys) == count_bands(0.8)
    links = [
        link_texts(
            keys[start : start + bands_per_task], signatures.__getitem__, rows, 0.8
        )
        for start in range(0, len(keys), bands_per_task)
    ]
    pd.testing.assert_frame_equal(
        number_linked(exact, np.concatenate(links)),
        cluster_fingerprints(exact, signatures),
    )


def test_a_link_is_made_for_every_similar_pair_that_shares_a_band(families):
    """The pairs that `_link` leaves out would have changed nothing."""
    _, signatures = fingerprint(families)
    linked = np.zeros((len(families),) * 2, bool)
    for keys in band_keys(signatures, 0.8):
        linked |= keys[:, None] == keys
    agreement = np.array([(signatures == row).mean(axis=1) for row in signatures])
    linked &= agreement >= 0.8
    for _ in range(5):  # the closure of paths up to 32 links
        linked = linked @ linked
    component = linked_components(signatures)
    assert ((component[:, None] == component) == linked).all()


def test_all_of_a_bucket_are_compared():
    """Two of ten texts are alike, and all ten share the first band and no other."""
    rng = np.random.default_rng(4)
    signatures = rng.integers(60_000, size=(10, duplicates.SLOTS), dtype=np.uint16)
    bands = len(list(band_keys(signatures, 0.8)))
    width = duplicates.SLOTS // bands
    signatures[:, :width] = 7
    for one, other in ((0, 9), (3, 5)):
        copy = signatures.copy()
        copy[other] = copy[one]
        copy[other, width::width] += 1
        component = linked_components(copy)
        assert component[one] == component[other]
        assert len(set(component)) == 9


def test_the_longest_of_a_cluster_is_kept_whatever_the_order(families):
    texts = [*families, *families[:50], "", "!"]
    texts[3] += " ."  # longer by punctuation only
    ids = [f"id{number}" for number in range(len(texts))]
    clusters = cluster_duplicates(texts)
    lengths = pd.Series(texts).str.len()
    kept = choose_representatives(clusters, lengths, ids)
    assert sorted(clusters["near"][kept]) == sorted(clusters["near"].unique())
    longest = lengths.groupby(clusters["near"]).max()
    assert (lengths[kept].to_numpy() == longest[clusters["near"][kept]]).all()

    order = np.random.default_rng(3).permutation(len(texts))
    moved = choose_representatives(
        clusters.iloc[order], lengths[order], [ids[row] for row in order]
    )
    assert (moved == kept[order]).all()


def test_near_duplicates_are_found_across_parts(families):
    _, signatures = fingerprint([*families, ""])
    train, held_out = signatures[::2], signatures[1::2]
    agreement = np.array([(train == row).mean(axis=1).max() for row in held_out])
    found = has_near_duplicate(held_out, train)
    assert (found == (agreement >= 0.8)).mean() > 0.99
    assert not found[agreement < 0.8].any()


def test_a_text_without_words_has_no_near_duplicate():
    _, signatures = fingerprint(["", "?", "apply now"])
    assert has_near_duplicate(signatures, signatures).tolist() == [False, False, True]
    assert not has_near_duplicate(signatures, signatures[:0]).any()
