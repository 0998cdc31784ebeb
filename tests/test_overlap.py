"""Overlap of held-out adverts with training is counted, and refused above a limit."""

import pytest

from ojd_daps_language_models.preprocessing.overlap import (
    check_overlap,
    measure_overlap,
)


def overlap(train, held_out, **settings):
    return measure_overlap(train, {"test": held_out}, **settings)["test"]


TRAIN = [
    ["We are an equal opportunities employer.", "You will care for our residents."],
    ["Our bakery opens at five every morning.", "Apply now!"],
]


def test_what_is_planted_is_counted():
    held_out = [
        ["WE ARE an equal-opportunities employer", "Nobody else wrote this very line."],
        ["Apply now!", "Drivers deliver parcels all over the county."],
        ["Our bakery opens at five every morning", "Apply now"],
    ]
    assert overlap(TRAIN, held_out) == {
        "verbatim": 2 / 4,
        "near": 1 / 3,
        "sentences": 4,  # "Apply now" is too short to be looked for
        "verbatim_sentences": 2,
        "adverts": 3,
        "adverts_with_verbatim": 2,
        "adverts_with_near": 1,
    }


def test_training_adverts_may_come_in_pieces(monkeypatch):
    train = [[f"The {word} is ours to look after."] for word in "abcdefg"]
    held_out = [train[0], ["Nobody else wrote this very line."], train[6], train[3]]
    whole = overlap(train, held_out)
    monkeypatch.setattr("ojd_daps_language_models.preprocessing.overlap._AT_ONCE", 2)
    assert overlap(iter(train), held_out) == whole
    assert (whole["verbatim"], whole["near"]) == (3 / 4, 3 / 4)


def test_shorter_sentences_count_if_asked_for():
    report = overlap(TRAIN, [["Apply now!"], ["- - - -"]], min_words=2)
    assert (report["sentences"], report["verbatim_sentences"]) == (1, 1)


def test_parts_may_be_generators_and_empty():
    once = overlap(iter(TRAIN), iter(TRAIN))
    assert (once["verbatim"], once["near"]) == (1, 1)
    for train, held_out in (([], TRAIN), (TRAIN, []), ([], [])):
        nothing = overlap(train, held_out)
        assert (nothing["verbatim"], nothing["near"]) == (0, 0)


def test_an_advert_may_have_no_sentence():
    report = overlap([*TRAIN, []], [[], TRAIN[0]])
    assert (report["near"], report["verbatim"]) == (0.5, 1)
    assert report["adverts_with_verbatim"] == 1


def test_a_share_above_its_limit_is_refused_with_the_numbers_and_a_way_out():
    report = {"verbatim": 0.44, "near": 0.25}
    check_overlap(report, {"verbatim": 0.44, "near": 0.25})
    with pytest.raises(ValueError) as error:
        check_overlap(report, {"verbatim": 0.25, "near": 0.01}, part="validation")
    for words in (
        "validation: 44.0%",
        "25.0%;",
        "25.0% of",
        "1.0%",
        "split by employer",
    ):
        assert words in str(error.value)
    with pytest.raises(ValueError, match="near duplicate") as error:
        check_overlap(report, {"verbatim": 0.5, "near": 0.01})
    assert "word for word" not in str(error.value)
