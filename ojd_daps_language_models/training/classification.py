"""Classifiers of sentences and of pairs: their head, their batches, their training."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForNextSentencePrediction,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    set_seed,
)

from ojd_daps_language_models.archive import pack_folder, unpack_folder
from ojd_daps_language_models.configs import Training
from ojd_daps_language_models.preprocessing.packing import Inputs, padded_width
from ojd_daps_language_models.preprocessing.pair_tokens import SentencePairs
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints
from ojd_daps_language_models.training.fit import (
    EpochOrder,
    SharingTrainer,
    TrainingLog,
    group_by_length,
    load_quietly,
    run_training,
    set_dropout,
    size_of_step,
    uses_bf16,
)
from ojd_daps_language_models.training.tokenizers import load_published_tokenizer

BATCHES_SORTED = 25  # by length at a time: more pad less, and mix less
NOT_SCORED = -100  # the class of a token that no loss counts


def load_classifier(
    folder: Path, labels: Sequence[str], seed: int, pairs: bool = False
) -> tuple[PreTrainedModel, bool]:
    """The model of a checkpoint folder with a head for these labels.

    A head for other labels is not taken over: another task's answers are no beginning.

    Args:
        folder: what `save_pretrained` wrote.
        labels: names of the classes, in the order of the model's outputs.
        seed: of a new head.
        pairs: take the head for next-sentence prediction where the architecture has
            one; where it has none, a classifier reads pairs as well.

    Returns:
        The model, on the GPU where there is one, and whether its head is new.

    Raises:
        ValueError: weights of the encoder itself are missing.
    """
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    own = AutoConfig.from_pretrained(folder)
    with_head = AutoModelForSequenceClassification
    known = own.label2id == names["label2id"]
    if pairs and type(own) in AutoModelForNextSentencePrediction._model_mapping:
        with_head, known = AutoModelForNextSentencePrediction, True
    set_seed(seed)  # before the model: a new head is random
    model, missing = load_quietly(
        with_head, folder, num_labels=len(labels), ignore_mismatched_sizes=True, **names
    )
    head = [key for key in missing if not key.startswith(model.base_model_prefix)]
    if not known and not head:
        begin_anew(model)
    return model, bool(head) or not known


def begin_anew(model: PreTrainedModel) -> None:
    """Draw the weights of everything but the encoder again."""
    inside = set(model.base_model.modules())
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module not in inside:
            module.weight.data.normal_(std=model.config.initializer_range)
            if module.bias is not None:
                module.bias.data.zero_()


def describe_architecture(model: PreTrainedModel) -> str:
    """The class of a model of sentence pairs, and what it means if it is no BERT."""
    name = type(model).__name__
    if name.endswith("ForNextSentencePrediction"):
        return name
    return (
        f"{name}, a two-label classifier of sentence pairs: this architecture has no "
        "next-sentence head"
    )


class Sequences(torch.utils.data.Dataset):
    """Sentences or pairs in batches, each padded to its longest or a little more: see
    `preprocessing.packing.padded_width`.

    Args:
        inputs: of `preprocessing.packing.encode_inputs`.
        labels: class of each, shape (inputs,).
        checkpoint: folder whose tokenizer made the inputs.
        twins: number of each one's twin, shape (inputs,): see `TwinSampler`.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: np.ndarray,
        checkpoint: Path,
        twins: np.ndarray | None = None,
    ):
        tokenizer = load_published_tokenizer(checkpoint)
        self.inputs = inputs
        self.labels = labels
        self.twins = twins
        self._padding = tokenizer.pad_token_id
        self._types = "token_type_ids" in tokenizer.model_input_names

    def __len__(self) -> int:
        return len(self.labels)

    def lengths(self) -> list[int]:
        """Tokens of each, special ones included."""
        return self.inputs.lengths.tolist()

    def arrays(self) -> list[np.ndarray]:
        """All that batches and their order are made of."""
        twins = [] if self.twins is None else [self.twins]
        return [*self.inputs, self.labels, *twins]

    def __getitems__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once, each tensor of shape (batch, width), but for `labels`
        of shape (batch,)."""
        rows = np.asarray(rows)
        real = self._real(rows)
        ids = np.full(real.shape, self._padding, np.int64)
        ids[real] = self._tokens(rows, real)
        batch = {
            "input_ids": ids,
            "attention_mask": real.astype(np.int64),
            "labels": self.labels[rows].astype(np.int64),
        }
        if self._types:
            columns = np.arange(real.shape[1])
            second = columns >= self.inputs.first_lengths[rows][:, None]
            batch["token_type_ids"] = (real & second).astype(np.int64)
        return {name: torch.as_tensor(values) for name, values in batch.items()}

    def _real(self, rows: np.ndarray) -> np.ndarray:
        """Which tokens of a batch are no padding, (batch, width)."""
        lengths = self.inputs.lengths[rows][:, None]
        return np.arange(padded_width(lengths.max(), self._longest)) < lengths

    def _tokens(self, rows: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Tokens of a batch, one row after the other."""
        return self.inputs.ids[self._places(rows, real)]

    def _places(self, rows: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Where the tokens of a batch stand, one row after the other."""
        return (self._starts[rows][:, None] + np.arange(real.shape[1]))[real]

    @cached_property
    def _longest(self) -> int:
        return self.inputs.lengths.max()

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.inputs.lengths) - self.inputs.lengths

    def subset(self, rows: np.ndarray) -> torch.utils.data.Subset:
        """Some of them, in the order given."""
        return torch.utils.data.Subset(self, rows)


class JoinedSequences(Sequences):
    """Pairs in batches, put together of the tokens of their sentences.

    Args:
        pairs: of `preprocessing.pair_tokens.join_pairs`.
        labels: see `Sequences`; the others likewise.
    """

    def __init__(
        self,
        pairs: SentencePairs,
        labels: np.ndarray,
        checkpoint: Path,
        twins: np.ndarray | None = None,
    ):
        super().__init__(pairs.inputs, labels, checkpoint, twins)
        self._pairs = pairs

    def arrays(self) -> list[np.ndarray]:
        return [*super().arrays(), *self._pairs.arrays()]

    def _tokens(self, rows: np.ndarray, real: np.ndarray) -> np.ndarray:
        return self._pairs.tokens(rows)


class TwinSampler(torch.utils.data.Sampler):
    """Batches of like lengths, in random order, with both twins in the same one.

    Twins are pairs that have the first sentence in common: one goes on with its true
    successor, the other with another sentence. What the first sentence says cancels out
    in the gradient of their batch, and what is left is how well the second ones follow.
    Apart, a small encoder learns far less from some thousand pairs.

    Args:
        lengths: tokens of each, shape (inputs,).
        twins: number of each one's twin, shape (inputs,).
        batch_size: of an optimiser step, even.
    """

    def __init__(self, lengths: np.ndarray, twins: np.ndarray, batch_size: int):
        own = np.arange(len(twins), dtype=np.int32)
        self._first = own[own < twins]
        self._lengths, self._twins = lengths, twins
        self._per_batch = batch_size // 2

    def __len__(self) -> int:
        return 2 * len(self._first)

    def __iter__(self) -> Iterator[int]:
        # torch's generator: see `EpochOrder`
        first = self._first[torch.randperm(len(self._first)).numpy()]
        stretch = self._per_batch * BATCHES_SORTED
        for start in range(0, len(first), stretch):
            own = first[start : start + stretch]
            longer = np.maximum(self._lengths[own], self._lengths[self._twins[own]])
            by_length = np.argsort(-longer.astype(np.int32), kind="stable")
            first[start : start + stretch] = own[by_length]
        whole = len(first) // self._per_batch
        # A short batch is the last one, lest it shift all that follow.
        for batch in [*torch.randperm(whole).tolist(), whole]:
            start = batch * self._per_batch
            own = first[start : start + self._per_batch]
            yield from np.column_stack([own, self._twins[own]]).ravel().tolist()


class SequenceTrainer(SharingTrainer):
    """A Trainer on `Sequences`, with batches of like lengths.

    Args:
        class_weights: of each class in the training loss, shape (classes,); 1 in the
            mean of the inputs.
        r_drop: weight in the training loss of how much two readings of a batch differ,
            each with a dropout of its own (Liang et al., 2021); 0: it is read once.
    """

    def __init__(
        self,
        *args,
        class_weights: torch.Tensor | None = None,
        r_drop: float = 0.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self._class_weights = class_weights
        self._r_drop = r_drop

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        read_twice = model.training and self._r_drop
        if read_twice:
            inputs = {name: torch.cat([rows, rows]) for name, rows in inputs.items()}
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits.float()
        if model.training and self._class_weights is not None:
            # Divided by the labels, not by their weights: a batch of one class alone
            # would else count as much as if there were no weights.
            weights = self._class_weights.to(labels.device)
            loss = cross_entropy(logits, labels, weights, reduction="sum")
            loss = loss / len(labels)
        else:
            loss = cross_entropy(
                logits.flatten(0, -2), labels.flatten(), reduction="sum"
            )
            loss = loss / (labels != NOT_SCORED).sum().clamp(min=1)
        if read_twice:
            loss = loss + self._r_drop * disagreement(logits, labels)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset or self.train_dataset
        if dataset.twins is None:
            sampler = group_by_length(self.args, dataset.lengths())
        else:
            size = size_of_step(self.args)
            sampler = TwinSampler(dataset.inputs.lengths, dataset.twins, size)
        return EpochOrder(sampler, self.args.seed)


def disagreement(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How much the two halves of a batch, which hold the same inputs, differ: the mean
    of the Kullback-Leibler divergences from one to the other and back, in nats.

    Args:
        logits: float, shape (batch, …, classes).
        labels: int64, shape (batch, …); those `NOT_SCORED` do not count.
    """
    one, other = logits.log_softmax(-1).chunk(2)
    divergence = ((one.exp() - other.exp()) * (one - other)).sum(-1) / 2
    scored = labels.chunk(2)[0] != NOT_SCORED
    return (divergence * scored).sum() / scored.sum().clamp(min=1)


def fit_classifier(
    model: PreTrainedModel,
    train: Sequences,
    validation: Sequences,
    config: Training,
    epochs: int,
    seed: int,
    log: TrainingLog,
    class_weights: Sequence[float] | None = None,
    measure: tuple[str, Callable[[np.ndarray, np.ndarray], float]] | None = None,
    checkpoints: TrainingCheckpoints | None = None,
    r_drop: float = 0.0,
) -> None:
    """Train a model and leave it as it was after the epoch best on validation.

    Args:
        class_weights: of each class in the training loss.
        measure: name and function of labels and logits, in the order of `validation`,
            by which the epoch is chosen, the higher the better; the loss on validation,
            if not given.
        checkpoints: where the training is kept while it goes on.
        r_drop: see `SequenceTrainer`.
    """
    set_dropout(model, config.dropout)
    if config.freeze_word_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    name, function = measure or ("loss", None)
    # By length, so that little is padded: the order of scoring does not matter.
    by_length = np.argsort(validation.inputs.lengths, kind="stable")
    back = np.argsort(by_length)

    def score(found) -> dict[str, float]:
        return {name: function(found.label_ids[back], found.predictions[back])}

    run_training(
        SequenceTrainer,
        model,
        config,
        epochs,
        seed,
        log,
        checkpoints,
        [*train.arrays(), *validation.arrays()],
        best_by=name,
        train_dataset=train,
        eval_dataset=validation.subset(by_length),
        compute_metrics=score if function else None,
        class_weights=class_weights and torch.tensor(class_weights),
        r_drop=r_drop,
    )


def pack_model(model: PreTrainedModel, checkpoint: Path, max_length: int) -> bytes:
    """The packed `save_pretrained` folder of a model with the checkpoint's tokenizer.

    Args:
        max_length: tokens that it was trained on; a pipeline with `truncation=True`
            reads as many.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.model_max_length = max_length
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return pack_folder(Path(folder))


def score_sequences(
    model: PreTrainedModel, sequences: Sequences, batch_size: int, precision: str
) -> np.ndarray:
    """Logits of a model, float32, shape (inputs, classes)."""
    logits = np.empty((len(sequences), model.config.num_labels), np.float32)
    for rows, said in iter_logits(model, sequences, batch_size, precision):
        logits[rows] = said
    return logits


@torch.no_grad()
def iter_logits(
    model: PreTrainedModel, sequences: Sequences, batch_size: int, precision: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers and logits of the inputs of each batch, of like lengths."""
    model.eval()
    bf16 = uses_bf16(precision, model)  # once: it says so where the machine has none
    order = np.argsort(sequences.inputs.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = sequences.__getitems__(rows)
        del batch["labels"]
        batch = {name: values.to(model.device) for name, values in batch.items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            logits = model(**batch).logits
        yield rows, logits.float().cpu().numpy()


def score_packed(
    model: bytes,
    labels: Sequence[str],
    sequences: Sequences,
    batch_size: int,
    precision: str,
    pairs: bool = False,
) -> np.ndarray:
    """Logits of a model of `pack_model`: see `load_classifier`, `score_sequences`."""
    with tempfile.TemporaryDirectory() as folder:
        loaded, _ = load_classifier(
            unpack_folder(model, Path(folder)), labels, 0, pairs=pairs
        )
    return score_sequences(loaded, sequences, batch_size, precision)


def probabilities(logits: np.ndarray, label: int) -> np.ndarray:
    """What a model of two classes gives one of them, float64, shape (inputs,)."""
    margin = (logits[:, label] - logits[:, 1 - label]).astype(np.float64)
    return 1 / (1 + np.exp(-margin))


def move_threshold(model: PreTrainedModel, threshold: float) -> bool:
    """Let a model of two classes choose label 1 from probability `threshold` on.

    The bias of its output layer is shifted, so that what had this probability has one
    half. Whoever takes the likelier label then decides by this threshold.

    Returns:
        Whether it could be done: not every architecture ends in a layer with a bias.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == 2
        and module.bias is not None
    ]
    if not layers:
        return False
    layers[-1].bias.data[1] -= float(np.log(threshold / (1 - threshold)))
    return True
