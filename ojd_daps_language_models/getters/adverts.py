"""Job adverts, from wherever the user has them, as pandas tables chunk by chunk."""

from collections.abc import Iterator, Mapping, Sequence

from ojd_daps_language_models.getters.records import (
    Chunk,
    iter_parts,
    iter_records,
    text_problem,
)
from ojd_daps_language_models.getters.storage import File

ADVERT_COLUMNS = ("id", "text", "employer", "title", "date")


def iter_adverts(
    path: str | Sequence[File],
    columns: Mapping[str, str | None],
    max_characters: int,
    chunk_rows: int = 10_000,
    task: str = "mlm",
) -> Iterator[Chunk]:
    """Read adverts chunk by chunk, and set aside the rows that cannot be used.

    Args:
        path: see `records.iter_records`.
        columns: those of `ADVERT_COLUMNS`, of which only `text` has to be there.
        max_characters: a longer text is kept aside.
        chunk_rows: rows read for each chunk.
        task: whose sample `sample` is.

    Yields, Raises:
        As `records.iter_records`.
    """
    ours = {name: columns.get(name) for name in ADVERT_COLUMNS}
    return iter_records(
        path,
        ours,
        lambda advert: text_problem(advert["text"], max_characters),
        task,
        chunk_rows,
    )


def iter_advert_parts(
    data: str,
    validation_data: str | None,
    test_data: str | None,
    settings,
    task: str = "mlm",
) -> dict[str, Iterator[Chunk]]:
    """The chunks of each part that was given: train, validation, test.

    Args:
        data: path of the adverts to train on.
        validation_data: path of an official validation part, if there is one.
        test_data: the same for the test part.
        settings: with `columns` and `max_characters`.
        task: whose sample `sample` is.
    """

    def read(path: str) -> Iterator[Chunk]:
        return iter_adverts(
            path, dict(settings.columns), settings.max_characters, task=task
        )

    return iter_parts(read, data, validation_data, test_data)
