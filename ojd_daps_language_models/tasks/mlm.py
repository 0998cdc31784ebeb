"""Masked language modelling: adapt an encoder to the language of adverts."""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.preprocessing.packing import (
    Tokens,
    count_tokens,
    load_tokenizer,
    pack,
)
from ojd_daps_language_models.preprocessing.token_files import (
    encode_to_file,
    read_tokens,
)
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.stores import Store
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints


def tokenize(
    texts: Mapping[str, Collection[str]],
    checkpoint: Path,
    store: Store | None = None,
    name: str = "tokens",
) -> dict[str, dict]:
    """Tokenize the adverts of each part.

    Args:
        texts: of each part.
        checkpoint: folder with a `tokenizer.json`.
        store: for a file of each part; None: all is kept in memory.
        name: of the folder there.

    Returns:
        For each part what `preprocessing.token_files.open_tokens` asks for.
    """
    tokenizer = load_tokenizer(checkpoint)
    tokens = {}
    for part, own in texts.items():
        bar = progress_bar(f"tokenizing {part}", "advert", len(own), own)
        tokens[part] = encode_to_file(bar, tokenizer, store, f"{name}/{part}.bin")
    return tokens


def train(
    tokens: dict[str, dict],
    checkpoint: Path,
    config: MLMConfig,
    epochs: int,
    seed: int,
    on_row: Callable[[list[dict], int], None] | None = None,
    checkpoints: TrainingCheckpoints | None = None,
) -> tuple[bytes, pd.DataFrame]:
    """Train on the training part and keep the epoch that is best on validation.

    Args:
        tokens: of each part, see `preprocessing.token_files.open_tokens`.
        checkpoint: folder of the model to start from.
        epochs: 0 gives the checkpoint back, with a head.
        on_row: called with all rows of the log so far and the number of steps.
        checkpoints: where the training is kept while it goes on.

    Returns:
        The packed `save_pretrained` folder, and the log: step, epoch, seconds, loss,
        validation_loss.
    """
    from transformers import AutoTokenizer

    from ojd_daps_language_models.archive import pack_folder
    from ojd_daps_language_models.training.fit import (
        TrainingLog,
        run_training,
        set_dropout,
    )
    from ojd_daps_language_models.training.masked_lm import MaskedLMTrainer

    model, _ = _load(checkpoint, tokens, seed)
    set_dropout(model, config.training.dropout)
    log = TrainingLog(on_row)
    if epochs:
        read = _reader(checkpoint, model, config)
        training = read(read_tokens(tokens["train"]))
        validation = read(read_tokens(tokens["validation"]), frozen=True)
        run_training(
            MaskedLMTrainer,
            model,
            config.training,
            epochs,
            seed,
            log,
            checkpoints,
            [*training.arrays(), *validation.arrays()],
            train_dataset=training,
            eval_dataset=validation,
        )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
        return pack_folder(Path(folder)), pd.DataFrame(log.rows)


def evaluate(
    tokens: dict[str, dict],
    checkpoint: Path,
    model: bytes,
    config: MLMConfig,
    seed: int,
    training_texts: Collection[str],
    phone_regions: Sequence[str],
) -> dict:
    """Score the model on hidden words of the test part, beside checkpoint and floor.

    The same words are hidden from all three. Perplexity is over hidden tokens, accuracy
    over hidden words: a word is right at k if each of its tokens is among the k
    likeliest.

    Args:
        tokens: of each part, see `preprocessing.token_files.open_tokens`.
        checkpoint: folder of the model before training.
        model: packed folder, from `train`.
        seed: of a new head.
        training_texts: adverts of the training part, in the order of their tokens.
        phone_regions: whose national telephone numbers were replaced in them.

    Returns:
        `scores`: measure -> system (`after`, `before`, `floor`, and `change`, which is
        after minus before) -> value, low, high; `head`: where the checkpoint's head
        came from; `by_pieces`: accuracy at 1 of words by their number of tokens;
        `fill_mask`: the likeliest words for the sentences of the configuration; counts
        of what was scored; `memorisation`, unless `audit_adverts` is 0: `scores` (none
        of them is one of quality), `adverts` compared, `slots` (see
        `training.memorisation.try_slots`) and `method`.
    """
    from ojd_daps_language_models.archive import unpack_folder
    from ojd_daps_language_models.training.baselines import unigram_scores
    from ojd_daps_language_models.training.fit import uses_bf16
    from ojd_daps_language_models.training.masked_lm import score_hidden_tokens

    batch_size = config.training.batch_size
    before, new_head = _load(checkpoint, tokens, seed)
    bf16 = uses_bf16(config.training.precision, before)
    read = _reader(checkpoint, before, config)
    test = read(read_tokens(tokens["test"]), frozen=True)
    hidden = {"before": score_hidden_tokens(before, test, batch_size, bf16)}
    with tempfile.TemporaryDirectory() as folder:
        after, _ = _load(unpack_folder(model, Path(folder)), tokens, seed)
    hidden["after"] = score_hidden_tokens(after, test, batch_size, bf16)
    labels = test.blocks[:].ids[test.frozen.words >= 0]
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
        **_audit(
            tokens,
            hidden,
            read,
            before,
            after,
            checkpoint,
            config,
            training_texts,
            phone_regions,
        ),
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
    counts = count_tokens(read_tokens(tokens["train"]).ids, size)
    counts[AutoTokenizer.from_pretrained(checkpoint).all_special_ids] = 0
    return counts


def _reader(checkpoint: Path, model, config: MLMConfig) -> Callable:
    """A function from tokens, and whether the same words are hidden each time, to the
    blocks that the model reads."""
    from ojd_daps_language_models.training.masked_lm import (
        MaskedBlocks,
        first_position,
        keeps_adverts_apart,
    )
    from ojd_daps_language_models.training.masking import vocabulary_of
    from ojd_daps_language_models.training.tokenizers import load_published_tokenizer

    tokenizer = load_published_tokenizer(checkpoint)
    vocabulary = vocabulary_of(tokenizer)
    width = config.training.block_size
    apart = keeps_adverts_apart(model, width)

    def read(tokens: Tokens, frozen: bool = False) -> MaskedBlocks:
        largest = tokens.ids.max(initial=0)
        if largest >= model.config.vocab_size:
            raise ValueError(
                f"{checkpoint}: its tokenizer gave token {largest}, but its model "
                f"knows {model.config.vocab_size}; expected a tokenizer of that model"
            )
        return MaskedBlocks(
            pack(tokens, width, tokenizer.pad_token_id, separate=not apart),
            vocabulary,
            config.masking.probability,
            config.masking.whole_words,
            first_position(model) if apart else None,
            config.evaluation.seed if frozen else None,
        )

    return read


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


def _audit(
    tokens: dict[str, dict],
    hidden: dict[str, dict],
    read: Callable,
    before,
    after,
    checkpoint: Path,
    config: MLMConfig,
    texts: Collection[str],
    phone_regions: Sequence[str],
) -> dict:
    """What the model remembers of training adverts; nothing where nobody asks.

    Args:
        hidden: scores of both models on the test part.
        read: from `_reader`.
        texts: of the training part.
        phone_regions: as of `evaluate`.
    """
    from transformers import AutoTokenizer

    from ojd_daps_language_models.training.fit import uses_bf16
    from ojd_daps_language_models.training.masked_lm import score_hidden_tokens
    from ojd_daps_language_models.training.memorisation import (
        METHOD,
        draw_adverts,
        fill,
        loss_falls,
        membership_scores,
        offsets_in_blocks,
        pick,
        try_slots,
    )

    asked = config.evaluation
    if not asked.audit_adverts:
        return {}
    batch_size = config.training.batch_size
    bf16 = uses_bf16(config.training.precision, after)
    train, test = (read_tokens(tokens[part]) for part in ("train", "test"))
    members, others = draw_adverts(
        len(train.lengths), len(test.lengths), asked.audit_adverts, asked.seed
    )
    blocks = read(pick(train, members), frozen=True)
    held_out = loss_falls(hidden, len(test.lengths))[others]
    if np.isnan(held_out).all() or (blocks.frozen.words < 0).all():
        print("memorisation: not audited, for no word of the adverts drawn is hidden")
        return {}
    seen = {
        name: score_hidden_tokens(model, blocks, batch_size, bf16)
        for name, model in (("before", before), ("after", after))
    }
    scores, compared = membership_scores(
        loss_falls(seen, len(members)), held_out, asked.bootstrap_samples, asked.seed
    )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    width, first = config.training.block_size, blocks.first_position
    back, slots = try_slots(
        partial(
            *(fill, after, tokenizer, width, first), batch_size=batch_size, bf16=bf16
        ),
        tokenizer,
        texts,
        members,
        offsets_in_blocks(train, members, width, separate=first is None),
        width,
        phone_regions,
        asked.seed,
    )
    scores |= back
    audit = {"scores": scores, "adverts": compared, "slots": slots, "method": METHOD}
    return {"memorisation": audit}
