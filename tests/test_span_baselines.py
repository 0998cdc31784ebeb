"""Floors of named entities find what they were shown, and leave nothing behind."""

import tempfile

import numpy as np
import pytest

from ojd_daps_language_models.training.span_baselines import fit_crf, fit_gazetteer
from ojd_daps_language_models.training.span_metrics import micro_f1

both = pytest.mark.parametrize("fit", [fit_gazetteer, fit_crf])


def adverts(seed: int, count: int) -> tuple[list, list]:
    """Texts with skills, known from the word before, and benefits."""
    rng = np.random.default_rng(seed)
    words, spans = [], []
    for _ in range(count):
        skill = (
            f"{rng.choice(['web', 'oven', 'loom'])} {rng.choice(['repair', 'care'])}"
        )
        pay = rng.choice(["paid holidays", "pension"])
        texts = (f"You know {skill} .", f"We offer {pay} , daily .")
        text = texts[rng.integers(2)].split()
        last = text.index("." if text[0] == "You" else ",")
        words.append(text)
        spans.append([(2, last, "SKILL" if text[0] == "You" else "BENEFIT")])
    return words, spans


TRAIN, VALIDATION = adverts(0, 80), adverts(1, 40)


@both
def test_it_finds_in_other_texts_what_it_was_shown(fit):
    words, spans = adverts(2, 40)
    find = fit(*TRAIN, *VALIDATION)
    assert find(words) == spans
    assert find([]) == [] and find([[]]) == [[]]


@both
def test_without_spans_it_finds_none(fit):
    words, _ = TRAIN
    nothing = [[] for _ in words]
    assert fit(words, nothing, words, nothing)(words) == nothing


def test_the_gazetteer_knows_no_case_and_takes_the_longest():
    words = [["Welding"], ["arc", "welding", "welding"], ["Arc"]]
    spans = [[(0, 1, "A")], [(0, 2, "B"), (2, 3, "A")], []]
    find = fit_gazetteer(words, spans, words, spans)
    assert find([["ARC", "WELDING", "arc", "Welding", "welding", "arc"]]) == [
        [(0, 2, "B"), (2, 4, "B"), (4, 5, "A")]
    ]


def test_an_entry_has_its_most_frequent_label():
    words = [["python"]] * 3
    spans = [[(0, 1, "ANIMAL")], [(0, 1, "SKILL")], [(0, 1, "SKILL")]]
    assert fit_gazetteer(words, spans, words, spans)(words[:1]) == [[(0, 1, "SKILL")]]


def test_validation_chooses_how_often_an_entry_has_to_be_right():
    words = [["lead", "the", "team"]] * 4 + [["use", "sql"]]
    spans = [[(0, 1, "SKILL")], [], [], [], [(1, 2, "SKILL")]]  # lead: one in four
    text = [["lead", "with", "sql"]]
    rare = fit_gazetteer(words, spans, text, [[(2, 3, "SKILL")]])
    assert rare(text) == [[(2, 3, "SKILL")]]
    often = fit_gazetteer(words, spans, text, [[(0, 1, "SKILL"), (2, 3, "SKILL")]])
    assert often(text) == [[(0, 1, "SKILL"), (2, 3, "SKILL")]]


def test_the_crf_finds_what_no_dictionary_has():
    words = [f"You know {new} .".split() for new in ("sheep herding", "piano tuning")]
    find_known = fit_gazetteer(*TRAIN, *VALIDATION)
    find = fit_crf(*TRAIN, *VALIDATION)
    spans = [[(2, 4, "SKILL")]] * 2
    assert micro_f1(spans, find_known(words)) == 0
    assert find(words) == spans


def test_the_crf_is_the_same_each_time_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words, spans = adverts(3, 60)
    rng = np.random.default_rng(4)  # noise, so that there is something to decide
    noisy = [row if rng.random() < 0.7 else [] for row in spans]
    found = [fit_crf(words, noisy, words, noisy)(words) for _ in range(2)]
    assert found[0] == found[1] != noisy
    assert list(tmp_path.iterdir()) == []
