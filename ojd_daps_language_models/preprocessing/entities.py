"""From annotated texts to parts that a model learns from, with an account of all."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.cleaning import ODD_BLANK
from ojd_daps_language_models.preprocessing.personal_data import load_name_pipeline
from ojd_daps_language_models.preprocessing.preparation import (
    Chunk,
    compare_parts,
    count_names,
    count_reasons,
    drop_duplicates,
    funnel,
    hash_parts,
    held_out_texts,
    keep_choosing_apart,
    measure_seen,
    nothing_left,
    print_kept,
    read_clean,
    refuse_overlap,
    split_off,
)
from ojd_daps_language_models.preprocessing.sentences import (
    describe_sentence_pipeline,
    load_sentence_pipeline,
)
from ojd_daps_language_models.preprocessing.spans import (
    INSIDE,
    align_spans,
    find_words,
    follow,
    load_word_tokenizer,
)
from ojd_daps_language_models.preprocessing.splits import (
    PARTS,
    TEST,
    TRAIN,
    advert_keys,
    as_keys,
)
from ojd_daps_language_models.progress import progress_bar

STAGES = {
    "unreadable": "with a text and its annotation",
    "unfit": "with a word",
    "duplicate": "after near and exact duplicates",
}
MOST_EXAMPLES = 20
# Of a table of spans that are kept aside.
SPAN_COLUMNS = [
    *("source", "row", "id", "part", "layer", "label", "start", "end", "reason")
]
PERSONAL = "personal data is in it"
COPY = "its text is a duplicate"
DISPUTED = "a copy of its text says otherwise"
NOT_OF_WORDS = (INSIDE, PERSONAL)  # why sound spans are kept aside


class Prepared(NamedTuple):
    """Texts ready for a model, and what became of all others.

    texts: id, text, employer, advert, source, row, part, `words` (their offsets in the
        text), `spans` (of words: first, after the last, label, layer) and `unaligned`
        (start, end, label, layer of sound spans kept aside, which count as missed);
        those of an advert follow each other.
    kept_aside: source, row, id, reason.
    spans_aside: source, row, id, part, layer, label, start, end, reason.
    report: plain counts, see `prepare_texts`.
    """

    texts: pd.DataFrame
    kept_aside: pd.DataFrame
    spans_aside: pd.DataFrame
    report: dict


def prepare_texts(
    given: dict[str, Iterable[Chunk]], config, seen: Sequence[str] | None = None
) -> Prepared:
    """Align spans, replace personal data, deduplicate and split annotated texts.

    Texts stay as they are but for personal data: spans count their characters, and a
    model will read them so.

    Args:
        given: chunks of (texts, kept aside) from the getter for `train` and, where the
            user brought official parts, for `validation` and `test`. Those are not
            thinned out; what resembles them leaves the training part.
        config: with the sections `data`, `personal_data`, `duplicates` and `split`.
        seen: texts that the checkpoint was trained on, None where that is not known.

    Returns:
        Its report has `funnel` (stage, texts left), `kept_aside` (reason, texts),
        `spans` (read, kept, of them merged: taken from a copy of their text; and
        repaired: those whose tags were mended),
        `spans_kept_aside` (reason, spans), `examples_aside` (the first of them),
        `words` (what told words apart), `personal_data` (kind, how many), `names` (what
        found them), `parts` (texts, adverts, employers, words and spans of each label),
        `labels` (of each layer, those that are learnt), `overlap` (of each held-out
        part with training), `seen_by_checkpoint` (the same with `seen`, or None) and
        `fingerprint` (of texts, spans and parts in any order).

    Raises:
        ValueError: no text is left, there are no spans, most of them cannot be used,
            too few groups to split or to resample, or too much overlap.
    """
    names = config.personal_data.names
    nlp = load_name_pipeline(names)
    texts, aside, replaced = read_clean(
        {part: _keep_original(chunks) for part, chunks in given.items()},
        config,
        nlp,
        lambda text: None if any(map(str.isalnum, text)) else "no word is in it",
        clean=str,
    )
    if texts.empty:
        raise ValueError(nothing_left(aside, "text"))
    tokenizer = load_word_tokenizer()
    texts, spans_aside, repaired = _align(texts, tokenizer, config.data.labels)
    _refuse_spans(texts, spans_aside)
    if texts[["employer", "advert"]].isna().all(axis=None):
        print(
            "adverts: neither they nor employers are known of any text, so sentences "
            "of one advert may be in different parts, and scores would flatter the "
            "model"
        )
    threshold = config.duplicates.near_threshold
    read = int(texts["spans"].str.len().sum()) + len(spans_aside)
    annotation = ["part", "text", "words", "spans"]
    texts, repeated = drop_duplicates(texts, threshold, "text", annotation)
    texts, of_copies, merged = _merge_copies(texts, repeated)
    spans_aside = pd.concat([spans_aside, of_copies], ignore_index=True)
    repeated = repeated.drop(columns=annotation)
    aside = pd.concat([aside, repeated], ignore_index=True)
    print_kept(len(texts), aside, "text")
    keys = [texts["employer"], advert_keys(texts), texts["near"].astype(str)]
    if config.split.by == "advert":
        keys = [keys[1].fillna(keys[0]), keys[2]]
    texts["part"] = split_off(texts, given, keys, config.split, "text")
    _refuse_one_group(texts[texts["part"] == TEST])
    keep_choosing_apart(texts, config.split.max_near_overlap, "text")
    overlap = compare_parts(texts, load_sentence_pipeline(), threshold, "text")
    texts = texts.drop(columns=["exact", "near"])
    adverts = pd.factorize(adverts_of(texts))[0]
    texts = texts.iloc[np.argsort(adverts, kind="stable")].reset_index(drop=True)
    labels = _labels_of(texts, config.data)
    report = {
        "funnel": funnel(aside, len(texts), "text", STAGES),
        "kept_aside": count_reasons(aside, "text"),
        "spans": {
            "read": read,
            "kept": int(texts["spans"].str.len().sum()),
            "merged": merged,
            "repaired": repaired,
        },
        "spans_kept_aside": count_reasons(spans_aside, "span"),
        "examples_aside": spans_aside[:MOST_EXAMPLES].to_dict("records"),
        "words": "the file's own where it has some, else spaCy's English tokenizer",
        "personal_data": dict(replaced),
        "names": describe_sentence_pipeline(nlp) if nlp else "not looked for",
        "labels": labels,
        "parts": _describe_parts(texts),
        "overlap": overlap,
        "seen_by_checkpoint": measure_seen(
            seen, held_out_texts(texts), threshold, "text"
        ),
        "fingerprint": hash_parts(
            texts["part"], texts["text"], texts["spans"].map(repr)
        ),
    }
    for name in ("spans", "spans_kept_aside", "personal_data", "names", "parts"):
        print(f"{name}: {report[name]}")
    refuse_overlap(overlap, config.split)
    return Prepared(texts, aside.drop(columns="stage"), spans_aside, report)


def spans_of(texts: pd.DataFrame, layer: str) -> list[list[tuple[int, int, str]]]:
    """The spans of one layer in each text."""
    return [
        [(first, stop, label) for first, stop, label, of in spans if of == layer]
        for spans in texts["spans"]
    ]


def words_of(texts: pd.DataFrame) -> list[list[str]]:
    """The words of each text."""
    return [
        [text[start:end] for start, end in words]
        for text, words in zip(texts["text"], texts["words"], strict=True)
    ]


def adverts_of(texts: pd.DataFrame) -> pd.Series:
    """The advert that each text is from; where none is given, it is one itself."""
    return advert_keys(texts).fillna(texts["id"])


def resampled_of(test: pd.DataFrame) -> tuple[str, pd.Series]:
    """What is resampled for intervals, and which of them each text belongs to.

    Where no advert is given, texts of an employer may be sentences of the same one.
    """
    if test["advert"].notna().any():
        return "adverts", advert_keys(test).fillna(test["employer"]).fillna(test["id"])
    if test["employer"].notna().any():
        return "employers", test["employer"].fillna(test["id"])
    return "texts", test["id"]


def unaligned_of(texts: pd.DataFrame, layer: str) -> list[list[tuple[int, int, str]]]:
    """Spans of characters of one layer in each text for which there are no words."""
    return [
        [(start, end, label) for start, end, label, of in spans if of == layer]
        for spans in texts["unaligned"]
    ]


def join_texts(texts: pd.DataFrame) -> tuple[list[str], list[list[tuple[int, int]]]]:
    """The texts of each advert as lines of one, with the words of all of them.

    Args:
        texts: those of an advert follow each other.
    """
    joined, words_of_all = [], []
    adverts = adverts_of(texts)
    for _, rows in texts.groupby((adverts != adverts.shift()).cumsum()):
        start, words = 0, []
        for text, places in zip(rows["text"], rows["words"], strict=True):
            words += [(first + start, stop + start) for first, stop in places]
            start += len(text) + 1
        joined.append("\n".join(rows["text"]))
        words_of_all.append(words)
    return joined, words_of_all


def _keep_original(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for texts, aside in chunks:
        # As many blanks, lest offsets move, but plain: patterns know no others.
        plain = texts["text"].str.replace(ODD_BLANK, " ", regex=True)
        yield texts.assign(text=plain, original=plain), aside


def _align(
    texts: pd.DataFrame, tokenizer, labels: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Texts with words, spans of words, and sound spans of which there are no words;
    all spans kept aside; and how many were mended.

    Offsets follow where personal data was replaced.
    """
    words_of_all, spans_of_all, unaligned, problems, mended = [], [], [], [], 0
    bar = progress_bar("aligning spans", "text", len(texts), texts.to_dict("records"))
    for row in bar:
        words, spans = row["words"], row["spans"]
        if row["text"] != row["original"]:
            words = None
            spans = _follow_spans(row["original"], row["text"], spans)
        if words is None:
            words = find_words(row["text"], tokenizer)
        kept, sound = [], []
        for layer in sorted({span["layer"] for span in spans}):
            found, aside = align_spans(
                row["text"],
                words,
                [span for span in spans if span["layer"] == layer],
                labels,
            )
            kept += [(*span, layer) for span in found]
            where = {key: row[key] for key in ("source", "row", "id", "part")}
            problems += [where | span for span in aside]
            sound += [
                (span["start"], span["end"], span["label"], layer)
                for span in aside
                if span["problem"] in NOT_OF_WORDS and span["label"] in labels
            ]
        unaligned.append(sound)
        mended += sum(span["repaired"] for span in spans)
        words_of_all.append([tuple(word) for word in words])
        spans_of_all.append(sorted(kept))
    aligned = texts.drop(columns="original").assign(
        words=pd.Series(words_of_all, texts.index, dtype=object),
        spans=pd.Series(spans_of_all, texts.index, dtype=object),
        unaligned=pd.Series(unaligned, texts.index, dtype=object),
    )
    aside = pd.DataFrame(problems).rename(columns={"problem": "reason"})
    aside = aside.reindex(columns=SPAN_COLUMNS)
    aside = aside.astype(object).where(aside.notna(), None)  # an offset may be missing
    return aligned, aside, mended


def _follow_spans(old: str, new: str, spans: list[dict]) -> list[dict]:
    moved = []
    readable = [
        not span["problem"] and 0 <= span["start"] < span["end"] <= len(old)
        for span in spans
    ]
    places = follow(
        old,
        new,
        [
            (span["start"], span["end"])
            for span, sound in zip(spans, readable, strict=True)
            if sound
        ],
    )
    for span, sound in zip(spans, readable, strict=True):
        place = next(places) if sound else None
        if place:
            span = span | {"start": place[0], "end": place[1]}
        elif sound:
            span = span | {"problem": PERSONAL}
        else:  # its offsets are of the text as it came
            span = span | {"problem": span["problem"] or "it is not in the text"}
        moved.append(span)
    return moved


def _refuse_spans(texts: pd.DataFrame, aside: pd.DataFrame) -> None:
    """Refuse data without spans to learn from, or with more that cannot be used."""
    kept = texts["spans"].str.len().sum()
    reasons = ", ".join(
        f"{row['reason']} ({row['spans']:,})" for row in count_reasons(aside, "span")
    )
    found = kept + len(aside)
    where = ", ".join(sorted(texts["source"].unique())[:3])
    if not found:
        raise ValueError(
            f"{where}: none of the {len(texts):,} texts has a span; expected texts "
            "with annotated entities (see data.format and data.columns)"
        )
    if len(aside) > found / 2:
        first = aside.iloc[0]
        unknown = aside["reason"].str.startswith("its label is unknown").any()
        hint = (
            " Labels that are to be learnt stand under data.labels" if unknown else ""
        )
        raise ValueError(
            f"{where}: {len(aside):,} of {found:,} spans cannot be used: {reasons}; "
            f"the first is in {first['source']}, row {first['row']}, id {first['id']} "
            f"(characters {first['start']} to {first['end']}); expected spans of whole "
            "words, from their first character, counted from 0, to the one after their "
            f"last, with a label.{hint}"
        )
    for part in texts["part"].unique():
        if not texts.loc[texts["part"] == part, "spans"].str.len().sum():
            raise ValueError(
                f"{part}: none of its texts has a span that can be used"
                + (f"; kept aside: {reasons}" if reasons else "")
            )


def _refuse_one_group(test: pd.DataFrame) -> None:
    """Refuse a test part of which every resample is the same."""
    resampled, groups = resampled_of(test)
    if as_keys(groups).nunique() < 2:
        raise ValueError(
            f"{TEST}: intervals are over {resampled}, and its {len(test):,} texts are "
            "of one; expected two at least: bring more annotated texts, or enlarge "
            "split.test"
        )


def _merge_copies(
    texts: pd.DataFrame, repeated: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Training texts with what is annotated in their copies, which were left out.

    People may annotate a text once for each label. Where copies disagree, the one that
    is kept decides, then the first.

    Args:
        texts: that are kept.
        repeated: rows that were left out, with part, text, words and spans.

    Returns:
        The texts, the spans of copies that are not used, and how many were merged.
    """
    training = texts[texts["part"] == TRAIN]
    kept = {
        row.text: (row.words, list(row.spans))
        for row in training[["text", "words", "spans"]].itertuples()
    }
    merged, unused = 0, []
    for row in repeated.to_dict("records"):
        words, spans = kept.get(row["text"], (None, []))
        for span in row["spans"]:
            first, stop, label, layer = span
            if words != row["words"] or span in spans:
                reason = COPY
            elif any(
                layer == other and first < after and before < stop
                for before, after, _, other in spans
            ):
                reason = DISPUTED
            else:
                spans.append(span)
                merged += 1
                continue
            start, end = row["words"][first][0], row["words"][stop - 1][1]
            where = [row[key] for key in ("source", "row", "id", "part")]
            unused.append([*where, layer, label, start, end, reason])
    joined = [
        sorted(kept[text][1]) if part == TRAIN else spans
        for text, part, spans in zip(
            texts["text"], texts["part"], texts["spans"], strict=True
        )
    ]
    return (
        texts.assign(spans=pd.Series(joined, texts.index, dtype=object)),
        pd.DataFrame(unused, columns=SPAN_COLUMNS, dtype=object),
        merged,
    )


def _labels_of(texts: pd.DataFrame, data) -> dict[str, list[str]]:
    """Of each layer, in the order of the configuration, the labels that its training
    spans have.

    Raises:
        ValueError: a layer has no span in one of the parts.
    """
    labels = data.labels
    counts = {
        part: Counter(
            (layer, label)
            for spans in texts.loc[texts["part"] == part, "spans"]
            for *_, label, layer in spans
        )
        for part in PARTS
    }
    found = {layer for count in counts.values() for layer, _ in count}
    layers = list(data.layers) if data.layers else sorted(found)
    learnt = {
        layer: [label for label in labels if counts[TRAIN][layer, label]]
        for layer in layers
    }
    for layer in layers:
        for part in PARTS:
            if not any(counts[part][layer, label] for label in labels):
                raise ValueError(
                    f"{part}: no span of '{layer}' is in it; bring more annotated "
                    "texts, or change split.seed"
                )
        unknown = [
            label
            for label in labels
            if counts[TEST][layer, label] and label not in learnt[layer]
        ]
        if unknown:
            print(f"{layer}: {', '.join(unknown)} only in held-out texts, not learnt")
    return learnt


def _describe_parts(texts: pd.DataFrame) -> dict[str, dict]:
    said = texts["advert"].notna().any()
    return {
        part: {
            "texts": len(rows),
            "adverts": int(adverts_of(rows).nunique()) if said else 0,
            "employers": count_names(rows["employer"]),
            "words": int(rows["words"].str.len().sum()),
            **dict(
                sorted(
                    Counter(
                        label for spans in rows["spans"] for *_, label, _ in spans
                    ).items()
                )
            ),
        }
        for part in PARTS
        for rows in [texts[texts["part"] == part]]
    }
