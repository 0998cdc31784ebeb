"""Next-sentence prediction: does the second sentence follow the first in its advert?"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, compress
from pathlib import Path

import numpy as np
import pandas as pd

from ojd_daps_language_models.configs import NSPConfig
from ojd_daps_language_models.preprocessing.packing import Tokens, load_tokenizer
from ojd_daps_language_models.preprocessing.pair_tokens import join_pairs
from ojd_daps_language_models.preprocessing.pairs import KINDS, LABELS
from ojd_daps_language_models.preprocessing.splits import PARTS, TRAIN
from ojd_daps_language_models.preprocessing.token_files import (
    encode_to_file,
    read_tokens,
)
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.stores import Store
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints


def tokenize(
    sentences: Collection[Sequence[str]],
    pairs: pd.DataFrame,
    checkpoint: Path,
    config: NSPConfig,
    store: Store | None = None,
    name: str = "tokens",
) -> tuple[dict[str, dict], dict[str, np.ndarray], dict[str, int]]:
    """Tokenize the sentences of all adverts, each once.

    Args:
        sentences: from `preprocessing.pairs.make_pairs`.
        pairs: likewise.
        checkpoint: folder with a `tokenizer.json`.
        store: for a file of their tokens; None: all is kept in memory.
        name: of the folder there.

    Returns:
        What `preprocessing.token_files.open_tokens` asks for, and of each part how many
        tokens its pairs have, and how many pairs are longer than the model reads.
    """
    bar = progress_bar("tokenizing", "advert", len(sentences), sentences)
    found = encode_to_file(
        chain.from_iterable(bar),
        load_tokenizer(checkpoint),
        store,
        f"{name}/sentences.bin",
        special_tokens=False,
    )
    tokens, lengths, truncated = {"sentences": found}, {}, {}
    counted = Tokens(np.empty(0, np.uint8), found["lengths"])
    for part in PARTS:
        length = config.training.max_length
        inputs = join_pairs(counted, _of_part(pairs, part), checkpoint, length).inputs
        lengths[part] = inputs.lengths
        truncated[part] = int(inputs.truncated.sum())
    print(f"cut at {config.training.max_length} tokens: {truncated}")
    return tokens, lengths, truncated


def train(
    tokens: dict[str, dict],
    pairs: pd.DataFrame,
    checkpoint: Path,
    config: NSPConfig,
    epochs: int,
    seeds: Sequence[int],
    on_row: Callable[[list[dict], int], None] | None = None,
    checkpoints: TrainingCheckpoints | None = None,
) -> tuple[list[bytes], pd.DataFrame]:
    """Train a model for each seed, and keep the epoch that is best on validation.

    Args:
        tokens: of the sentences, see `preprocessing.token_files.open_tokens`.
        pairs: of them.
        checkpoint: folder of the model to start from.
        epochs: 0 gives the checkpoint back, with a head.
        seeds: of the new heads and the batches.
        on_row: called with all rows of the log so far and the number of steps.
        checkpoints: where the trainings are kept while they go on.

    Returns:
        The packed `save_pretrained` folders, and the log: seed, step, epoch, seconds,
        loss, validation_loss.
    """
    from ojd_daps_language_models.training.classification import (
        fit_classifier,
        load_classifier,
        pack_model,
    )
    from ojd_daps_language_models.training.fit import TrainingLog

    models, rows = [], []
    for seed in seeds:
        model, _ = load_classifier(checkpoint, LABELS, seed, pairs=True)
        if epochs:
            fit_classifier(
                model,
                _sequences(tokens, pairs, "train", checkpoint, config),
                _sequences(tokens, pairs, "validation", checkpoint, config),
                config.training,
                epochs,
                seed,
                TrainingLog(on_row, rows, seed=seed),
                checkpoints=checkpoints,
            )
        models.append(pack_model(model, checkpoint, config.training.max_length))
    return models, pd.DataFrame(rows)


def evaluate(
    tokens: dict[str, dict],
    sentences: Collection[Sequence[str]],
    pairs: pd.DataFrame,
    checkpoint: Path,
    models: Sequence[bytes],
    config: NSPConfig,
    seeds: Sequence[int],
) -> dict:
    """Score the models on the test pairs, beside checkpoint and floors.

    Returns:
        `scores`: kind of negative, or `all` -> accuracy, roc_auc -> system (`majority`,
        `overlap` of words, with a threshold chosen on validation, `before`, `after`,
        and the paired differences `change`, after minus before, and `gain`, after minus
        overlap) -> value, low, high; `confusion`: kind -> system -> tp, fp, fn, tn,
        where positive is `is_next`; `seeds` and `spread`: see `training.metrics`; the
        architecture, where its head came from, and counts of what was scored. A kind
        is scored on its negatives and on the successors of their first sentences.
    """
    from ojd_daps_language_models.training.baselines import word_overlap
    from ojd_daps_language_models.training.classification import (
        describe_architecture,
        load_classifier,
        probabilities,
        score_packed,
        score_sequences,
    )
    from ojd_daps_language_models.training.metrics import (
        accuracy,
        best_threshold,
        spread,
    )

    test = pairs[pairs["part"] == "test"]
    sequences = _sequences(tokens, pairs, "test", checkpoint, config)
    settings = (4 * config.training.batch_size, config.training.precision)
    before, new_head = load_classifier(checkpoint, LABELS, seeds[0], pairs=True)
    found = {"before": probabilities(score_sequences(before, sequences, *settings), 0)}
    by_model = [
        probabilities(score_packed(model, LABELS, sequences, *settings, pairs=True), 0)
        for model in models
    ]
    found["after"] = by_model[0]
    held_out = pairs[pairs["part"] != TRAIN]
    words = word_overlap(_texts(sentences, held_out))
    overlap = {part: words[(held_out["part"] == part).to_numpy()] for part in PARTS[1:]}
    is_next = (pairs.loc[pairs["part"] == "validation", "label"] == 0).to_numpy()
    threshold = best_threshold(is_next, overlap["validation"], accuracy)
    systems = {
        "majority": (np.ones(len(test)), np.ones(len(test), bool)),
        "overlap": (overlap["test"], overlap["test"] >= threshold),
        **{name: (scores, scores > 0.5) for name, scores in found.items()},
    }
    scores, confusion = _compare(test, systems, config.evaluation)
    by_seed = [
        {"seed": int(seed), "scores": _score(test, likely, likely > 0.5)}
        for seed, likely in zip(seeds, by_model, strict=True)
    ]
    return {
        "adverts": int(test["advert"].nunique()),
        "pairs": len(test),
        "truncated": int(sequences.inputs.truncated.sum()),
        "pairs_by_kind": {kind: int(rows.sum()) for kind, rows in _kinds(test).items()},
        "architecture": describe_architecture(before),
        "head": "new, untrained" if new_head else "the checkpoint's own",
        "overlap_threshold": threshold,
        "scores": scores,
        "confusion": confusion,
        "seeds": by_seed,
        "spread": spread(by_seed),
    }


def _compare(test: pd.DataFrame, systems: dict, evaluation) -> tuple[dict, dict]:
    """Scores of all systems by kind, and their confusion counts."""
    from ojd_daps_language_models.training.metrics import OUTCOMES, compare

    adverts, advert = np.unique(test["advert"], return_inverse=True)
    differences = {"change": ("after", "before"), "gain": ("after", "overlap")}
    scores, confusion = {}, {}
    for kind, rows in _kinds(test).items():
        of_kind = {
            system: _statistics(
                test[rows], likely[rows], predicted[rows], advert[rows], len(adverts)
            )
            for system, (likely, predicted) in systems.items()
        }
        scores[kind] = {
            measure: compare(
                {system: found[measure] for system, (found, _) in of_kind.items()},
                differences,
                len(adverts),
                evaluation.bootstrap_samples,
                evaluation.seed,
            )
            for measure in ("accuracy", "roc_auc")
        }
        confusion[kind] = {
            system: dict(
                zip(OUTCOMES, totals.sum(axis=0).astype(int).tolist(), strict=True)
            )
            for system, (_, totals) in of_kind.items()
            if system != "majority"
        }
    return scores, confusion


def _score(test: pd.DataFrame, likely: np.ndarray, predicted: np.ndarray) -> dict:
    """Values alone, by kind and measure."""
    once = np.ones((1, 1))
    return {
        kind: {
            measure: float(statistic(once)[0])
            for measure, statistic in _statistics(
                test[rows], likely[rows], predicted[rows], np.zeros(rows.sum(), int), 1
            )[0].items()
        }
        for kind, rows in _kinds(test).items()
    }


def _statistics(
    test: pd.DataFrame,
    likely: np.ndarray,
    predicted: np.ndarray,
    advert: np.ndarray,
    count: int,
) -> tuple[dict, np.ndarray]:
    """Accuracy and ROC AUC as functions of weights of adverts, and the outcomes."""
    from ojd_daps_language_models.training.metrics import (
        accuracy,
        of_roc_auc,
        of_sums,
        outcomes,
    )

    is_next = (test["label"] == 0).to_numpy()
    totals = outcomes(is_next, predicted, advert, count)
    return {
        "accuracy": of_sums(totals, accuracy),
        "roc_auc": of_roc_auc(is_next, likely, advert, count),
    }, totals


def _kinds(pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which pairs are scored for each kind of negative that is there, and for all."""
    kinds = {"all": np.ones(len(pairs), bool)}
    for kind in KINDS:
        rows = (pairs["kind"] == kind).to_numpy()
        if rows.any():
            kinds[kind] = rows
    return kinds


def _texts(
    sentences: Collection[Sequence[str]], pairs: pd.DataFrame
) -> Iterator[tuple[str, str]]:
    """Pairs in words; no more sentences than theirs are in memory."""
    asked, rows = np.unique(pairs[["first", "second"]], return_inverse=True)
    of_pairs = np.zeros(asked.max(initial=0) + 1, bool)
    of_pairs[asked] = True
    texts = list(compress(chain.from_iterable(sentences), of_pairs))
    return ((texts[first], texts[second]) for first, second in rows)


def _sequences(
    tokens: dict[str, dict],
    pairs: pd.DataFrame,
    part: str,
    checkpoint: Path,
    config: NSPConfig,
):
    from ojd_daps_language_models.training.classification import JoinedSequences

    mine = _of_part(pairs, part)
    sentences = read_tokens(tokens["sentences"])
    joined = join_pairs(sentences, mine, checkpoint, config.training.max_length)
    # Positives come first, then the negatives with the same first sentences.
    twins = np.roll(np.arange(len(mine), dtype=np.int32), len(mine) // 2)
    return JoinedSequences(joined, mine["label"].to_numpy(), checkpoint, twins)


def _of_part(pairs: pd.DataFrame, part: str) -> pd.DataFrame:
    """The pairs of a part, which stand together: no copy, where there are millions."""
    mine = (pairs["part"] == part).to_numpy()
    start = int(mine.argmax())
    return pairs.iloc[start : start + int(mine.sum())]
