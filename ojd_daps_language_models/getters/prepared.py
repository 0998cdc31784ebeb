"""Adverts that `flows/prepare_adverts_flow.py` has prepared."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ojd_daps_language_models.getters.runs import (
    get_run_artifact,
    latest_successful_run,
    split_run,
)
from ojd_daps_language_models.getters.storage import (
    FORMATS,
    File,
    explained_faults,
    file_sizes,
    file_suffix,
    open_file,
)

FLOW = "PrepareAdvertsFlow"
SCHEMA = 1  # of manifests that can be read
_AT_ONCE = 1000  # adverts


def find_prepared(path: str) -> dict[str, Any] | None:
    """The manifest of prepared adverts, None where a path leads to other data.

    Args:
        path: `run:PrepareAdvertsFlow/ID`, `run:PrepareAdvertsFlow/latest`, or the
            folder or S3 prefix that such a run has made.

    Returns:
        What the run wrote, and `data`, which names it for good: the run by its id, the
        folder in full; `place`, where its files are.

    Raises:
        ValueError: it is the run of another flow, of a newer version, or a file is cut
            short.
        FileNotFoundError: there is no such run, it has not come to its end, or a file
            is missing.
    """
    is_file = path.startswith("s3://") and file_suffix(path) in FORMATS
    if path == "sample" or path.startswith("hf://") or is_file:
        return None
    if path.startswith("run:"):
        data, place = _find_run(path)
    elif path.startswith("s3://"):
        data = place = path.rstrip("/")
    else:
        data = place = str(Path(path).expanduser().resolve())
    manifest = _read_manifest(place)
    if manifest is None and data != place:
        raise FileNotFoundError(
            f"{data}: no prepared adverts in {place}; the run has not come to its end, "
            "or they were deleted"
        )
    if manifest is None:
        return None
    if manifest["schema"] > SCHEMA:
        raise ValueError(
            f"{path}: prepared by a newer version of this package (schema "
            f"{manifest['schema']}, and {SCHEMA} can be read); install that"
        )
    prepared = manifest | {"data": data, "place": place}
    check_files(prepared)
    return prepared


class PreparedTexts(Collection[str]):
    """The texts of a part, or of all, which are read anew each time that somebody goes
    through them, and never are in memory all at once.

    Args:
        prepared: from `find_prepared`.
        part: of `preprocessing.splits.PARTS`; None: all.
    """

    def __init__(self, prepared: dict[str, Any], part: str | None = None):
        self._prepared, self._part = prepared, part

    def __len__(self) -> int:
        parts = self._prepared["report"]["parts"]
        chosen = [self._part] if self._part else parts
        return sum(parts[part]["adverts"] for part in chosen)

    def __iter__(self) -> Iterator[str]:
        from pyarrow import compute

        for rows in _iter_rows(self._prepared, ["text", "part"]):
            texts = rows["text"]
            if self._part:
                texts = texts.filter(compute.equal(rows["part"], self._part))
            yield from texts.to_pylist()

    def __contains__(self, text: object) -> bool:
        return any(text == own for own in self)


class PreparedSentences(Collection[list[str]]):
    """The sentences of each advert in order, read anew in the same way.

    Args:
        prepared: from `find_prepared`.
    """

    def __init__(self, prepared: dict[str, Any]):
        self._prepared = prepared

    def __len__(self) -> int:
        parts = self._prepared["report"]["parts"].values()
        return sum(part["adverts"] for part in parts)

    def __iter__(self) -> Iterator[list[str]]:
        for rows in _iter_rows(self._prepared, ["sentences"]):
            yield from rows["sentences"].to_pylist()

    def __contains__(self, sentences: object) -> bool:
        return any(sentences == own for own in self)


def read_adverts(prepared: dict[str, Any], columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of all adverts: id, text, employer, title, date, source, row, part.

    Args:
        prepared: from `find_prepared`.
    """
    return _read_files(prepared, "adverts", columns).to_pandas()


def read_kept_aside(prepared: dict[str, Any]) -> pd.DataFrame:
    """The rows that were kept aside: source, row, id, reason.

    Args:
        prepared: from `find_prepared`.
    """
    return _read_files(prepared, "kept_aside").to_pandas()


def _find_run(run: str) -> tuple[str, str]:
    flow, run_id = split_run(run)
    if flow != FLOW:
        raise ValueError(
            f"{run}: no run that prepares adverts; expected run:{FLOW}/ID or "
            f"run:{FLOW}/latest"
        )
    if run_id == "latest":
        run_id = latest_successful_run(flow)
    return f"run:{flow}/{run_id}", get_run_artifact(flow, run_id, "place")


def _read_manifest(place: str) -> dict[str, Any] | None:
    file = File(f"{place}/manifest.json", "manifest.json")
    if file_sizes(f"{place}/", [file]) == [None]:
        return None
    with explained_faults(file.location), open_file(file) as stream:
        try:
            manifest = json.load(stream)
        except ValueError:
            return None
    is_ours = isinstance(manifest, dict) and {"schema", "files"} <= set(manifest)
    return manifest if is_ours else None


def check_files(prepared: dict[str, Any]) -> None:
    """Raise FileNotFoundError where a file of prepared adverts is missing, ValueError
    where one is cut short."""
    place = prepared["place"]
    for kind in ("adverts", "kept_aside"):
        own = [f for f in prepared["files"] if f["name"].startswith(f"{kind}/")]
        found = file_sizes(
            f"{place}/{kind}/",
            [File(f"{place}/{file['name']}", file["name"]) for file in own],
        )
        for file, size in zip(own, found, strict=True):
            name = f"{place}/{file['name']}"
            if size is None:
                raise FileNotFoundError(f"{name}: missing; copy the whole folder again")
            if size != file["bytes"]:
                raise ValueError(
                    f"{name}: {size:,} bytes, and {file['bytes']:,} were written; copy "
                    "it again"
                )


def _read_files(
    prepared: dict[str, Any], kind: str, columns: Sequence[str] | None = None
):
    import pyarrow
    from pyarrow import parquet

    tables = []
    for file in _files(prepared, kind):
        with explained_faults(file.location), open_file(file) as stream:
            tables.append(parquet.read_table(stream, columns=columns))
    return pyarrow.concat_tables(tables)


def _iter_rows(prepared: dict[str, Any], columns: Sequence[str]) -> Iterator:
    """Some columns of all adverts, some adverts at a time."""
    from pyarrow import parquet

    for file in _files(prepared, "adverts"):
        with explained_faults(file.location), open_file(file) as stream:
            yield from parquet.ParquetFile(stream).iter_batches(
                _AT_ONCE, columns=columns
            )


def _files(prepared: dict[str, Any], kind: str) -> list[File]:
    names = [file["name"] for file in prepared["files"]]
    return [
        File(f"{prepared['place']}/{name}", name)
        for name in names
        if name.startswith(f"{kind}/")
    ]
