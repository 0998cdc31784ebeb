"""Adverts prepared shard by shard: what `adverts.prepare_adverts` does to all at once.

Texts and signatures are written to a store and read a piece at a time. Whoever decides
on duplicates and parts holds numbers, ids and employers of the adverts, never a text.

    staged/adverts/0000.parquet   rows of a shard as they were read, cleaned, in order
    staged/rows/0000.parquet      what decides on them: id, employer, hashes, counts
    staged/signatures/0000.bin    MinHash signatures, uint16, a row after the other
    staged/links/0000.npy         near duplicates that some bands show
    staged/outcome/0000.parquet   part and cluster of each row, or why it is left out
    staged/digests/0000.bin       16 bytes of each advert that is kept
    adverts/0000.parquet          the adverts
    kept_aside/0000.parquet       the others
    manifest.json                 what the files are, written last
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.adverts import (
    count_words,
    describe_name_pipeline,
    describe_rows,
    divide_adverts,
    why_unfit,
)
from ojd_daps_language_models.preprocessing.duplicates import (
    SLOTS,
    band_keys,
    count_bands,
    distinct_texts,
    exact_fingerprints,
    fingerprint,
    link_texts,
    number_linked,
)
from ojd_daps_language_models.preprocessing.overlap import MIN_WORDS, describe_overlap
from ojd_daps_language_models.preprocessing.personal_data import (
    KINDS,
    load_name_pipeline,
)
from ojd_daps_language_models.preprocessing.preparation import (
    REPEATED,
    Chunk,
    clean_rows,
    count_shared_employers,
    hash_digests,
    hash_rows,
    judge_duplicates,
    nothing_left,
    print_kept,
    refuse_overlap,
    refuse_repeated_ids,
)
from ojd_daps_language_models.preprocessing.sentences import (
    describe_sentence_pipeline,
    load_sentence_pipeline,
    split_sentences,
)
from ojd_daps_language_models.preprocessing.splits import TEST, TRAIN, VALIDATION
from ojd_daps_language_models.stores import Store, open_store

SCHEMA = 1  # of the manifest and its files
MANIFEST = "manifest.json"
MOST_TASKS = 100  # that Metaflow makes of a step
DIGEST = 16  # bytes
BATCH = 10_000  # rows in memory with their texts
GIVEN = dict.fromkeys(["id", "text", "employer", "title", "date", "source"], "string")
STAGED = GIVEN | {"row": "int64", "sentences": "list<string>"}
ADVERTS = GIVEN | {
    **{"row": "int64", "part": "string", "cluster": "int64"},
    "sentences": "list<string>",
}
ASIDE = {"source": "string", "row": "int64", "id": "string", "reason": "string"}
ROWS = {
    **dict.fromkeys(["id", "employer", "source", "reason", "stage"], "string"),
    **dict.fromkeys(["row", "exact", "characters", "words", *KINDS], "int64"),
    "hashes": "list<int64>",
}
OUTCOME = {"part": "string", "cluster": "int64", "reason": "string"}
DECIDING = [name for name in ROWS if name != "hashes"]


def stage_shard(
    store: Store, number: int, chunks: Iterable[Chunk], config
) -> dict[str, str]:
    """Clean the adverts of a shard, and write what all later steps read.

    Args:
        number: of the shard.
        chunks: of (adverts, kept aside) from the getter.
        config: with the sections `data` and `personal_data`.

    Returns:
        `names` and `sentences`: what found them.
    """
    names = config.personal_data.names
    nlp = load_name_pipeline(names)
    sentence_nlp = load_sentence_pipeline()
    with (
        store.writing(_name("adverts", number)) as adverts_path,
        store.writing(_name("rows", number)) as rows_path,
        store.writing(_name("signatures", number, "bin")) as signatures_path,
        _table_writer(adverts_path, STAGED) as write_adverts,
        _table_writer(rows_path, ROWS) as write_rows,
        open(signatures_path, "wb") as signatures_file,
    ):
        for given, unreadable in chunks:
            rows = _clean_chunk(given, unreadable, config, nlp)
            sentences = list(split_sentences(rows["text"], sentence_nlp))
            exact, signatures = fingerprint(rows["text"])
            rows = rows.assign(
                sentences=sentences,
                exact=exact,
                characters=rows["text"].str.len(),
                words=list(map(count_words, rows["text"])),
                hashes=list(map(_hash_sentences, sentences)),
            )
            write_adverts(rows)
            write_rows(rows)
            signatures_file.write(signatures.tobytes())
    return {
        "names": describe_name_pipeline(nlp),
        "sentences": describe_sentence_pipeline(sentence_nlp),
    }


def read_rows(
    store: Store, parts: Sequence[str], columns: Sequence[str] = DECIDING
) -> pd.DataFrame:
    """What decides on the adverts of all shards, in their order.

    Args:
        parts: of each shard, as the user gave them.
        columns: of `ROWS`.

    Returns:
        The columns, shard and part. A row whose id was seen before in another shard of
        the part has that as its reason.

    Raises:
        ValueError: no advert is left, or most ids of a part repeat.
    """
    tables = []
    named = ["id", "source", "row", "reason", "stage"]
    needed = list(dict.fromkeys([*named, *columns]))
    for number, part in enumerate(parts):
        rows = _read_table(store, _name("rows", number), needed).to_pandas()
        tables.append(rows.assign(shard=number, part=part))
    rows = pd.concat(tables, ignore_index=True)
    repeated = rows[_was_read(rows)].duplicated(["part", "id"])
    repeated = repeated.index[repeated]
    rows.loc[repeated, "reason"] = REPEATED
    rows.loc[repeated, "stage"] = None
    for _, own in rows.groupby("part"):
        refuse_repeated_ids(own, len(own))
    if rows["reason"].notna().all():
        raise ValueError(nothing_left(rows, "advert"))
    return rows


def check_alike(found_by: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """What found names and sentences in all shards.

    Raises:
        ValueError: not the same did everywhere.
    """
    for found in found_by[1:]:
        if found != found_by[0]:
            raise ValueError(
                f"shards were prepared with {found} and with {found_by[0]}: the same "
                "pipelines have to be installed on all machines"
            )
    return found_by[0]


def open_staged(place: str) -> Store:
    """The store of adverts that are being prepared.

    Raises:
        ValueError: they are ready, and others may read them.
    """
    store = open_store(place)
    with suppress(FileNotFoundError), store.read(MANIFEST):
        raise ValueError(
            f"{place}: these adverts are prepared, and trainings may read them, so "
            "nothing changes them any more; expected a new run"
        )
    return store


def group_bands(threshold: float, per_task: int) -> list[list[int]]:
    """The numbers of bands that each task looks for near duplicates in.

    Raises:
        ValueError: these would be more tasks than Metaflow makes of a step.
    """
    bands = count_bands(threshold)
    if -(-bands // per_task) > MOST_TASKS:
        raise ValueError(
            f"shards.bands_per_task: {per_task} of {bands} bands make more than "
            f"{MOST_TASKS} tasks; expected {-(-bands // MOST_TASKS)} or more"
        )
    numbers = list(range(bands))
    return [numbers[start : start + per_task] for start in range(0, bands, per_task)]


def link_shards(
    store: Store,
    parts: Sequence[str],
    group: int,
    bands: Sequence[int],
    threshold: float,
) -> None:
    """Write which adverts of all shards are near duplicates, as some bands show.

    Args:
        parts: of each shard.
        group: number of these bands.
        bands: numbers of bands.
        threshold: Jaccard similarity of near-duplicates.
    """
    rows = read_rows(store, parts, ["exact"])
    fit = np.flatnonzero(rows["reason"].isna())
    texts = fit[distinct_texts(rows["exact"].to_numpy()[fit])]
    ends = np.cumsum(np.bincount(rows["shard"], minlength=len(parts)))
    del rows
    with ExitStack() as stack:
        paths = [
            stack.enter_context(store.read(_name("signatures", number, "bin")))
            for number in range(len(parts))
        ]
        # Each is mapped anew, for what has been touched counts as memory while it is.
        of_shards = [
            list(band_keys(_map_signatures(path), threshold, bands)) for path in paths
        ]
        keys = (np.concatenate(band)[texts] for band in zip(*of_shards, strict=True))
        mapped = list(map(_map_signatures, paths))

        def take(rows: np.ndarray) -> np.ndarray:
            found = np.empty((len(rows), SLOTS), np.uint16)
            shard = np.searchsorted(ends, rows, side="right")
            for number in np.unique(shard):
                mine = shard == number
                start = ends[number] - len(mapped[number])
                found[mine] = mapped[number][rows[mine] - start]
            return found

        links = link_texts(keys, take, texts, threshold)
    with store.writing(_name("links", group, "npy")) as path, open(path, "wb") as file:
        np.save(file, links)


def divide_shards(
    store: Store, parts: Sequence[str], groups: int, given: Sequence[str], config
) -> dict:
    """Decide on every advert, write the outcome, and refuse parts that overlap.

    Args:
        parts: of each shard.
        groups: how many groups of bands were searched.
        given: parts that the user brought.
        config: with the section `split`.

    Returns:
        The report of `adverts.prepare_adverts`, but for what stands in no row.

    Raises:
        ValueError: as `adverts.prepare_adverts`.
    """
    rows = read_rows(store, parts)
    counts = rows.loc[_was_read(rows), list(KINDS)].sum(min_count=1)
    replaced = counts.dropna().astype(int).to_dict()  # names may not be looked for
    fit = rows["reason"].isna()
    place = np.cumsum(fit) - 1  # links count all rows
    links = [_load_links(store, group) for group in range(groups)]
    links = place.to_numpy()[np.concatenate(links)]
    clusters = number_linked(rows.loc[fit, "exact"].to_numpy(), links)
    rows.loc[fit, "exact"] = clusters["exact"].to_numpy()
    rows["near"] = pd.Series(clusters["near"].to_numpy(), rows.index[fit], "Int64")
    reasons = judge_duplicates(rows[fit].astype({"near": "int64"}), "advert")
    rows.loc[fit, "reason"] = reasons
    rows.loc[reasons.index[reasons.notna()], "stage"] = "duplicate"
    is_kept = rows["reason"].isna()
    kept, aside = rows[is_kept].astype({"near": "int64"}), rows[~is_kept]
    print_kept(len(kept), aside, "advert")
    kept["part"] = divide_adverts(kept, given, aside, config.split)
    rows["part"] = kept["part"]  # missing where it is left out
    overlap = _compare_shards(store, rows[["shard", "part", "employer"]])
    refuse_overlap(overlap, config.split)
    for number in range(len(parts)):
        outcome = rows[rows["shard"] == number].rename(columns={"near": "cluster"})
        with (
            store.writing(_name("outcome", number)) as path,
            _table_writer(path, OUTCOME) as write,
        ):
            write(outcome)
    return {**describe_rows(kept, aside, replaced), "overlap": overlap}


def write_shard(store: Store, number: int) -> list[dict]:
    """Write the adverts of a shard with their parts and clusters, and the others.

    Returns:
        name, rows and bytes of each file.
    """
    import pyarrow
    from pyarrow import compute, parquet

    outcome = _read_table(store, _name("outcome", number))
    names = f"adverts/{number:04}.parquet", f"kept_aside/{number:04}.parquet"
    start = 0
    with (
        store.read(_name("adverts", number)) as staged_path,
        store.writing(names[0]) as adverts_path,
        store.writing(names[1]) as aside_path,
        store.writing(_name("digests", number, "bin")) as digests_path,
        open(digests_path, "wb") as digests,
    ):
        with (
            parquet.ParquetFile(staged_path, pre_buffer=False) as staged,
            _table_writer(adverts_path, ADVERTS) as write_adverts,
            _table_writer(aside_path, ASIDE) as write_aside,
        ):
            for batch in staged.iter_batches(BATCH):
                rows = pyarrow.Table.from_batches([batch])
                for name, column in zip(
                    OUTCOME, outcome.slice(start, len(rows)).columns, strict=True
                ):
                    rows = rows.append_column(name, column)
                start += len(rows)
                is_kept = compute.is_valid(rows["part"])
                kept = rows.filter(is_kept)
                write_adverts(kept)
                write_aside(rows.filter(compute.invert(is_kept)))
                texts = kept["part"].to_pylist(), kept["text"].to_pylist()
                digests.write(b"".join(hash_rows(*texts)))
        kept = len(outcome) - outcome["part"].null_count
        return [
            {"name": name, "rows": rows, "bytes": path.stat().st_size}
            for name, rows, path in (
                (names[0], kept, adverts_path),
                (names[1], len(outcome) - kept, aside_path),
            )
        ]


def hash_shards(store: Store, shards: int) -> str:
    """The fingerprint of all adverts with their parts, as of `hash_parts`."""
    digests = []
    for number in range(shards):
        with store.read(_name("digests", number, "bin")) as path:
            found = path.read_bytes()
        digests += [found[at : at + DIGEST] for at in range(0, len(found), DIGEST)]
    return hash_digests(digests)


def write_manifest(store: Store, manifest: Mapping) -> None:
    """Say what the files of a store are: only now are they prepared adverts."""
    text = json.dumps({"schema": SCHEMA, **manifest}, indent=1)
    store.write(MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))


def delete_staged(store: Store) -> None:
    """Remove what was kept between the steps."""
    for name in store.names():
        if name.startswith("staged/"):
            store.delete(name)


def _name(kind: str, number: int, suffix: str = "parquet") -> str:
    return f"staged/{kind}/{number:04}.{suffix}"


def _clean_chunk(
    given: pd.DataFrame, unreadable: pd.DataFrame, config, nlp
) -> pd.DataFrame:
    """All rows of a chunk: those that cannot be used with the reason, without text."""
    rows, reasons, counts = clean_rows(
        given, config, nlp, lambda text: why_unfit(text, config.data)
    )
    rows = rows.assign(
        text=rows["text"].where(reasons.isna(), ""),
        reason=reasons,
        stage=pd.Series("unfit", rows.index, "str").where(reasons.notna()),
        **{kind: [count.get(kind) for count in counts] for kind in KINDS},
    )
    rows = pd.concat([rows, unreadable], ignore_index=True)
    return rows.fillna({"text": ""})


def _was_read(rows: pd.DataFrame) -> pd.Series:
    """Which rows the getter could use."""
    return rows["reason"].isna() | (rows["stage"] == "unfit")


def _hash_sentences(sentences: Sequence[str]) -> np.ndarray:
    hashes = exact_fingerprints(sentences, MIN_WORDS)
    return hashes[hashes >= 0]


def _compare_shards(store: Store, rows: pd.DataFrame) -> dict[str, dict]:
    """What of each held-out part stands in training: see `overlap.measure_overlap`.

    Clusters of near duplicates never cross parts, so `near` is nothing.
    """
    from pyarrow import compute

    found = {part: ([], []) for part in (TRAIN, VALIDATION, TEST)}
    for number, own in rows.groupby("shard"):
        column = _read_table(store, _name("rows", number), ["hashes"])["hashes"]
        hashes = compute.list_flatten(column).to_numpy()
        lengths = compute.list_value_length(column).to_numpy()
        advert = np.repeat(own.index, lengths)
        for part, (all_hashes, all_adverts) in found.items():
            mine = np.repeat((own["part"] == part).to_numpy(), lengths)
            all_hashes.append(hashes[mine])
            if part != TRAIN:
                all_adverts.append(advert[mine])
    training = np.unique(np.concatenate(found.pop(TRAIN)[0]))
    shared = count_shared_employers(rows)
    overlap = {}
    for part, (hashes, adverts) in found.items():
        verbatim = np.isin(np.concatenate(hashes), training)
        near = np.zeros((rows["part"] == part).sum(), bool)
        overlap[part] = describe_overlap(np.concatenate(adverts), verbatim, near)
        overlap[part]["employers_in_train"] = shared[part]
    return overlap


def _load_links(store: Store, group: int) -> np.ndarray:
    with store.read(_name("links", group, "npy")) as path:
        return np.load(path)


def _map_signatures(path: Path) -> np.ndarray:
    if not path.stat().st_size:  # which cannot be mapped
        return np.empty((0, SLOTS), np.uint16)
    return np.memmap(path, np.uint16, "r").reshape(-1, SLOTS)


def _read_table(store: Store, name: str, columns: Sequence[str] | None = None):
    from pyarrow import parquet

    with store.read(name) as path:
        return parquet.read_table(path, columns=columns)


@contextmanager
def _table_writer(path: Path, columns: Mapping[str, str]) -> Iterator[Callable]:
    """A function that appends these columns of a table, of pandas or Arrow, to a file.

    Args:
        columns: type of each.
    """
    import pyarrow
    from pyarrow import parquet

    kinds = {"string": pyarrow.string(), "int64": pyarrow.int64()}
    kinds |= {f"list<{name}>": pyarrow.list_(kind) for name, kind in kinds.items()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])

    with parquet.ParquetWriter(path, schema) as writer:

        def write(rows) -> None:
            if isinstance(rows, pd.DataFrame):
                rows = pyarrow.Table.from_pandas(rows, schema, preserve_index=False)
            writer.write_table(rows.select(list(columns)).cast(schema))

        yield write
