"""Masked language modelling: adapt an encoder to the language of adverts."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.preprocessing.packing import (
    Tokens,
    encode,
    load_tokenizer,
    pack,
)
from ojd_daps_language_models.preprocessing.splits import PARTS
from ojd_daps_language_models.progress import progress_bar


def tokenize(adverts: pd.DataFrame, checkpoint: Path) -> dict[str, dict]:
    """Tokenize the adverts of each part.

    Args:
        adverts: columns `text` and `part`.
        checkpoint: folder with a `tokenizer.json`.

    Returns:
        For each part the fields of `preprocessing.packing.Tokens`.
    """
    tokenizer = load_tokenizer(checkpoint)
    tokens = {}
    for part in PARTS:
        texts = adverts.loc[adverts["part"] == part, "text"]
        bar = progress_bar(f"tokenizing {part}", "advert", len(texts), texts)
        tokens[part] = encode(bar, tokenizer)._asdict()
    return tokens


def train(
    tokens: dict[str, dict],
    checkpoint: Path,
    config: MLMConfig,
    epochs: int,
    seed: int,
    on_row: Callable[[list[dict], int], None] | None = None,
) -> tuple[bytes, pd.DataFrame]:
    """Train on the training part and keep the epoch that is best on validation.

    Args:
        tokens: of each part, from `tokenize`.
        checkpoint: folder of the model to start from.
        epochs: 0 gives the checkpoint back, with a head.
        on_row: called with all rows of the log so far and the number of steps.

    Returns:
        The packed `save_pretrained` folder, and the log: step, epoch, seconds, loss,
        validation_loss.
    """
    from transformers import AutoTokenizer, PrinterCallback

    from ojd_daps_language_models.archive import pack_folder
    from ojd_daps_language_models.training.fit import (
        TrainingLog,
        set_dropout,
        training_arguments,
    )
    from ojd_daps_language_models.training.masked_lm import MaskedLMTrainer

    model, _ = _load(checkpoint, tokens, seed)
    set_dropout(model, config.training.dropout)
    log = TrainingLog(on_row)
    with tempfile.TemporaryDirectory() as folder:
        if epochs:
            trainer = MaskedLMTrainer(
                model,
                training_arguments(config.training, epochs, seed, Path(folder)),
                data_collator=_as_it_is,
                train_dataset=_blocks(tokens["train"], checkpoint, model, config),
                eval_dataset=_blocks(
                    tokens["validation"], checkpoint, model, config, frozen=True
                ),
                callbacks=[log],
            )
            trainer.remove_callback(PrinterCallback)  # the log has its own lines
            trainer.train()
        saved = Path(folder) / "model"
        model.save_pretrained(saved)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(saved)
        return pack_folder(saved), pd.DataFrame(log.rows)


def evaluate(
    tokens: dict[str, dict],
    checkpoint: Path,
    model: bytes,
    config: MLMConfig,
    seed: int,
) -> dict:
    """Score the model on hidden words of the test part, beside checkpoint and floor.

    The same words are hidden from all three. Perplexity is over hidden tokens, accuracy
    over hidden words: a word is right at k if each of its tokens is among the k
    likeliest.

    Returns:
        `scores`: measure -> system (`after`, `before`, `floor`, and `change`, which is
        after minus before) -> value, low, high; `head`: where the checkpoint's head
        came from; `by_pieces`: accuracy at 1 of words by their number of tokens;
        `fill_mask`: the likeliest words for the sentences of the configuration; counts
        of what was scored.
    """
    from ojd_daps_language_models.archive import unpack_folder
    from ojd_daps_language_models.training.baselines import unigram_scores
    from ojd_daps_language_models.training.fit import uses_bf16
    from ojd_daps_language_models.training.masked_lm import score_hidden_tokens

    bf16 = uses_bf16(config.training.precision)
    batch_size = config.training.batch_size
    before, new_head = _load(checkpoint, tokens, seed)
    test = _blocks(tokens["test"], checkpoint, before, config, frozen=True)
    hidden = {"before": score_hidden_tokens(before, test, batch_size, bf16)}
    with tempfile.TemporaryDirectory() as folder:
        after, _ = _load(unpack_folder(model, Path(folder)), tokens, seed)
    hidden["after"] = score_hidden_tokens(after, test, batch_size, bf16)
    labels = test.blocks.ids[test.frozen.words >= 0]
    losses, ranks = unigram_scores(labels, _token_counts(tokens, checkpoint))
    hidden["floor"] = {**hidden["after"], "losses": losses, "ranks": ranks}

    count = len(tokens["test"]["lengths"])
    sums = {name: _sums_by_advert(scores, count) for name, scores in hidden.items()}
    return {
        "adverts": count,
        "hidden_tokens": len(labels),
        "hidden_words": int(sums["after"][:, 2].sum()),
        "head": "new, untrained" if new_head else "the checkpoint's own",
        "scores": _compare(sums, config),
        "by_pieces": _accuracy_by_pieces(hidden),
        "fill_mask": _fill_mask(config, checkpoint, before=before, after=after),
    }


MEASURES = {  # from totals of: tokens, loss, words, words right at 1, at 5
    "perplexity": lambda totals: np.exp(totals[..., 1] / totals[..., 0]),
    "accuracy_at_1": lambda totals: totals[..., 3] / totals[..., 2],
    "accuracy_at_5": lambda totals: totals[..., 4] / totals[..., 2],
}


def _compare(sums: dict[str, np.ndarray], config: MLMConfig) -> dict:
    from ojd_daps_language_models.training.metrics import compare, of_sums

    return {
        measure: compare(
            {
                system: of_sums(sums[system], statistic)
                for system in ("after", "before", "floor")
            },
            {"change": ("after", "before")},
            len(sums["after"]),
            config.evaluation.bootstrap_samples,
            config.evaluation.seed,
        )
        for measure, statistic in MEASURES.items()
    }


def _sums_by_advert(scores: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Totals per advert in the order of `MEASURES`, shape (adverts, 5)."""
    worst, first, _ = _by_word(scores)
    advert_of_word = scores["adverts"][first]

    def add(adverts, values=None):
        return np.bincount(adverts, values, minlength=count)

    return np.column_stack(
        [
            add(scores["adverts"]),
            add(scores["adverts"], scores["losses"]),
            add(advert_of_word),
            add(advert_of_word, worst < 1),
            add(advert_of_word, worst < 5),
        ]
    )


def _by_word(scores: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """For each hidden word: its worst token's rank, its first token's place among the
    hidden ones, and its number of tokens."""
    _, first, word, pieces = np.unique(
        scores["words"], return_index=True, return_inverse=True, return_counts=True
    )
    worst = np.zeros(len(first), np.int64)
    np.maximum.at(worst, word, scores["ranks"])
    return worst, first, pieces


def _accuracy_by_pieces(hidden: dict[str, dict]) -> list[dict]:
    rows = []
    for system, scores in hidden.items():
        worst, _, pieces = _by_word(scores)
        for label, here in (
            ("1 token", pieces == 1),
            ("2 tokens", pieces == 2),
            ("3 or more", pieces > 2),
        ):
            if here.any():
                share = float((worst[here] < 1).mean())
                words = int(here.sum())
                rows.append(
                    {"pieces": label, "system": system, "words": words, "right": share}
                )
    return rows


def _load(checkpoint: Path, tokens: dict[str, dict], seed: int):
    from ojd_daps_language_models.training.masked_lm import load_masked_lm

    return load_masked_lm(checkpoint, seed, lambda: _token_counts(tokens, checkpoint))


def _token_counts(tokens: dict[str, dict], checkpoint: Path) -> np.ndarray:
    """Occurrences in the training part of tokens that may be hidden."""
    from transformers import AutoConfig, AutoTokenizer

    size = AutoConfig.from_pretrained(checkpoint).vocab_size
    counts = np.bincount(tokens["train"]["ids"], minlength=size)
    counts[AutoTokenizer.from_pretrained(checkpoint).all_special_ids] = 0
    return counts


def _blocks(
    tokens: dict, checkpoint: Path, model, config: MLMConfig, frozen: bool = False
):
    from transformers import AutoTokenizer

    from ojd_daps_language_models.training.masked_lm import (
        MaskedBlocks,
        first_position,
        keeps_adverts_apart,
    )
    from ojd_daps_language_models.training.masking import vocabulary_of

    largest = tokens["ids"].max(initial=0)
    if largest >= model.config.vocab_size:
        raise ValueError(
            f"{checkpoint}: its tokenizer gave token {largest}, but its model knows "
            f"{model.config.vocab_size}; expected a tokenizer of that model"
        )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    apart = keeps_adverts_apart(model, config.training.block_size)
    return MaskedBlocks(
        pack(
            Tokens(**tokens),
            config.training.block_size,
            tokenizer.pad_token_id,
            separate=not apart,
        ),
        vocabulary_of(tokenizer),
        config.masking.probability,
        config.masking.whole_words,
        first_position(model) if apart else None,
        config.evaluation.seed if frozen else None,
    )


def _fill_mask(config: MLMConfig, checkpoint: Path, **models) -> list[dict]:
    """For each sentence and model the five likeliest words with their probabilities."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    examples = []
    for sentence in config.evaluation.fill_mask:
        text = sentence.replace("[MASK]", tokenizer.mask_token)
        batch = tokenizer(text, return_tensors="pt")
        place = batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        example = {"sentence": sentence}
        for name, model in models.items():
            with torch.no_grad():
                logits = model(**batch.to(model.device)).logits[0, place]
            likeliest = logits.float().softmax(-1).topk(5)
            example[name] = [
                (tokenizer.decode([token]).strip(), round(float(share), 4))
                for token, share in zip(
                    likeliest.indices, likeliest.values, strict=True
                )
            ]
        examples.append(example)
    return examples


def _as_it_is(batch):
    return batch
