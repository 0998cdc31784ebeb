"""What is known to be true is never pushed apart, and ranks are what they should be."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CoSENTLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from ojd_daps_language_models.archive import pack_folder, unpack_folder
from ojd_daps_language_models.configs import SkillTraining
from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.preprocessing.packing import encode_inputs, load_tokenizer
from ojd_daps_language_models.training.baselines import embed_tfidf
from ojd_daps_language_models.training.bi_encoder import (
    ADDED_MODULES,
    NORMALISED,
    OWN_MODULES,
    RankingLoss,
    embed,
    fit_bi_encoder,
    load_bi_encoder,
    load_packed,
    pack_bi_encoder,
)
from ojd_daps_language_models.training.classification import Sequences
from ojd_daps_language_models.training.fit import TrainingLog
from ojd_daps_language_models.training.ranking import (
    rank_answers,
    score_queries,
    spearman,
)
from ojd_daps_language_models.training.text_pairs import (
    KnownTruths,
    LengthBatches,
    TextPairs,
)

TEXTS = ["python", "java", "cleaning of machines", "managing a team of people"]


def unit(rows: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


def sequences(folder, texts) -> Sequences:
    inputs = encode_inputs(texts, load_tokenizer(folder), 32)
    return Sequences(inputs, np.zeros(len(texts)), folder)


# The loss


def test_a_pair_that_is_known_to_be_true_gets_no_gradient():
    texts, names = unit(4, 0).requires_grad_(), unit(4, 1).requires_grad_()
    known = torch.eye(4, dtype=torch.bool)
    known[0, 2] = True
    RankingLoss(0.05)(texts, names, known).backward()
    with_it = texts.grad[0].clone()

    # Moving the name of row 2 changes nothing for text 0: it is no negative of it.
    moved = names.detach().clone()
    moved[2] = unit(1, 7)[0]
    texts.grad = None
    RankingLoss(0.05)(texts, moved, known).backward()
    assert torch.allclose(texts.grad[0], with_it)

    texts.grad = None
    RankingLoss(0.05)(texts, moved, torch.eye(4, dtype=torch.bool)).backward()
    assert not torch.allclose(texts.grad[0], with_it)


def test_without_known_pairs_it_is_the_symmetric_loss_of_sentence_transformers():
    texts, names = unit(6, 2), unit(6, 3)
    peer = MultipleNegativesRankingLoss(
        None,
        scale=20,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    expected = peer.compute_loss_from_embeddings([texts, names], None)
    found = RankingLoss(0.05)(texts, names, torch.zeros(6, 6, dtype=torch.bool))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_shared_labels_related_skills_and_sentences_of_several_are_known():
    """Texts 0 to 4: a label of skills 0 and 1, their names, one of 2, a sentence."""
    owners = pd.DataFrame(
        [(0, 0), (0, 1), (1, 0), (2, 1), (3, 2), (4, 0), (4, 2)],
        columns=["text", "skill"],
    )
    nothing = pd.DataFrame({"skill": [], "other": []}, dtype=int)
    rows, names = np.arange(5), np.array([1, 2, 3])
    known = KnownTruths(owners, nothing, 5, 3).between(rows, names)
    assert known.tolist() == [
        [True, True, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
        [True, False, True],
    ]
    related = pd.DataFrame({"skill": [1, 2], "other": [2, 1]})
    known = KnownTruths(owners, related, 5, 3).between(rows, names)
    assert known[2].tolist() == [False, True, True]
    assert known[1].tolist() == [True, False, False]


def test_a_batch_carries_what_is_known_of_its_pairs(tiny_bert):
    texts = sequences(tiny_bert, TEXTS)
    owners = pd.DataFrame({"text": [0, 1, 2, 3], "skill": [0, 1, 0, 1]})
    known = KnownTruths(owners, owners[:0].assign(other=0), 4, 2)
    pairs = pd.DataFrame({"text": [0, 3], "other": [2, 1], "score": np.nan})
    batch = TextPairs(texts, pairs, known).__getitems__([1, 0])
    assert batch["known"].tolist() == [[True, False], [False, True]]
    assert batch["one"]["input_ids"].shape[0] == 2
    # each side is padded to its own longest
    assert batch["one"]["input_ids"].shape[1] == texts.inputs.lengths[3]
    assert batch["other"]["input_ids"].shape[1] == texts.inputs.lengths[2]


def test_batches_hold_every_pair_once_and_like_lengths():
    lengths = np.random.default_rng(0).integers(5, 60, 1000)
    order = np.array(list(LengthBatches(lengths, 64)))
    assert sorted(order) == list(range(1000))
    batches = [lengths[order[at : at + 64]] for at in range(0, 960, 64)]
    assert np.mean([np.ptp(batch) for batch in batches]) < 10
    assert order[0] != np.argmax(lengths)


# Models


def test_a_plain_encoder_gets_pooling_and_travels_without_pickles(tiny_bert, tmp_path):
    model, head = load_bi_encoder(tiny_bert)
    assert head == ADDED_MODULES
    packed = pack_bi_encoder(model, 32)
    folder = unpack_folder(packed, tmp_path / "model")
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    theirs = SentenceTransformer(str(folder))
    assert theirs.max_seq_length == 32
    assert np.allclose(np.linalg.norm(theirs.encode(TEXTS), axis=1), 1, atol=1e-5)
    assert load_bi_encoder(folder)[1] == OWN_MODULES
    # what was packed once is packed alike again
    assert pack_bi_encoder(load_packed(packed), 32) == packed
    assert pack_folder(folder) == packed


def test_what_it_encodes_elsewhere_is_what_was_scored(tiny_bert, tmp_path):
    """Of a checkpoint without normalisation, and with a prompt that no training saw."""
    encoder = Transformer(str(tiny_bert))
    pooling = Pooling(encoder.get_embedding_dimension(), "mean")
    SentenceTransformer(
        modules=[encoder, pooling],
        prompts={"query": "cleaning of machines: "},
        default_prompt_name="query",
        device="cpu",
    ).save(str(tmp_path / "checkpoint"))
    model, head = load_bi_encoder(tmp_path / "checkpoint")
    assert head == NORMALISED
    scored = embed(model, sequences(tiny_bert, TEXTS), np.arange(4), 4, "fp32")
    folder = unpack_folder(pack_bi_encoder(model, 32), tmp_path / "model")
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert np.allclose(theirs, scored, atol=1e-5)
    assert load_bi_encoder(folder)[1] == OWN_MODULES


@pytest.mark.parametrize("checkpoint", ["embedded", "tiny"])
def test_embeddings_are_those_that_sentence_transformers_gives(tiny_bert, checkpoint):
    folder = tiny_bert if checkpoint == "tiny" else get_checkpoint("embedded")
    model, _ = load_bi_encoder(folder)
    texts = sequences(folder, TEXTS)
    found = embed(model, texts, np.array([3, 0, 2]), 2, "fp32")
    expected = model.encode([TEXTS[3], TEXTS[0], TEXTS[2]])
    assert np.allclose(found, expected, atol=1e-5)


def test_missing_weights_are_refused(tiny_bert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = unpack_folder(pack_folder(tiny_bert), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if ".layer.1." not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights of the encoder are missing"):
        load_bi_encoder(folder)


# Training


def train_a_step(folder, scores=None, **settings):
    """A model after one step on two pairs, the embeddings before it, and its loss."""
    texts = sequences(folder, TEXTS)
    owners = pd.DataFrame({"text": range(4), "skill": [0, 1, 0, 1]})
    known = KnownTruths(owners, owners[:0].assign(other=0), 4, 2)
    pairs = pd.DataFrame({"text": [0, 1], "other": [2, 3], "score": scores or np.nan})
    model, _ = load_bi_encoder(folder)
    vectors = torch.from_numpy(embed(model, texts, np.arange(4), 4, "fp32"))
    config = SkillTraining(batch_size=2, dropout=0, precision="fp32", **settings)
    log = TrainingLog()
    fit_bi_encoder(
        model,
        TextPairs(texts, pairs, None if scores else known),
        scores is not None,
        config,
        *(1, 0, log, ("mrr", lambda model: 0.0)),
    )
    return model, vectors, log.rows[0]["loss"]


@pytest.mark.parametrize("scores", [None, [0.9, 0.1]])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_cosines_are_divided_by_the_temperature_asked_for(
    tiny_bert, scores, temperature
):
    _, vectors, loss = train_a_step(tiny_bert, scores, temperature=temperature)
    one, other = vectors[:2], vectors[2:]
    if scores:
        peer = CoSENTLoss(None, scale=1 / temperature)
        expected = peer.compute_loss_from_embeddings([one, other], torch.tensor(scores))
    else:
        expected = RankingLoss(temperature)(one, other, torch.eye(2, dtype=torch.bool))
    assert loss == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("freeze", [True, False])
def test_word_embeddings_stay_where_that_is_asked_for(tiny_bert, freeze):
    before = load_bi_encoder(tiny_bert)[0]
    after, *_ = train_a_step(
        tiny_bert, learning_rate=0.1, warmup=0, freeze_word_embeddings=freeze
    )
    one, other = (
        model[0].auto_model.get_input_embeddings().weight for model in (before, after)
    )
    assert torch.equal(one, other) == freeze


# Ranks


def test_ranks_are_places_among_all_candidates():
    similar = np.array([[0.9, 0.5, 0.7, 0.7], [0.1, 0.2, 0.3, 0.4]])

    def similarities(rows):
        return similar[rows].copy()

    texts, none = np.array([0, 0, 0, 1]), np.full(4, -1)
    answers = np.array([0, 1, 2, 0])
    ranks = rank_answers(similarities, texts, answers, none)
    assert ranks.tolist() == [1, 4, 2.5, 4]  # two as good share a place
    itself = np.array([0, 0, 0, -1])
    ranks = rank_answers(similarities, texts[1:], answers[1:], itself[1:])
    assert ranks.tolist() == [3, 1.5, 4]


def test_similarities_that_are_no_numbers_come_last():
    ranks = rank_answers(
        lambda rows: np.full((len(rows), 5), np.nan),
        *(np.array([0, 1]), np.array([3, 4]), np.array([-1, -1])),
    )
    assert ranks.tolist() == [6, 6]


def test_each_query_is_worth_its_best_and_all_its_answers():
    ranks = np.array([1, 7, 12, 3, *range(1, 8)])
    query = np.array([0, 0, 0, 1, *[2] * 7])
    values = score_queries(ranks, query)
    assert values["mrr"].tolist() == pytest.approx([1, 1 / 3, 1])
    assert values["recall_at_1"].tolist() == pytest.approx([1 / 3, 0, 1 / 7])
    assert values["recall_at_10"].tolist() == pytest.approx([2 / 3, 1, 1])
    assert values["rp_at_5"].tolist() == pytest.approx([1 / 3, 1, 1])


def test_spearman_is_scipy_s_also_where_items_are_drawn_again():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, 40) / 4, rng.normal(size=40)
    draws = rng.integers(40, size=(3, 40))
    weights = np.stack([np.bincount(draw, minlength=40) for draw in draws])
    found = spearman(one, other, np.vstack([np.ones(40), weights]))
    expected = [spearmanr(one, other).statistic]
    expected += [spearmanr(one[draw], other[draw]).statistic for draw in draws]
    assert found == pytest.approx(expected)
    assert np.isnan(spearman(np.ones(5), one[:5], np.ones((1, 5))))


def test_tfidf_finds_what_is_spelt_alike():
    vectors = embed_tfidf(["clean machines", "cleaning of machines", "java"], TEXTS)
    alike = (vectors @ vectors.T).toarray()
    assert alike[0, 1] > 0.5 > alike[0, 2]
    assert np.diag(alike) == pytest.approx(1, abs=1e-5)
