"""Sentences of adverts that say whether they describe the company."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ojd_daps_language_models.getters.records import (
    Chunk,
    iter_parts,
    iter_records,
    text_problem,
)

SENTENCE_COLUMNS = ("id", "text", "label", "employer", "advert")


def iter_sentences(
    path: str,
    columns: Mapping[str, str | None],
    labels: Mapping[str, Sequence[str]],
    max_characters: int,
) -> Iterator[Chunk]:
    """Read labelled sentences chunk by chunk; rows that cannot be used are kept aside.

    Args:
        path: see `records.iter_records`.
        columns: those of `SENTENCE_COLUMNS`.
        labels: what a file may say for each of our labels, whatever its case.
        max_characters: a longer sentence is kept aside.

    Yields, Raises:
        As `records.iter_records`: records with one of our labels, and those kept aside
        with theirs, missing where it is none of ours. A row with neither employer nor
        advert is kept aside: nothing would tell to which part it belongs.
    """
    ours = {said.casefold(): label for label in labels for said in labels[label]}

    def judge(sentence: dict[str, Any]) -> str | None:
        said = sentence["label"]
        sentence["label"] = ours.get((said or "").casefold())
        if said is None:
            return "the label is missing"
        if sentence["label"] is None:
            return f"the label is neither of the two: {said[:40]!r}"
        if sentence["employer"] is None and sentence["advert"] is None:
            return "neither an employer nor an advert is given"
        return text_problem(sentence["text"], max_characters)

    return iter_records(
        path,
        {name: columns.get(name) for name in SENTENCE_COLUMNS},
        judge,
        "company_descriptions",
        aside=["label"],
    )


def iter_sentence_parts(
    data: str,
    validation_data: str | None,
    test_data: str | None,
    settings,
) -> dict[str, Iterator[Chunk]]:
    """The chunks of each part that was given: train, validation, test.

    Args:
        data: path of the sentences to train on.
        validation_data: path of an official validation part, if there is one.
        test_data: the same for the test part.
        settings: with `columns`, `labels` and `max_characters`.
    """

    def read(path: str) -> Iterator[Chunk]:
        return iter_sentences(
            path,
            dict(settings.columns),
            dict(settings.labels),
            settings.max_characters,
        )

    return iter_parts(read, data, validation_data, test_data)
