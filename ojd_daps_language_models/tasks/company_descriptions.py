"""Company descriptions: does a sentence of an advert describe who hires?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ojd_daps_language_models.configs import CompanyDescriptionsConfig
from ojd_daps_language_models.preprocessing.company_descriptions import (
    LABELS,
    NEGATIVE,
    POSITIVE,
)
from ojd_daps_language_models.preprocessing.packing import (
    Inputs,
    count_truncated,
    encode_inputs,
    load_tokenizer,
)
from ojd_daps_language_models.preprocessing.preparation import count_names
from ojd_daps_language_models.preprocessing.splits import PARTS, as_keys
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints

BINS = 10  # of the reliability curve
DECISIONS = {
    True: "Validation chose a threshold of {:.3f}. It is part of the model, which "
    "gives one half where it was: the likelier label is the one scored, and "
    "probabilities are scored as the model gives them.",
    False: "The likelier label is the one scored; no threshold was chosen.",
}


def tokenize(
    sentences: pd.DataFrame, checkpoint: Path, config: CompanyDescriptionsConfig
) -> dict[str, dict]:
    """Tokenize the sentences of each part.

    Args:
        sentences: columns `text` and `part`.
        checkpoint: folder with a `tokenizer.json`.

    Returns:
        For each part the fields of `preprocessing.packing.Inputs`.
    """
    tokenizer = load_tokenizer(checkpoint)
    tokens = {}
    for part in PARTS:
        texts = sentences.loc[sentences["part"] == part, "text"]
        bar = progress_bar(f"tokenizing {part}", "sentence", len(texts), texts)
        inputs = encode_inputs(bar, tokenizer, config.training.max_length)
        tokens[part] = inputs._asdict()
    print(f"cut at {config.training.max_length} tokens: {count_truncated(tokens)}")
    return tokens


def train(
    tokens: dict[str, dict],
    sentences: pd.DataFrame,
    checkpoint: Path,
    config: CompanyDescriptionsConfig,
    epochs: int,
    seeds: Sequence[int],
    on_row: Callable[[list[dict], int], None] | None = None,
    checkpoints: TrainingCheckpoints | None = None,
) -> tuple[list[bytes], list[float], pd.DataFrame]:
    """Train a model for each seed; validation chooses its epoch and its threshold.

    The epoch is that of the highest average precision, the threshold that of the
    highest F1. It is moved into the model's bias where there is one, so that the
    likelier of the two labels is the one that was scored.

    Args:
        tokens: of each part, from `tokenize`.
        sentences: that were tokenized.
        checkpoint: folder of the model to start from.
        epochs: 0 gives the checkpoint back, with a head.
        seeds: of the new heads and the batches.
        on_row: called with all rows of the log so far and the number of steps.
        checkpoints: where the trainings are kept while they go on.

    Returns:
        The packed `save_pretrained` folders; for each the threshold that was moved into
        it, 0.5 where none was; and the log: seed, step, epoch, seconds, loss,
        validation_loss, validation_average_precision.
    """
    from ojd_daps_language_models.training.classification import (
        fit_classifier,
        load_classifier,
        move_threshold,
        pack_model,
        probabilities,
        score_sequences,
    )
    from ojd_daps_language_models.training.fit import TrainingLog
    from ojd_daps_language_models.training.metrics import (
        average_precision,
        best_threshold,
        f1,
    )

    def precision_of(labels: np.ndarray, logits: np.ndarray) -> float:
        likely, once = probabilities(logits, 1), np.ones((1, len(labels)))
        return float(average_precision(labels == 1, likely, once)[0])

    validation = _sequences(tokens, sentences, "validation", checkpoint)
    models, thresholds, rows = [], [], []
    for seed in seeds:
        model, _ = load_classifier(checkpoint, LABELS, seed)
        threshold = 0.5
        if epochs:
            training = _sequences(tokens, sentences, "train", checkpoint)
            counts = np.bincount(training.labels, minlength=2)
            weigh = config.training.balance == "weights"
            fit_classifier(
                model,
                training,
                validation,
                config.training,
                epochs,
                seed,
                TrainingLog(on_row, rows, seed=seed),
                (counts.sum() / (2 * counts)).tolist() if weigh else None,
                ("average_precision", precision_of),
                checkpoints,
            )
            logits = score_sequences(
                model,
                validation,
                4 * config.training.batch_size,
                config.training.precision,
            )
            best = best_threshold(validation.labels == 1, probabilities(logits, 1), f1)
            threshold = best if move_threshold(model, best) else 0.5
        models.append(pack_model(model, checkpoint, config.training.max_length))
        thresholds.append(threshold)
    return models, thresholds, pd.DataFrame(rows)


def evaluate(
    tokens: dict[str, dict],
    sentences: pd.DataFrame,
    checkpoint: Path,
    models: Sequence[bytes],
    thresholds: Sequence[float],
    config: CompanyDescriptionsConfig,
    seeds: Sequence[int],
    prevalence: float,
) -> tuple[dict, pd.DataFrame]:
    """Score the models once on the test sentences, beside checkpoint and floors.

    Args:
        tokens: of each part, from `tokenize`.
        sentences: that were tokenized.
        checkpoint: folder of the model that training started from.
        models: from `train`.
        thresholds: from `train`.
        seeds: that they were trained with.
        prevalence: share of company descriptions in the data as they came, copies of a
            sentence included.

    Returns:
        Metrics. `scores`: class, or `both` -> measure -> system (`majority`, whose
        probability is the share in validation, `tfidf` with logistic regression and a
        threshold that validation chose, moved to one half, `before`, `after`, and the
        paired differences `change`, after minus before, and `gain`, after minus tfidf)
        -> value, low, high; `confusion`: system -> tp, fp, fn, tn, where positive is
        `company_description`; `reliability`: system -> bins of the probability;
        `prevalence`; `threshold` and, in words, `decision`; `seeds` and `spread`: see
        `training.metrics`; where the head came from, and counts.

        And a table of what each system said of each test sentence, from which all of
        this can be computed: id, employer (or advert), label, and for each system the
        probability of `company_description` and whether it said so.
    """
    from ojd_daps_language_models.training.baselines import fit_tfidf
    from ojd_daps_language_models.training.classification import (
        load_classifier,
        probabilities,
        score_packed,
        score_sequences,
    )
    from ojd_daps_language_models.training.metrics import best_threshold, f1, spread

    parts = {part: sentences[sentences["part"] == part] for part in PARTS}
    labelled = {
        part: (rows["text"].tolist(), rows["label"].eq(POSITIVE).to_numpy())
        for part, rows in parts.items()
    }
    test = parts["test"]
    sequences = _sequences(tokens, sentences, "test", checkpoint)
    settings = (4 * config.training.batch_size, config.training.precision)
    before, new_head = load_classifier(checkpoint, LABELS, seeds[0])
    by_model = [
        probabilities(score_packed(model, LABELS, sequences, *settings), 1)
        for model in models
    ]
    tfidf = fit_tfidf(labelled["train"], labelled["validation"])
    likely = {part: tfidf(texts) for part, (texts, _) in labelled.items()}
    cut = best_threshold(labelled["validation"][1], likely["validation"], f1)
    systems = {
        "majority": _argmax(np.full(len(test), labelled["validation"][1].mean())),
        # Moved as the model's is, so that their probabilities compare.
        "tfidf": _argmax(expit(logit(likely["test"]) - logit(cut))),
        "before": _argmax(
            probabilities(score_sequences(before, sequences, *settings), 1)
        ),
        "after": _argmax(by_model[0]),
    }
    said = _as_table(test, systems)
    assumed = config.evaluation.prevalence or prevalence
    scores, confusion, reliability = _compare(said, assumed, config.evaluation)
    by_seed = [
        {
            "seed": int(seed),
            "scores": _score(_as_table(test, {"after": _argmax(found)}), assumed),
        }
        for seed, found in zip(seeds, by_model, strict=True)
    ]
    return {
        "sentences": len(test),
        "employers": count_names(said["employer"]),
        "grouped_by": "employers" if test["employer"].notna().any() else "adverts",
        "truncated": int(tokens["test"]["truncated"].sum()),
        "labels": list(LABELS),
        "architecture": type(before).__name__,
        "head": "new, untrained" if new_head else "the checkpoint's own",
        "threshold": {"after": thresholds[0], "tfidf": cut},
        "decision": DECISIONS[thresholds[0] != 0.5].format(thresholds[0]),
        "prevalence": {
            **{part: float(found.mean()) for part, (_, found) in labelled.items()},
            "assumed": assumed,
        },
        "scores": scores,
        "confusion": confusion,
        "reliability": reliability,
        "seeds": by_seed,
        "spread": spread(by_seed),
    }, said


def _argmax(likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return likely, likely > 0.5


def _as_table(test: pd.DataFrame, systems: dict[str, tuple]) -> pd.DataFrame:
    said = pd.DataFrame(
        {
            "id": test["id"],
            "employer": test["employer"].fillna(test["advert"]),
            "label": test["label"],
        }
    )
    for system, (likely, positive) in systems.items():
        said[system] = likely
        said[f"{system} says so"] = positive
    return said.reset_index(drop=True)


def _compare(
    said: pd.DataFrame, prevalence: float, evaluation
) -> tuple[dict, dict, dict]:
    """Scores, confusion counts and reliability of the systems."""
    from ojd_daps_language_models.training.metrics import OUTCOMES, compare

    systems = [
        name for name in ("majority", "tfidf", "before", "after") if name in said
    ]
    employers, employer = np.unique(as_keys(said["employer"]), return_inverse=True)
    settings = (len(employers), evaluation.bootstrap_samples, evaluation.seed)
    found = {
        system: _statistics(said, system, employer, len(employers), prevalence)
        for system in systems
    }
    scores = {
        group: {
            measure: compare(
                {system: found[system][0][group][measure] for system in systems},
                {"change": ("after", "before"), "gain": ("after", "tfidf")},
                *settings,
            )
            for measure in measures
        }
        for group, measures in found["after"][0].items()
    }
    confusion = {
        system: dict(zip(OUTCOMES, map(int, totals.sum(axis=0)), strict=True))
        for system, (_, totals) in found.items()
    }
    reliability = {
        system: _reliability(said, system, employer, *settings)
        for system in ("tfidf", "after")
    }
    return scores, confusion, reliability


def _score(said: pd.DataFrame, prevalence: float) -> dict:
    """Values of `after` alone, by group and measure."""
    statistics, _ = _statistics(said, "after", np.zeros(len(said), int), 1, prevalence)
    return {
        group: {
            measure: float(statistic(np.ones((1, 1)))[0])
            for measure, statistic in measures.items()
        }
        for group, measures in statistics.items()
    }


def _statistics(
    said: pd.DataFrame,
    system: str,
    employer: np.ndarray,
    count: int,
    prevalence: float,
) -> tuple[dict, np.ndarray]:
    """Measures as functions of weights of employers, by group, and the outcomes."""
    from ojd_daps_language_models.training import metrics

    positive = said["label"].eq(POSITIVE).to_numpy()
    likely = said[system].to_numpy()
    totals = metrics.outcomes(
        positive, said[f"{system} says so"].to_numpy(), employer, count
    )
    errors = metrics.sum_by_group(
        employer, count, np.ones(len(said)), (likely - positive) ** 2
    )
    per_class = {
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
    }
    other = metrics.other_class(totals)
    return {
        POSITIVE: {
            **{name: metrics.of_sums(totals, m) for name, m in per_class.items()},
            "average_precision": metrics.of_items(
                metrics.average_precision, positive, likely, employer
            ),
            "precision_at_prevalence": metrics.of_sums(
                totals, metrics.precision_at(prevalence)
            ),
        },
        NEGATIVE: {name: metrics.of_sums(other, m) for name, m in per_class.items()},
        "both": {
            "accuracy": metrics.of_sums(totals, metrics.accuracy),
            "brier": metrics.of_sums(errors, metrics.mean),
        },
    }, totals


def _reliability(
    said: pd.DataFrame,
    system: str,
    employer: np.ndarray,
    count: int,
    samples: int,
    seed: int,
) -> list[dict]:
    """Share of company descriptions among sentences of like probability."""
    from ojd_daps_language_models.training import metrics

    likely = said[system].to_numpy()
    positive = said["label"].eq(POSITIVE).to_numpy()
    bins = np.minimum((likely * BINS).astype(int), BINS - 1)
    rows = []
    for at in np.unique(bins):
        here = bins == at
        sums = metrics.sum_by_group(employer[here], count, here[here], positive[here])
        observed = metrics.bootstrap(
            metrics.of_sums(sums, metrics.mean), count, samples, seed
        )
        rows.append(
            {
                "from": at / BINS,
                "to": (at + 1) / BINS,
                "sentences": int(here.sum()),
                "predicted": float(likely[here].mean()),
                "observed": observed["value"],
                "low": observed["low"],
                "high": observed["high"],
            }
        )
    return rows


def _sequences(
    tokens: dict[str, dict], sentences: pd.DataFrame, part: str, checkpoint: Path
):
    from ojd_daps_language_models.training.classification import Sequences

    labels = sentences.loc[sentences["part"] == part, "label"].eq(POSITIVE).to_numpy()
    return Sequences(Inputs(**tokens[part]), labels, checkpoint)
