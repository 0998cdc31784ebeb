"""Named entities: which words of an advert are skills, experience or benefits."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ojd_daps_language_models.configs import NERConfig
from ojd_daps_language_models.preprocessing.entities import (
    adverts_of,
    join_texts,
    resampled_of,
    spans_of,
    unaligned_of,
    words_of,
)
from ojd_daps_language_models.preprocessing.packing import load_tokenizer
from ojd_daps_language_models.preprocessing.splits import PARTS, as_keys
from ojd_daps_language_models.preprocessing.windows import Windows, encode_windows
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints


def tokenize(
    texts: pd.DataFrame, checkpoint: Path, config: NERConfig
) -> dict[str, dict]:
    """Tokenize the texts of each part, in windows where they are long.

    Texts of one advert are read together if `training.together` says so, as they will
    be in use: the sentences before and after one tell more about it.

    Args:
        texts: columns `text`, `words` and `part`.
        checkpoint: folder with a `tokenizer.json`.

    Returns:
        For each part the fields of `preprocessing.windows.Windows`.
    """
    tokenizer = load_tokenizer(checkpoint)
    tokens = {}
    for part in PARTS:
        rows = texts[texts["part"] == part]
        settings = (tokenizer, config.training.max_length, config.training.overlap)
        bar = progress_bar(f"tokenizing {part}", "text", len(rows), rows["text"])
        windows = encode_windows(bar, rows["words"], *settings)
        if config.training.together:
            # A text is still one: words are numbered as before, entities end with it.
            together = encode_windows(*join_texts(rows), *settings)
            windows = windows._replace(
                ids=together.ids, lengths=together.lengths, words=together.words
            )
        tokens[part] = windows._asdict()
    return tokens


def train(
    tokens: dict[str, dict],
    texts: pd.DataFrame,
    labels: dict[str, list[str]],
    checkpoint: Path,
    config: NERConfig,
    epochs: int,
    seeds: Sequence[int],
    on_row: Callable[[list[dict], int], None] | None = None,
    checkpoints: TrainingCheckpoints | None = None,
) -> tuple[list[bytes], pd.DataFrame]:
    """Train a model for each layer and seed; validation chooses its epoch.

    The layers share an encoder while they learn: both are learnt in the time of one, as
    well as apart. The epoch is that of the highest strict F1 of spans, of all labels
    together, in the mean over layers.

    Args:
        tokens: of each part, from `tokenize`.
        texts: that were tokenized.
        labels: that are learnt, of each layer.
        checkpoint: folder of the model to start from.
        epochs: 0 gives the checkpoint back, with a head.
        seeds: of the new heads and the batches.
        on_row: called with all rows of the log so far and the number of steps.
        checkpoints: where the trainings are kept while they go on.

    Returns:
        The packed `save_pretrained` folders, for each layer those of all seeds; and the
        log: seed, step, epoch, seconds, loss, validation_loss, validation_f1.
    """
    from ojd_daps_language_models.training.classification import (
        fit_classifier,
        pack_model,
    )
    from ojd_daps_language_models.training.fit import TrainingLog
    from ojd_daps_language_models.training.span_metrics import micro_f1
    from ojd_daps_language_models.training.token_classification import (
        learning_together,
        load_tagger,
        read_entities,
    )

    validation = texts[texts["part"] == "validation"]
    gold = {layer: spans_of(validation, layer) for layer in labels}
    models, rows = {layer: [] for layer in labels}, []
    for seed in seeds:
        own = [load_tagger(checkpoint, labels[layer], seed)[0] for layer in labels]
        if epochs:
            train_on, choose_on = (
                _tagged(tokens, texts, labels, part, checkpoint)
                for part in ("train", "validation")
            )

            def measure(_, logits, windows=choose_on.windows):
                return np.mean(
                    [
                        micro_f1(
                            gold[layer],
                            read_entities(logits[..., place, :], windows, names),
                        )
                        for place, (layer, names) in enumerate(labels.items())
                    ]
                )

            with learning_together(own) as model:
                fit_classifier(
                    model,
                    train_on,
                    choose_on,
                    config.training,
                    epochs,
                    seed,
                    TrainingLog(on_row, rows, seed=seed),
                    measure=("f1", measure),
                    checkpoints=checkpoints,
                    r_drop=config.training.r_drop,
                )
        for layer, model in zip(labels, own, strict=True):
            packed = pack_model(model, checkpoint, config.training.max_length)
            models[layer].append(packed)
    return list(chain.from_iterable(models.values())), pd.DataFrame(rows)


def evaluate(
    tokens: dict[str, dict],
    texts: pd.DataFrame,
    labels: dict[str, list[str]],
    checkpoint: Path,
    models: Sequence[bytes],
    config: NERConfig,
    seeds: Sequence[int],
) -> tuple[dict, pd.DataFrame, list[dict]]:
    """Score the models once on the test texts, beside checkpoint and floors.

    Args:
        tokens: of each part, from `tokenize`.
        texts: that were tokenized.
        labels: that are learnt, of each layer.
        checkpoint: folder of the model that training started from.
        models: from `train`.
        seeds: that they were trained with.

    Returns:
        Metrics. `scores`: layer -> label, `micro` or `macro` -> measure -> system
        (`gazetteer` of training spans, `crf` on features of words, `before`, `after`,
        and the paired differences `change`, after minus before, and `gain`, after minus
        crf) -> value, low, high; see `training.span_metrics`. `layers`: layer -> what
        its errors were (system -> counts), its labels, spans, and where the head came
        from; of its gold spans, those that are `unaligned` have no words of their own,
        so all systems miss them. `resampled`: what intervals are over.
        `lost_to_truncation`: part -> spans, and those lost if texts were cut
        where the model ends. `seeds` and `spread`: see `training.metrics`.

        A table of the spans in the test texts by layer and system, with `gold` among
        the systems: id, layer, system, label, start, end (in characters), and aligned:
        False for gold spans without words of their own, whose offsets are of the text
        as it came.

        And what is found in the sentences of `evaluation.examples`: layer, text, spans.
    """
    from ojd_daps_language_models.training.metrics import spread

    test = texts[texts["part"] == "test"]
    resampled, grouping = resampled_of(test)
    scores, layers, said, examples = {}, {}, [], []
    by_seed = [{"seed": int(seed), "scores": {}} for seed in seeds]
    for place, layer in enumerate(labels):
        own = models[place * len(seeds) : (place + 1) * len(seeds)]
        found, by_model, head = _find(
            tokens, texts, layer, labels[layer], checkpoint, own, config, seeds[0]
        )
        gold, unaligned = spans_of(test, layer), unaligned_of(test, layer)
        scores[layer], errors, of_seeds = _score(
            _with_missed(gold, unaligned, test["words"]),
            found,
            by_model,
            labels[layer],
            grouping,
            config.evaluation,
        )
        layers[layer] = {
            "labels": labels[layer],
            "gold": sum(map(len, [*gold, *unaligned])),
            "unaligned": sum(map(len, unaligned)),
            "head": head,
            "errors": errors,
        }
        for entry, values in zip(by_seed, of_seeds, strict=True):
            entry["scores"] |= {
                group if len(labels) == 1 else f"{layer}, {group}": measures
                for group, measures in values.items()
            }
        said.append(_as_table(test, layer, {"gold": gold, **found}, unaligned))
        examples += _show(config.evaluation.examples, own[0], layer, config)
    return (
        {
            "texts": len(test),
            "postings": int(adverts_of(test).nunique()),
            "resampled": resampled,
            "head": layers[layer]["head"],
            "scores": scores,
            "layers": layers,
            "lost_to_truncation": _count_lost(tokens, texts),
            "seeds": by_seed,
            "spread": spread(by_seed),
        },
        pd.concat(said, ignore_index=True),
        examples,
    )


def _with_missed(
    gold: list, unaligned: list, words: Sequence[Sequence]
) -> list[list[tuple[int, int, str]]]:
    """Gold spans, and those without words of their own behind the last word, where no
    system finds anything."""
    return [
        [*own, *((n, n + 1, label) for n, (_, _, label) in enumerate(more, len(text)))]
        for own, more, text in zip(gold, unaligned, words, strict=True)
    ]


def _find(
    tokens: dict[str, dict],
    texts: pd.DataFrame,
    layer: str,
    labels: Sequence[str],
    checkpoint: Path,
    models: Sequence[bytes],
    config: NERConfig,
    seed: int,
) -> tuple[dict[str, list], list[list], str]:
    """What each system finds in the test texts, what the model of each seed does, and
    where the head of the checkpoint came from."""
    from ojd_daps_language_models.training.span_baselines import (
        fit_crf,
        fit_gazetteer,
    )
    from ojd_daps_language_models.training.token_classification import (
        load_tagger,
        read_entities,
        score_packed,
        score_windows,
    )

    examples = []
    for part in ("train", "validation"):
        rows = texts[texts["part"] == part]
        learnt = [
            [span for span in spans if span[2] in labels]
            for spans in spans_of(rows, layer)
        ]
        examples += [words_of(rows), learnt]
    test = words_of(texts[texts["part"] == "test"])
    windows = _tagged(tokens, texts, {layer: labels}, "test", checkpoint)
    settings = (4 * config.training.batch_size, config.training.precision)
    before, new_head = load_tagger(checkpoint, labels, seed)
    by_model = [
        read_entities(
            score_packed(model, labels, windows, *settings), windows.windows, labels
        )
        for model in models
    ]
    found = {
        "gazetteer": fit_gazetteer(*examples)(test),
        "crf": fit_crf(*examples)(test),
        "before": read_entities(
            score_windows(before, windows, *settings), windows.windows, labels
        ),
        "after": by_model[0],
    }
    return found, by_model, "new, untrained" if new_head else "the checkpoint's own"


def _score(
    gold: list,
    found: dict[str, list],
    by_model: Sequence[list],
    labels: Sequence[str],
    grouping: pd.Series,
    evaluation,
) -> tuple[dict, dict, list[dict]]:
    """Scores and errors of the systems, and values of the model of each seed."""
    from ojd_daps_language_models.training.span_metrics import (
        count_errors,
        score_spans,
        values_of,
    )

    groups = pd.factorize(as_keys(grouping))[0]
    # A label that only held-out texts have is missed by all.
    known = list(dict.fromkeys([*labels, *(s[2] for spans in gold for s in spans)]))
    scores = score_spans(
        gold,
        found,
        known,
        groups,
        evaluation.bootstrap_samples,
        evaluation.seed,
        {"change": ("after", "before"), "gain": ("after", "crf")},
    )
    of_seeds = [
        values_of(score_spans(gold, {"after": spans}, known, groups, 1, 0, {}))
        for spans in by_model
    ]
    return (
        scores,
        {name: count_errors(gold, said) for name, said in found.items()},
        of_seeds,
    )


def _count_lost(tokens: dict[str, dict], texts: pd.DataFrame) -> dict[str, dict]:
    """Spans of each part, and those behind what a plain truncation would leave."""
    counts = {}
    for part in PARTS:
        spans = texts.loc[texts["part"] == part, "spans"]
        windows = Windows(**tokens[part])
        counts[part] = {
            "texts": len(spans),
            "long_texts": int((windows.words_read < windows.word_counts).sum()),
            "spans": int(spans.str.len().sum()),
            "lost": sum(
                int(stop > read)
                for found, read in zip(spans, windows.words_read, strict=True)
                for _, stop, *_ in found
            ),
        }
    return counts


def _as_table(
    test: pd.DataFrame, layer: str, systems: dict[str, list], unaligned: list
) -> pd.DataFrame:
    """Spans of each system in characters, a row each."""
    rows = [
        (id_, layer, system, label, words[first][0], words[stop - 1][1], True)
        for system, found in systems.items()
        for id_, words, spans in zip(test["id"], test["words"], found, strict=True)
        for first, stop, label in spans
    ]
    rows += [
        (id_, layer, "gold", label, start, end, False)
        for id_, spans in zip(test["id"], unaligned, strict=True)
        for start, end, label in spans
    ]
    columns = ["id", "layer", "system", "label", "start", "end", "aligned"]
    return pd.DataFrame(rows, columns=columns)


def _show(
    sentences: Sequence[str], model: bytes, layer: str, config: NERConfig
) -> list[dict]:
    """What a model finds in sentences that were written for the report."""
    from ojd_daps_language_models.archive import unpack_folder
    from ojd_daps_language_models.training.token_classification import find_entities

    with TemporaryDirectory() as folder:
        unpack_folder(model, Path(folder))
        found = find_entities(sentences, folder, config.training.overlap)
    return [
        {"layer": layer, "text": text, "spans": spans}
        for text, spans in zip(sentences, found, strict=True)
    ]


def _tagged(
    tokens: dict[str, dict],
    texts: pd.DataFrame,
    labels: dict[str, Sequence[str]],
    part: str,
    checkpoint: Path,
):
    from ojd_daps_language_models.training.token_classification import TaggedWindows

    own = texts[texts["part"] == part]
    layers = [(labels[layer], spans_of(own, layer)) for layer in labels]
    return TaggedWindows(Windows(**tokens[part]), layers, checkpoint)
