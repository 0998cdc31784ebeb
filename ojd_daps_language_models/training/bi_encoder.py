"""Bi-encoders: their batches, their loss without false negatives, their training."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from sentence_transformers.sentence_transformer.modules import (
    Normalize,
    Pooling,
    Transformer,
)
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, set_seed
from transformers.utils import logging

from ojd_daps_language_models.archive import pack_folder, unpack_folder
from ojd_daps_language_models.configs import SkillTraining
from ojd_daps_language_models.training.attention import choose_attention
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints
from ojd_daps_language_models.training.classification import Sequences
from ojd_daps_language_models.training.fit import (
    EpochOrder,
    SharingTrainer,
    TrainingLog,
    run_training,
    set_dropout,
    uses_bf16,
)
from ojd_daps_language_models.training.text_pairs import (
    LengthBatches,
    TextPairs,
    features_of,
)

OWN_MODULES = "the checkpoint's own modules"
NORMALISED = f"{OWN_MODULES}, and normalisation was added, which has no weights"
ADDED_MODULES = "none: mean pooling and normalisation were added, which have no weights"


def load_bi_encoder(folder: Path) -> tuple[SentenceTransformer, str]:
    """The bi-encoder of a checkpoint folder, on the GPU where there is one.

    A plain encoder gets mean pooling and normalisation, any other the latter if it has
    none: scores are of cosines. No text gets a prompt: in training none does.

    Args:
        folder: what `save_pretrained` of transformers or sentence-transformers wrote.

    Returns:
        The model in fp32, and where what follows the encoder comes from.

    Raises:
        ValueError: weights of the encoder are missing.
    """
    logging.set_verbosity_error()  # a pooler that nothing uses is no news
    logging.disable_progress_bar()
    _require_weights(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = {"model_kwargs": {"dtype": torch.float32}}
    if (folder / "modules.json").is_file():
        found = OWN_MODULES
        model = SentenceTransformer(str(folder), device=device, **settings)
        model.default_prompt_name = None
        if not isinstance(model[-1], Normalize):
            found = NORMALISED
            model.append(Normalize())
    else:
        found = ADDED_MODULES
        set_seed(0)  # of a pooler, which is saved though nothing uses it
        encoder = Transformer(str(folder), **settings)
        pooling = Pooling(encoder.get_embedding_dimension(), "mean")
        modules = [encoder, pooling, Normalize()]
        model = SentenceTransformer(modules=modules, device=device)
    choose_attention(model[0].auto_model)
    return model, found


def pack_bi_encoder(model: SentenceTransformer, max_length: int) -> bytes:
    """The packed folder of a model; `SentenceTransformer(folder)` loads it.

    Args:
        max_length: tokens that it reads of a text.
    """
    model.max_seq_length = max_length
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, create_model_card=False)
        return pack_folder(Path(folder))


def load_packed(packed: bytes) -> SentenceTransformer:
    """The model of `pack_bi_encoder`."""
    with tempfile.TemporaryDirectory() as folder:
        return load_bi_encoder(unpack_folder(packed, Path(folder)))[0]


@torch.no_grad()
def embed(
    model: SentenceTransformer,
    texts: Sequences,
    rows: np.ndarray,
    batch_size: int,
    precision: str,
) -> np.ndarray:
    """Embeddings of some texts, of unit length, float32, shape (rows, width)."""
    model.eval()
    bf16 = uses_bf16(precision, model)  # once: it says so where the machine has none
    order = np.argsort(texts.inputs.lengths[rows], kind="stable")
    vectors = np.empty((len(rows), model.get_embedding_dimension()), np.float32)
    for start in range(0, len(rows), batch_size):
        here = order[start : start + batch_size]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            found = _embed(model, features_of(texts, rows[here]))
        vectors[here] = found.cpu().numpy()
    return vectors


class RankingLoss(torch.nn.Module):
    """Each text has to find its own name among the names of a batch.

    That is MultipleNegativesRankingLoss of sentence-transformers (Henderson et al.,
    2017) but for pairs that are known to be true: they are left out of the softmax, so
    that no gradient pushes them apart. Names have to find their texts too.

    Args:
        temperature: that cosines are divided by.
    """

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, texts: torch.Tensor, names: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """Mean over a batch.

        Args:
            texts: of unit length, shape (batch, width).
            names: likewise; the right one of each text is in its row.
            known: whether text and name are true of each other, shape (batch, batch).
        """
        # Not in bf16, which cannot tell cosines apart that differ by less than 0.004.
        with torch.autocast(texts.device.type, enabled=False):
            cosines = texts @ names.T / self.temperature
        own = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
        cosines = cosines.masked_fill(known & ~own, -torch.inf)
        right = torch.arange(len(cosines), device=cosines.device)
        return (cross_entropy(cosines, right) + cross_entropy(cosines.T, right)) / 2


class BiEncoderTrainer(SharingTrainer):
    """A Trainer on `TextPairs`.

    The one of sentence-transformers tokenizes each text anew in each epoch, pads
    batches of random lengths, and needs the package datasets.

    Args:
        loss: `RankingLoss`, or CoSENTLoss where pairs have scores.
        measure: name and function of the model that chooses the epoch.
    """

    def __init__(self, *args, loss: torch.nn.Module, measure: tuple, **kwargs):
        super().__init__(*args, **kwargs)
        self._loss, self._measure = loss, measure

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        one, other = (_embed(model, inputs[side]) for side in ("one", "other"))
        if "scores" in inputs:
            return self._loss.compute_loss_from_embeddings(
                [one, other], inputs["scores"]
            )
        return self._loss(one, other, inputs["known"])

    def evaluate(self, *args, **kwargs):
        name, function = self._measure
        found = {f"eval_{name}": function(self.model)}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, found
        )
        return found

    def _get_train_sampler(self, train_dataset=None):
        lengths = self.train_dataset.lengths()
        sampler = LengthBatches(lengths, self.args.train_batch_size)
        return EpochOrder(sampler, self.args.seed)


def fit_bi_encoder(
    model: SentenceTransformer,
    pairs: TextPairs,
    scored: bool,
    config: SkillTraining,
    epochs: int,
    seed: int,
    log: TrainingLog,
    measure: tuple[str, Callable[[SentenceTransformer], float]],
    checkpoints: TrainingCheckpoints | None = None,
) -> None:
    """Train a model and leave it as it was after the epoch best on validation.

    Args:
        scored: whether the pairs have scores (CoSENT) or are true (ranking).
        measure: name and function of the model by which the epoch is chosen, the higher
            the better.
        checkpoints: where the training is kept while it goes on.
    """
    set_seed(seed)
    set_dropout(model, config.dropout)
    encoder = model[0].auto_model
    if config.freeze_word_embeddings:
        encoder.get_input_embeddings().weight.requires_grad_(False)
    loss = RankingLoss(config.temperature)
    if scored:
        loss = CoSENTLoss(model, scale=1 / config.temperature)
    run_training(
        BiEncoderTrainer,
        model,
        config,
        epochs,
        seed,
        log,
        checkpoints,
        pairs.arrays(),
        best_by=measure[0],
        train_dataset=pairs,
        eval_dataset=pairs,  # not read: `measure` knows what to score
        loss=loss,
        measure=measure,
    )


def _require_weights(folder: Path) -> None:
    _, loading = AutoModel.from_pretrained(folder, output_loading_info=True)
    lost = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    if lost:
        raise ValueError(
            f"{folder}: {len(lost)} weights of the encoder are missing, such as "
            f"{lost[0]}; expected a complete checkpoint"
        )


def _embed(model: SentenceTransformer, features: dict) -> torch.Tensor:
    features = {name: values.to(model.device) for name, values in features.items()}
    return normalize(model(features)["sentence_embedding"].float(), dim=-1)
