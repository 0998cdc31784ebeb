"""Annotated texts are accounted for: every text, and every span."""

import pandas as pd
import pytest

from ojd_daps_language_models.configs import NERConfig
from ojd_daps_language_models.preprocessing.entities import (
    adverts_of,
    join_texts,
    prepare_texts,
    resampled_of,
    spans_of,
    words_of,
)

DUTIES = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")


def text_of(number: int) -> str:
    """Texts without a near-duplicate among them."""
    words = [f"{word}{number * 7 + place}" for place, word in enumerate(DUTIES)]
    return f"We need SQL and {' '.join(words)}."


def chunk(rows: list[dict]):
    texts = pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=dtype)
            for name, dtype in (
                *((name, "str") for name in ("id", "text", "employer", "advert")),
                ("words", object),
                ("spans", object),
            )
        }
    ).assign(source="a.jsonl", row=range(1, len(rows) + 1))
    return texts, pd.DataFrame(columns=["source", "row", "id", "reason"], dtype="str")


def span(text: str, stretch: str, label="SKILL", layer="entities", **more) -> dict:
    start = text.index(stretch)
    return {
        "start": start,
        "end": start + len(stretch),
        "label": label,
        "layer": layer,
        "problem": None,
        "repaired": False,
    } | more


def rows_of(count: int = 40, **more) -> list[dict]:
    rows = []
    for number in range(count):
        text = text_of(number)
        rows.append(
            {
                "id": f"t{number}",
                "text": text,
                "employer": f"E{number % 20}",
                "advert": f"a{number % 20}-{number // 20}",
                "words": None,
                "spans": [span(text, "SQL"), span(text, f"echo{number * 7 + 4}")],
            }
            | more
        )
    return rows


CONFIG = NERConfig(personal_data={"names": None})


def test_every_span_is_learnt_or_kept_aside_with_its_reason():
    rows = rows_of()
    text = rows[0]["text"]
    bad = [
        span(text, "need", "SKIL"),
        span(text, "SQL and", start=8, end=12),
        span(text, "need", end=2),
        span(text, "need", problem="no end is given"),
        span(text, "eed SQ"),
        span(text, "bravo1", end=9999),
    ]
    rows[0]["spans"] = [*rows[0]["spans"], *bad]
    found = prepare_texts({"train": [chunk(rows)]}, CONFIG)
    counts = {"read": 86, "kept": 80, "merged": 0, "repaired": 0}
    assert found.report["spans"] == counts
    assert sum(row["spans"] for row in found.report["spans_kept_aside"]) == 6
    assert set(found.spans_aside["reason"]) == {
        "its label is unknown: 'SKIL'",
        "it overlaps another",
        "it ends before it begins",
        "no end is given",
        "it begins or ends inside a word",
        "it ends past the end of the text",
    }
    assert (found.spans_aside["id"] == "t0").all()
    first = found.texts[found.texts["id"] == "t0"]
    assert first["unaligned"].item() == [(4, 10, "SKILL", "entities")]
    (said,), (words,) = spans_of(first, "entities"), words_of(first)
    assert [words[a:b] for a, b, _ in said] == [["SQL"], ["echo4"]]
    assert found.report["labels"] == {"entities": ["SKILL"]}


def test_no_employer_is_on_two_sides_and_adverts_are_known():
    texts = prepare_texts({"train": [chunk(rows_of())]}, CONFIG).texts
    assert (texts.groupby("employer")["part"].nunique() == 1).all()
    assert set(texts["part"]) == {"train", "validation", "test"}
    assert adverts_of(texts).nunique() == 40
    by_advert = NERConfig(personal_data={"names": None}, split={"by": "advert"})
    rows = rows_of(employer=None)
    for row in rows[:10]:
        row["advert"] = None
    texts = prepare_texts({"train": [chunk(rows)]}, by_advert).texts
    assert adverts_of(texts).notna().all()
    assert (
        texts.dropna(subset="advert").groupby("advert")["part"].nunique() == 1
    ).all()


@pytest.mark.parametrize("by", ["employer", "advert"])
def test_adverts_may_be_numbered_anew_for_each_employer(by):
    """Neither the split nor windows nor intervals take those of one number for one."""
    rows = rows_of(80)
    for number, row in enumerate(rows):
        row["advert"] = str(number // 20 % 2)  # of two sentences each
    config = NERConfig(personal_data={"names": None}, split={"by": by})
    found = prepare_texts({"train": [chunk(rows)]}, config)
    texts = found.texts
    own = texts["employer"] + " " + texts["advert"]
    parts = texts.groupby(texts["employer"] if by == "employer" else own)["part"]
    assert (parts.nunique() == 1).all()
    assert set(texts["advert"]) == {"0", "1"}
    assert sum(part["adverts"] for part in found.report["parts"].values()) == 40
    assert len(join_texts(texts)[0]) == 40
    resampled, groups = resampled_of(texts)
    assert resampled == "adverts"
    assert (pd.factorize(groups)[0] == pd.factorize(own)[0]).all()


def test_texts_of_an_employer_are_no_advert():
    """Whole adverts without an id of their own are not read together."""
    rows = rows_of(advert=None)
    texts = prepare_texts({"train": [chunk(rows)]}, CONFIG).texts
    assert adverts_of(texts).nunique() == len(rows) == len(join_texts(texts)[0])
    assert (texts.groupby("employer")["part"].nunique() == 1).all()


def test_where_nothing_says_whose_texts_are_a_run_says_so(capsys):
    warning = "adverts: neither they nor employers are known of any text, so sentences"
    found = prepare_texts({"train": [chunk(rows_of())]}, CONFIG)
    assert warning not in capsys.readouterr().out
    assert sum(part["adverts"] for part in found.report["parts"].values()) == 40
    rows = rows_of(advert=None, employer=None)
    found = prepare_texts({"train": [chunk(rows)]}, CONFIG)
    assert warning in capsys.readouterr().out
    assert {part["adverts"] for part in found.report["parts"].values()} == {0}


def test_spans_follow_where_personal_data_is_replaced():
    rows = rows_of()
    text = f"Ask jo.public@firm.example for the {rows[3]['text']}"
    rows[3] |= {
        "text": text,
        "spans": [span(text, "SQL"), span(text, "jo.public@firm.example")],
        "words": [(0, 3)],
    }
    found = prepare_texts({"train": [chunk(rows)]}, CONFIG)
    row = found.texts[found.texts["id"] == "t3"]
    assert row["text"].item().startswith("Ask [EMAIL] for")
    (said,), (words,) = spans_of(row, "entities"), words_of(row)
    assert [words[a:b] for a, b, _ in said] == [["SQL"]]
    assert found.spans_aside["reason"].tolist() == ["personal data is in it"]
    assert found.report["personal_data"]["email"] == 1


def test_personal_data_is_known_whatever_blanks_are_in_it():
    rows = rows_of()
    text = f"Call\u2009020\xa07946\u202f0958 in SW1A\xa01AA. {rows[3]['text']}"
    rows[3] |= {"text": text, "spans": [span(text, "SQL")], "words": None}
    found = prepare_texts({"train": [chunk(rows)]}, CONFIG)
    row = found.texts[found.texts["id"] == "t3"]
    assert row["text"].item().startswith("Call [PHONE] in [POSTCODE]. ")
    (said,), (words,) = spans_of(row, "entities"), words_of(row)
    assert [words[a:b] for a, b, _ in said] == [["SQL"]]


def test_official_parts_keep_their_texts_and_duplicates_leave_training():
    rows = rows_of()
    test = rows[:6]
    found = prepare_texts({"train": [chunk(rows)], "test": [chunk(test)]}, CONFIG)
    assert (found.texts["part"] == "test").sum() == 6
    assert found.report["overlap"]["test"]["near"] == 0
    assert (found.kept_aside["reason"] == "duplicate of a held-out text").sum() == 6


def test_a_text_annotated_once_for_each_label_has_the_spans_of_all():
    rows, again = rows_of(), rows_of()
    for number, row in enumerate(again):
        text = row["text"]
        row |= {"id": f"again {number}", "spans": [span(text, "need", "BENEFIT")]}
    again[0]["spans"].append(span(again[0]["text"], "SQL"))
    again[1]["spans"] = [span(again[1]["text"], "need SQL", "BENEFIT")]
    found = prepare_texts({"train": [chunk(rows + again)]}, CONFIG)
    (said,) = spans_of(found.texts[found.texts["id"] == "again 2"], "entities")
    (words,) = words_of(found.texts[found.texts["id"] == "again 2"])
    marked = [(" ".join(words[a:b]), label) for a, b, label in said]
    assert marked == [("need", "BENEFIT"), ("SQL", "SKILL"), ("echo18", "SKILL")]
    assert (found.kept_aside["reason"] == "exact duplicate").sum() == 40
    counts = found.report["spans"]
    assert counts["read"] == 80 + 41 == counts["kept"] + len(found.spans_aside)
    aside = found.spans_aside.groupby("id")["reason"].apply(list).to_dict()
    disputed = "a copy of its text says otherwise"
    assert aside == {"t0": ["its text is a duplicate"], "t1": [disputed]}


def test_parts_that_share_sentences_are_refused():
    rows, said = rows_of(), "It is in the yard of 12 Oak Lane."
    rows[0]["text"] += f" {said}"
    test = [
        {"id": f"test {n}", "text": text, "employer": "T", "advert": f"T{n}"}
        | {"spans": [span(text, "SQL")], "words": None}
        for n in range(6)
        for text in [f"SQL of {n * 7} kinds is asked of {n * 11 + 3} who come."]
    ]
    config = NERConfig(personal_data={"names": None}, split={"max_verbatim_overlap": 0})
    prepare_texts({"train": [chunk(rows)], "test": [chunk(test)]}, config)
    for row in test:
        row["text"] += f" {said}"
    with pytest.raises(ValueError, match=r"test: 50\.0% of the held-out sentences"):
        prepare_texts({"train": [chunk(rows)], "test": [chunk(test)]}, config)


@pytest.mark.parametrize(
    ("whose", "kind"),
    [
        ({"advert": "A1", "employer": "Acme"}, "adverts"),
        ({"advert": None, "employer": "Acme"}, "employers"),
    ],
)
def test_a_test_part_of_one_group_has_no_intervals(whose, kind):
    rows = rows_of()
    given = {"train": [chunk(rows[6:])], "test": [chunk(rows[:6])]}
    prepare_texts(given, CONFIG)
    given = {"train": [chunk(rows[6:])], "test": [chunk([r | whose for r in rows[:6]])]}
    message = rf"test: intervals are over {kind}, and its 6 texts are of one;"
    with pytest.raises(ValueError, match=message):
        prepare_texts(given, CONFIG)


def test_the_test_part_cannot_choose_the_epoch():
    official = [chunk(rows_of()[:6])]
    given = {"train": [chunk(rows_of())], "validation": official, "test": official}
    with pytest.raises(ValueError, match=r"100\.0% .* near-duplicate in test"):
        prepare_texts(given, CONFIG)


def test_two_layers_may_overlap_and_are_learnt_apart():
    rows = rows_of()
    for row in rows:
        row["spans"].append(span(row["text"], "need SQL", "BENEFIT", "others"))
    found = prepare_texts({"train": [chunk(rows)]}, CONFIG)
    assert found.report["spans"]["kept"] == 120
    assert found.report["labels"] == {"entities": ["SKILL"], "others": ["BENEFIT"]}
    assert all(len(spans) == 1 for spans in spans_of(found.texts, "others"))


def test_layers_are_in_the_order_of_the_configuration():
    """The model of the first is the one that is published."""
    rows = rows_of()
    for row in rows:
        row["spans"].append(span(row["text"], "need SQL", "BENEFIT", "others"))
    data = {"layers": {"others": "b", "entities": "a"}}
    config = NERConfig(personal_data={"names": None}, data=data)
    found = prepare_texts({"train": [chunk(rows)]}, config)
    assert list(found.report["labels"]) == ["others", "entities"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spans": []}, "a.jsonl: none of the 40 texts has a span"),
        (
            {"spans": [span(text_of(0), "SQL", "Skill")]},
            r"40 of 40 spans cannot be used: its label is unknown: 'Skill' \(40\); "
            r"the first is in a.jsonl, row 1, id t0",
        ),
        (
            {"spans": [span(text_of(0), "SQL", end=500)]},
            "40 of 40 spans cannot be used: it ends past the end",
        ),
        ({"text": "..."}, r"no text is left; kept aside: no word is in it \(40\)"),
    ],
)
def test_what_cannot_be_learnt_from_says_so(change, message):
    with pytest.raises(ValueError, match=message):
        prepare_texts({"train": [chunk(rows_of(**change))]}, CONFIG)


def test_sentences_of_an_advert_are_read_together_and_stay_apart(tiny_bert):
    """In windows that hold several, each word is still that of its own sentence."""
    from ojd_daps_language_models.preprocessing.windows import Windows, first_tokens
    from ojd_daps_language_models.tasks.ner import tokenize

    rows = rows_of()
    for number, row in enumerate(rows):
        row["advert"] = f"a{number % 8}"
        row["employer"] = row["advert"]
    config = NERConfig(personal_data={"names": None}, split={"test": 0.25})
    texts = prepare_texts({"train": [chunk(rows)]}, config).texts
    apart, together = (
        {
            part: Windows(**fields)
            for part, fields in tokenize(
                texts,
                tiny_bert,
                NERConfig(training={"together": whether}),
            ).items()
        }
        for whether in (False, True)
    )
    for part, rows in texts.groupby("part"):
        assert (rows["advert"] != rows["advert"].shift()).sum() == rows[
            "advert"
        ].nunique()
        one, other = apart[part], together[part]
        assert len(other.lengths) < len(one.lengths)
        assert (one.word_counts == other.word_counts).all()
        for windows in (one, other):
            _, words = first_tokens(windows.words)
            assert sorted(words) == list(range(windows.word_counts.sum()))
        # The first piece of each word is the same, wherever it stands.
        ids = [
            windows.ids[places][words.argsort()]
            for windows in (one, other)
            for places, words in [first_tokens(windows.words)]
        ]
        assert (ids[0] == ids[1]).all()
