"""Pairs teach order and nothing else: no shortcut, no leak, no false negative."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing import pairs as drawing
from ojd_daps_language_models.preprocessing.pairs import KINDS, make_pairs

SHARES = {"another_advert": 0.4, "same_employer": 0.2, "same_advert": 0.4}
COMMON = "We are an equal opportunities employer."


def settings_of(min_words=3, max_per_advert=None, seed=0, **shares):
    return SimpleNamespace(
        shares=dict.fromkeys(KINDS, 0) | (shares or SHARES),
        min_words=min_words,
        max_per_advert=max_per_advert,
        seed=seed,
    )


def adverts(count=60, lines=8, employers=12):
    """Adverts of some employers, each line telling advert and place."""
    rows = [
        {
            "text": "\n".join(
                [f"Line {place} of advert {number} here" for place in range(lines)]
                + [COMMON]
            ),
            "employer": f"E{number % employers}",
        }
        for number in range(count)
    ]
    table = pd.DataFrame(rows)
    part = np.array(["train", "train", "validation", "test"])
    return table.assign(part=part[np.arange(count) % employers % 4])


def told(paired):
    """The pairs with texts, and advert and place of both sentences."""
    texts = np.array(list(chain.from_iterable(paired.sentences)), object)
    of = np.repeat(range(len(paired.sentences)), list(map(len, paired.sentences)))
    pairs = paired.pairs.assign(
        one=texts[paired.pairs["first"]],
        other=texts[paired.pairs["second"]],
        of=of[paired.pairs["second"]],
    )
    return pairs


@pytest.fixture(scope="module", params=[2**20, 7])
def pairs(request):
    """Negatives are drawn for so many first sentences at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_AT_ONCE", request.param)
        return told(make_pairs(adverts(), settings_of()))


def test_half_are_true_successors_in_their_order(pairs):
    assert pairs["label"].mean() == 0.5
    positive = pairs[pairs["label"] == 0]
    assert (positive["second"] == positive["first"] + 1).all()
    assert (positive["of"] == positive["advert"]).all()


def test_positives_and_negatives_have_the_same_first_sentences(pairs):
    for part, rows in pairs.groupby("part"):
        positive, negative = (rows[rows["label"] == label] for label in (0, 1))
        assert positive["first"].tolist() == negative["first"].tolist(), part
        assert positive["kind"].tolist() == negative["kind"].tolist(), part


def test_no_sentence_crosses_to_another_part(pairs):
    parts = adverts()["part"].to_numpy()
    assert (parts[pairs["of"]] == pairs["part"]).all()
    assert (parts[pairs["advert"]] == pairs["part"]).all()


def test_negatives_are_of_the_kinds_that_were_asked_for(pairs):
    employers = adverts()["employer"].to_numpy()
    negative = pairs[pairs["label"] == 1]
    same_employer = employers[negative["of"]] == employers[negative["advert"]]
    same_advert = negative["of"] == negative["advert"]
    for kind, expected in (
        ("another_advert", ~same_employer),
        ("same_employer", same_employer & ~same_advert),
        ("same_advert", same_advert),
    ):
        rows = (negative["kind"] == kind).to_numpy()
        assert (
            expected.to_numpy()[rows].all()
            if kind == "same_advert"
            else expected[rows].all()
        )
        assert rows.mean() == pytest.approx(SHARES[kind], abs=0.06)


def test_no_negative_follows_anywhere_nor_repeats_its_first_sentence():
    # In every other advert the lines are the same, so many sentences follow there.
    table = adverts(count=40, lines=4)
    table["text"] = [
        "Drive the van safely\nLoad the van early\nClean the van daily\nPark it here"
        if number % 2
        else text
        for number, text in enumerate(table["text"])
    ]
    pairs = told(make_pairs(table, settings_of()))
    true = {
        f"{one}\n{other}".casefold()
        for text in table["text"]
        for one, other in zip(text.split("\n"), text.split("\n")[1:], strict=False)
    }
    negative = pairs[pairs["label"] == 1]
    said = set(negative["one"].str.casefold() + "\n" + negative["other"].str.casefold())
    assert len(said) > 20 and not said & true
    assert (negative["one"] != negative["other"]).all()


def test_second_sentences_do_not_give_the_answer_away(pairs):
    # None opens an advert, as no true successor does.
    assert not pairs["other"].str.startswith("Line 0").any()
    place = pairs["other"].str.extract(r"Line (\d)")[0].value_counts()
    assert place.min() > place.max() / 3


def test_adverts_of_one_sentence_are_counted_and_give_no_pair():
    table = adverts()
    table.loc[table.index[:5], "text"] = "Only one sentence stands here"
    paired = make_pairs(table, settings_of())
    assert sum(paired.report["too_few_sentences"].values()) == 5
    assert not set(paired.pairs["advert"]) & set(range(5))


def test_impossible_pairs_are_one_clear_error():
    table = adverts().assign(text="Only one sentence stands here")
    with pytest.raises(ValueError, match="train: none of its 30 adverts has two sent"):
        make_pairs(table, settings_of())


def test_a_kind_that_cannot_be_had_is_refused_with_what_it_needs():
    table = adverts().assign(employer=pd.Series([None] * 60, dtype="str"))
    with pytest.raises(
        ValueError, match=r"pairs.shares.same_employer, which is 0.2; it"
    ):
        make_pairs(table, settings_of())
    paired = make_pairs(table, settings_of(another_advert=0.5, same_advert=0.5))
    assert set(paired.pairs["kind"]) == {"another_advert", "same_advert"}


def test_a_negative_whose_kind_is_not_to_be_had_becomes_another_and_is_counted():
    table = adverts()
    alone = table["employer"] == "E0"
    table.loc[alone, "employer"] = [f"alone {n}" for n in range(alone.sum())]
    report = make_pairs(table, settings_of()).report["pairs"]
    assert report["train"]["moved"] > 0
    assert report["train"]["without_negative"] == 0
    assert (
        sum(report["train"][kind] for kind in KINDS)
        == (report["train"]["first_sentences"])
    )


def test_at_most_so_many_first_sentences_of_an_advert():
    pairs = make_pairs(adverts(), settings_of(max_per_advert=3)).pairs
    positive = pairs[pairs["label"] == 0]
    assert set(positive["advert"].value_counts()) == {3}
    assert positive["first"].is_unique


def test_short_sentences_are_in_no_pair_and_are_not_skipped():
    table = adverts(lines=3)
    table["text"] = table["text"].str.replace("\nLine 1", "\nBenefits:\nLine 1")
    pairs = told(make_pairs(table, settings_of()))
    assert not pairs["one"].str.startswith("Benefits").any()
    assert not pairs["other"].str.startswith("Benefits").any()
    positive = pairs[pairs["label"] == 0]
    assert not positive["one"].str.startswith("Line 0").any()


def test_what_follows_a_short_line_is_no_second_sentence_of_a_negative_either():
    # A heading in each advert, some said twice; one has but a line behind its heading.
    table = adverts(lines=6)
    table["text"] = table["text"].str.replace("\nLine 3", "\nBenefits:\nLine 3")
    table.loc[::2, "text"] += "\n" + COMMON + "\nApply now\nSend us your letter"
    table.loc[0, "text"] = "Line 0 of advert 0 here\nBenefits:\nLine 1 of advert 0"
    paired = make_pairs(table, settings_of())
    pairs = told(paired)
    positive, negative = (pairs[pairs["label"] == label] for label in (0, 1))
    behind = "Line 3|Send us your letter"
    assert not positive["other"].str.contains(behind).any()
    assert not negative["other"].str.contains(behind).any()
    assert set(negative["second"]) <= set(positive["second"])
    assert list(paired.report["too_few_sentences"].values()) == [1, 0, 0]
    assert not (pairs["of"] == 0).any()


def test_where_an_advert_has_no_other_successor_its_negatives_are_from_elsewhere():
    table = adverts(lines=2)
    table["text"] = table["text"].str.replace(COMMON, "Benefits:\n" + COMMON)
    with pytest.raises(ValueError, match=r"adverts of three sentences in a row"):
        make_pairs(table, settings_of())
    table.loc[table.index[-1], "text"] += "\nApply now by letter"
    table.loc[table.index[-1], "part"] = "train"
    report = make_pairs(table, settings_of(same_advert=0.9, another_advert=0.1)).report
    assert report["pairs"]["train"]["moved"] > 20
    assert report["pairs"]["train"]["without_negative"] == 0


def test_another_seed_draws_other_sentences():
    one, other = (
        make_pairs(adverts(), settings_of(max_per_advert=3, seed=seed)).pairs
        for seed in (0, 1)
    )
    for end in ("first", "second"):
        assert one[end].tolist() != other[end].tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(9, 40), st.integers(3, 6))
def test_the_same_seed_gives_the_same_pairs(seed, count, lines):
    table = adverts(count, lines, employers=8)
    one, other = (
        make_pairs(table, settings_of(seed=seed, another_advert=0.5, same_advert=0.5))
        for _ in range(2)
    )
    assert one.pairs.equals(other.pairs)
