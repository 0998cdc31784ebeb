"""Job adverts, from wherever the user has them, as pandas tables chunk by chunk."""

import math
from collections.abc import Iterator, Mapping, Sequence

from ojd_daps_language_models.getters.records import (
    Chunk,
    iter_parts,
    iter_records,
    text_problem,
)
from ojd_daps_language_models.getters.storage import (
    File,
    file_suffix,
    list_files,
    sample_path,
    text_sizes,
)
from ojd_daps_language_models.getters.tables import parquet_groups

ADVERT_COLUMNS = ("id", "text", "employer", "title", "date")
MOST_SHARDS = 95  # Metaflow makes 100 tasks of a step; each part begins a shard


def iter_adverts(
    path: str | Sequence[File],
    columns: Mapping[str, str | None],
    max_characters: int,
    chunk_rows: int = 10_000,
    task: str = "mlm",
) -> Iterator[Chunk]:
    """Read adverts chunk by chunk, and keep aside the rows that cannot be used.

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


def iter_shard(shard: Mapping, settings) -> Iterator[Chunk]:
    """The chunks of a shard of `list_shards`.

    Args:
        settings: with `columns` and `max_characters`.
    """
    files = [File(*file) for file in shard["files"]]
    return iter_adverts(files, dict(settings.columns), settings.max_characters)


def list_shards(paths: Mapping[str, str], megabytes: float) -> list[dict]:
    """Divide files, and Parquet files by their row groups, into shards of like size.

    Args:
        paths: of the adverts of each part that was given.
        megabytes: of text in a shard, about; a file that is not Parquet is not divided.

    Returns:
        For each shard, in the order of rows, its `part` and its `files`, each as the
        fields of a `File`.

    Raises:
        ValueError, OSError: as `records.check_records`.
    """
    pieces = []
    for part, path in paths.items():
        path = str(sample_path("mlm")) if path == "sample" else path
        files = list_files(path)
        for file, size in zip(files, text_sizes(path, files), strict=True):
            cut = file_suffix(file.name) == ".parquet" and size > megabytes * 1e6
            groups = parquet_groups(file) if cut else [(None, size)]
            pieces += [(part, file, group, size) for group, size in groups]
    total = sum(size for *_, size in pieces)
    count = min(math.ceil(total / (megabytes * 1e6)), MOST_SHARDS)
    most = total / max(count, 1) or 1
    shards, before = {}, 0
    for part, file, group, size in pieces:
        files = shards.setdefault((part, before // most), {})
        files.setdefault(file, []).append(group)
        before += size
    return [
        {
            "part": part,
            "files": [
                tuple(file._replace(row_groups=None if None in groups else groups))
                for file, groups in files.items()
            ],
        }
        for (part, _), files in shards.items()
    ]
