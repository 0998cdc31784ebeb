"""Masked language models: their head, their loss, and the batches they read."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import log_softmax, pad
from transformers import AutoModelForMaskedLM, PreTrainedModel

from ojd_daps_language_models.preprocessing.packing import (
    Blocks,
    padded_width,
    positions_in_advert,
)
from ojd_daps_language_models.training.fit import (
    EpochOrder,
    SharingTrainer,
    group_by_length,
    load_quietly,
)
from ojd_daps_language_models.training.masking import (
    Masked,
    Vocabulary,
    mask_words,
)

HEAD_ROWS = 32  # the head reads so many places, or a multiple: see `padded_width`
_AT_ONCE = 4096  # blocks in which words are hidden once and for all


def load_masked_lm(
    folder: Path, seed: int, count_tokens: Callable[[], np.ndarray]
) -> tuple[PreTrainedModel, bool]:
    """The model of a checkpoint folder, with a new head where it brought none.

    A new head's output layer is the word embeddings (Press & Wolf, 2017), its dense
    layer starts as the identity and its bias at the log frequency of each token, so
    that training begins near the unigram model with what the encoder knows.

    Args:
        folder: what `save_pretrained` wrote.
        seed: of a new head.
        count_tokens: occurrences of each token in the training part, shape
            (vocabulary,); asked for only by a new head.

    Returns:
        The model, on the GPU where there is one, and whether its head is new.

    Raises:
        ValueError: weights of the encoder itself are missing.
    """
    torch.manual_seed(seed)  # before the model: a new head is random
    model, missing = load_quietly(AutoModelForMaskedLM, folder)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in missing & parameters.keys():
            if parameters[name].dim() == 2 and len(set(parameters[name].shape)) == 1:
                torch.nn.init.eye_(parameters[name])
        bias = getattr(model.get_output_embeddings(), "bias", None)
        if bias is not None and any(key.endswith("bias") for key in missing):
            counts = torch.as_tensor(count_tokens() + 1.0, device=bias.device)
            if bias.shape == counts.shape:
                bias.copy_((counts / counts.sum()).log())
    return model, bool(missing)


def first_position(model: PreTrainedModel) -> int:
    """Number of the first position: RoBERTa and its heirs count from padding on."""
    embeddings = getattr(model.base_model, "embeddings", None)
    positions = getattr(embeddings, "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    return 0 if padding is None else padding + 1


def keeps_adverts_apart(model: PreTrainedModel, width: int) -> bool:
    """Whether adverts in one block, long or short, are read as if each stood alone.

    Tried on this very model, since architectures differ in what they make of a
    block-diagonal mask: some refuse it, some ignore it, some lose their window by it.

    Args:
        width: of the blocks, in tokens.
    """
    ordinary = model.config.vocab_size // 2  # special tokens stand at the low end
    ids = ordinary + torch.arange(width, device=model.device)[None] % ordinary
    longer = width - min(8, width // 2)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for first in (longer, width):
                places = torch.arange(width, device=model.device)[None]
                batch = {
                    "input_ids": ids,
                    "adverts": (places >= first).long(),
                    "position_ids": places % first + first_position(model),
                }
                packed = model.base_model(**model_inputs(batch)).last_hidden_state
                for part in (slice(0, first), slice(first, width)):
                    if ids[:, part].shape[1]:
                        alone = model.base_model(ids[:, part]).last_hidden_state
                        if not torch.allclose(packed[:, part], alone, atol=1e-4):
                            return False
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        model.train(was_training)
    return True


def model_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a transformers model reads of a batch of `MaskedBlocks`.

    Packed blocks get a mask of shape (blocks, 1, width, width): a token attends to
    tokens of its own advert.
    """
    adverts = batch["adverts"]
    if "position_ids" not in batch:
        return {"input_ids": batch["input_ids"], "attention_mask": adverts >= 0}
    return {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "attention_mask": (adverts[:, None, :, None] == adverts[:, None, None, :]),
    }


@contextmanager
def head_at(model: PreTrainedModel, places: torch.Tensor):
    """Let the head of `model` see only some places of the encoder's output.

    The output layer over the whole vocabulary costs more than the encoder of a small
    model, and at six of seven tokens nothing is asked of it.

    Args:
        places: flat indices into blocks * width, shape (masked,). The logits then have
            shape (1, masked or a few more, vocabulary), theirs first.
    """
    filled = pad(places, (0, -len(places) % HEAD_ROWS))

    def select(_module, _inputs, output):
        hidden = output.last_hidden_state
        output.last_hidden_state = hidden.flatten(0, 1)[filled].unsqueeze(0)
        return output

    hook = model.base_model.register_forward_hook(select)
    try:
        yield
    finally:
        hook.remove()


class MaskedBlocks(torch.utils.data.Dataset):
    """Batches of blocks with words hidden, anew in each epoch or once and for all.

    Args:
        blocks: tokens, see `preprocessing.packing.pack`.
        vocabulary: what may be hidden.
        probability: share of words, 0 to 1.
        whole_words: hide all pieces of a word.
        first_position: of the model, for packed blocks; None where every advert begins
            a block of its own.
        frozen_seed: the same words are hidden each time, for scores that compare.
    """

    def __init__(
        self,
        blocks: Blocks,
        vocabulary: Vocabulary,
        probability: float,
        whole_words: bool,
        first_position: int | None,
        frozen_seed: int | None = None,
    ):
        self.blocks = blocks
        self.first_position, self.probability = first_position, probability
        self._hide = lambda ids, rng: mask_words(
            ids, vocabulary, probability, whole_words, rng
        )
        self.frozen = None
        if frozen_seed is not None:
            self.frozen = self._freeze(np.random.default_rng(frozen_seed))

    def __len__(self) -> int:
        return len(self.blocks)

    def lengths(self) -> list[int]:
        """Tokens in each block, padding not counted."""
        return self.blocks.sizes.tolist()

    def stretches(self) -> np.ndarray:
        """Tokens of each stretch of one advert, which attend to each other alone."""
        return self.blocks.stretches()

    def arrays(self) -> list[np.ndarray]:
        """All that batches and their order are made of, but for what is hidden."""
        blocks = self.blocks
        return [*blocks.tokens, blocks.starts, blocks.sizes, *(self.frozen or ())]

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once: `places` are those of hidden tokens, as in `head_at`,
        `labels` what stood there, both of shape (masked,)."""
        ids, adverts = self.blocks[rows]
        if self.frozen:
            read, words = self.frozen.ids[rows], self.frozen.words[rows]
        else:  # by what the epoch was seeded with, and by the blocks: see `EpochOrder`
            rng = np.random.default_rng([torch.initial_seed(), *rows])
            read, words = self._hide(ids, rng)
        if self.first_position is None:
            longest = (adverts >= 0).sum(axis=1).max()
            width = padded_width(longest, adverts.shape[1])
            ids, adverts = ids[:, :width], adverts[:, :width]
            read, words = read[:, :width], words[:, :width]
        places = np.flatnonzero(words >= 0)
        batch = {
            "input_ids": read.astype(np.int64),
            "adverts": adverts,
            "places": places,
            "labels": ids.reshape(-1)[places].astype(np.int64),
        }
        if self.first_position is not None:
            positions = positions_in_advert(adverts) + self.first_position
            batch["position_ids"] = positions
        return {name: torch.as_tensor(values) for name, values in batch.items()}

    def _freeze(self, rng: np.random.Generator) -> Masked:
        """Hide words once, some blocks at a time; what is kept takes little room."""
        read, words, count = [], [], 0
        for start in range(0, max(len(self.blocks), 1), _AT_ONCE):
            ids = self.blocks[start : start + _AT_ONCE].ids
            hidden = self._hide(ids, rng)
            read.append(hidden.ids.astype(ids.dtype))
            words.append(np.where(hidden.words < 0, -1, hidden.words + count))
            words[-1] = words[-1].astype(np.int32)
            count += hidden.words.max(initial=-1) + 1
        return Masked(np.concatenate(read), np.concatenate(words))


class SummedCrossEntropy(torch.autograd.Function):
    """Cross entropy that makes its gradient at once, where the logarithms were.

    torch's own fills two more tensors of the size of the logits on the way back. Rows
    of logits past the last label do not count.
    """

    @staticmethod
    def forward(ctx, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logs = log_softmax(logits, dim=1, dtype=torch.float32)
        right = labels[:, None]
        loss = -logs.gather(1, right).sum()
        if ctx.needs_input_grad[0]:
            logs[len(labels) :] = -torch.inf
            gradient = logs.exp_()
            gradient.scatter_add_(
                1, right, torch.full_like(right, -1, dtype=logs.dtype)
            )
            ctx.save_for_backward(gradient.to(logits.dtype))
        return loss

    @staticmethod
    def backward(ctx, of_loss: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(of_loss), None


class MaskedLMTrainer(SharingTrainer):
    """A Trainer whose loss, the mean over hidden tokens, needs no other logits."""

    @property
    def head_share(self) -> float:
        """Tokens that reach the head, of all."""
        return self.train_dataset.probability

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        with head_at(self.accelerator.unwrap_model(model), inputs["places"]):
            logits = model(**model_inputs(inputs)).logits[0]
        labels = inputs["labels"]
        loss = SummedCrossEntropy.apply(logits, labels) / max(len(labels), 1)
        return (loss, {"logits": logits[: len(labels)]}) if return_outputs else loss

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset or self.train_dataset
        sampler = super()._get_train_sampler(dataset)
        if dataset.first_position is None:
            sampler = group_by_length(self.args, dataset.lengths())
        return EpochOrder(sampler, self.args.seed)


@torch.no_grad()
def score_hidden_tokens(
    model: PreTrainedModel, dataset: MaskedBlocks, batch_size: int, bf16: bool
) -> dict[str, np.ndarray]:
    """Score a model on frozen masks.

    Returns:
        For each hidden token: `adverts`, its advert's number; `words`, its hidden
        word's; `losses`, in nats; `ranks`, of the right token among all, from 0. All of
        shape (hidden tokens,).
    """
    model.eval()
    scores = {"adverts": [], "words": [], "losses": [], "ranks": []}
    for start in range(0, len(dataset), batch_size):
        rows = list(range(start, min(start + batch_size, len(dataset))))
        batch = {
            name: values.to(model.device)
            for name, values in dataset.__getitems__(rows).items()
        }
        if not len(batch["places"]):
            continue
        with (
            head_at(model, batch["places"]),
            torch.autocast(model.device.type, torch.bfloat16, enabled=bf16),
        ):
            logits = model(**model_inputs(batch)).logits[0, : len(batch["places"])]
        logits = logits.float()
        right = logits.gather(1, batch["labels"][:, None])
        words = dataset.frozen.words[rows]
        scores["adverts"].append(dataset.blocks[rows].adverts[words >= 0])
        scores["words"].append(words[words >= 0])
        scores["losses"].append((logits.logsumexp(1) - right[:, 0]).cpu().numpy())
        # One that is no better than another, as in bf16 some are, comes behind it, and
        # what is no number last.
        ranks = (~(logits < right)).sum(1) - 1
        scores["ranks"].append(ranks.cpu().numpy())
    if not scores["losses"]:
        raise ValueError("no word is hidden: too few adverts to score on")
    return {name: np.concatenate(parts) for name, parts in scores.items()}
