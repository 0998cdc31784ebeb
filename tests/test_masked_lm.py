"""The fast ways give what the plain ones give: same logits, same loss, same scores."""

import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from ojd_daps_language_models.archive import pack_folder, unpack_folder
from ojd_daps_language_models.preprocessing.packing import Tokens, pack
from ojd_daps_language_models.training.fit import EpochOrder
from ojd_daps_language_models.training.masked_lm import (
    MaskedBlocks,
    SummedCrossEntropy,
    first_position,
    head_at,
    keeps_adverts_apart,
    load_masked_lm,
    model_inputs,
    score_hidden_tokens,
)
from ojd_daps_language_models.training.masking import Vocabulary

SMALL = dict(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
ARCHITECTURES = {
    "bert": BertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL),
    "electra": ElectraConfig(**SMALL, embedding_size=32),
    "distilbert": DistilBertConfig(
        vocab_size=120, dim=32, n_layers=2, n_heads=2, hidden_dim=64
    ),
    "modernbert": ModernBertConfig(
        **{**SMALL, "max_position_embeddings": 512},
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
    ),
}
VOCABULARY = Vocabulary(
    np.ones(120, bool), *[np.array([True] * 5 + [False] * 115)] * 2, mask=4
)


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    torch.manual_seed(0)
    config = ARCHITECTURES[request.param]
    return AutoModelForMaskedLM.from_config(config).eval()


def a_dataset(model, lengths=(20, 7, 33, 5), apart=True, width=16):
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 120, sum(lengths)).astype(np.uint16)
    blocks = pack(Tokens(ids, np.array(lengths)), width, padding=0, separate=not apart)
    first = first_position(model) if apart else None
    return MaskedBlocks(blocks, VOCABULARY, 0.3, True, first, frozen_seed=0)


def test_the_head_at_hidden_places_gives_the_full_head_s_logits(model):
    batch = a_dataset(model, apart=False).__getitems__([0, 1, 2])
    with torch.no_grad():
        full = model(**model_inputs(batch)).logits.flatten(0, 1)[batch["places"]]
        with head_at(model, batch["places"]):
            few = model(**model_inputs(batch)).logits[0]
    torch.testing.assert_close(few[: len(full)], full)
    assert len(few) % 32 == 0  # so that few sizes occur, whatever is hidden


def test_adverts_in_one_block_are_read_as_if_alone(model):
    if not keeps_adverts_apart(model, 16):
        pytest.skip("this architecture is not packed")
    dataset = a_dataset(model)
    batch = dataset.__getitems__(range(len(dataset)))
    with torch.no_grad():
        packed = model.base_model(**model_inputs(batch)).last_hidden_state
        for row, owners in enumerate(dataset.blocks[:].adverts):
            for owner in set(owners) - {-1}:
                here = torch.as_tensor(owners == owner)
                ids = batch["input_ids"][row][here][None]
                alone = model.base_model(ids).last_hidden_state[0]
                torch.testing.assert_close(packed[row][here], alone, atol=1e-4, rtol=0)


def test_known_architectures_are_packed():
    for name in ("bert", "roberta", "electra"):
        model = AutoModelForMaskedLM.from_config(ARCHITECTURES[name])
        assert keeps_adverts_apart(model, 32), name


def test_a_model_with_a_local_window_is_not_packed_beyond_it():
    model = AutoModelForMaskedLM.from_config(ARCHITECTURES["modernbert"])
    assert not keeps_adverts_apart(model, 512)


def test_without_the_mask_adverts_would_leak():
    """The check that guards packing can fail."""
    model = AutoModelForMaskedLM.from_config(ARCHITECTURES["bert"])
    inner = model.base_model.forward
    model.base_model.forward = lambda input_ids, position_ids=None, **_: inner(
        input_ids, position_ids=position_ids
    )
    assert not keeps_adverts_apart(model, 32)


def test_packed_and_separate_blocks_score_the_same_tokens_alike():
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(ARCHITECTURES["bert"]).eval()
    lengths = (16, 16, 16)  # so that both ways cut alike
    scores = [
        score_hidden_tokens(model, a_dataset(model, lengths, apart), 2, bf16=False)
        for apart in (True, False)
    ]
    for name in ("adverts", "words", "ranks"):
        assert (scores[0][name] == scores[1][name]).all()
    np.testing.assert_allclose(scores[0]["losses"], scores[1]["losses"], atol=1e-4)


def test_scores_are_cross_entropy_and_rank():
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(ARCHITECTURES["bert"]).eval()
    dataset = a_dataset(model)
    scores = score_hidden_tokens(model, dataset, 3, bf16=False)
    batch = dataset.__getitems__(range(len(dataset)))
    with torch.no_grad():
        logits = model(**model_inputs(batch)).logits.flatten(0, 1)[batch["places"]]
    expected = torch.nn.functional.cross_entropy(
        logits, batch["labels"], reduction="none"
    )
    np.testing.assert_allclose(scores["losses"], expected, atol=1e-4)
    order = logits.argsort(1, descending=True)
    ranks = (order == batch["labels"][:, None]).nonzero()[:, 1]
    assert scores["ranks"].tolist() == ranks.tolist()


def test_what_is_no_better_or_no_number_is_no_hit():
    model = AutoModelForMaskedLM.from_config(ARCHITECTURES["bert"]).eval()
    head = model.get_output_embeddings()
    for fill in (0.0, torch.nan):
        head.weight.data.fill_(fill)
        head.bias.data.fill_(fill)
        ranks = score_hidden_tokens(model, a_dataset(model), 3, bf16=False)["ranks"]
        assert set(ranks) == {model.config.vocab_size - 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "rows"), [(7, 7), (7, 10), (0, 0), (0, 3)])
def test_the_loss_and_its_gradient_are_those_of_torch(dtype, count, rows):
    torch.manual_seed(0)
    labels = torch.randint(120, (count,))
    logits = (3 * torch.randn(rows, 120)).to(dtype)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = SummedCrossEntropy.apply(ours, labels) / 5
    counted = theirs[:count].float()
    expected = torch.nn.functional.cross_entropy(counted, labels, reduction="sum") / 5
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    with torch.no_grad():
        unchanged = ours.clone()
        torch.testing.assert_close(SummedCrossEntropy.apply(ours, labels) / 5, expected)
        assert torch.equal(ours, unchanged)


def test_training_hides_other_words_in_each_epoch_and_validation_the_same():
    model = AutoModelForMaskedLM.from_config(ARCHITECTURES["bert"])
    frozen = a_dataset(model)
    fresh = MaskedBlocks(frozen.blocks, VOCABULARY, 0.3, True, 0)
    order = EpochOrder(SequentialSampler(frozen), seed=0)

    def hidden(dataset, epoch, drawn=0):
        order.set_epoch(epoch)
        rows = list(order)
        torch.rand(drawn)
        return dataset.__getitems__(rows)["places"].tolist()

    assert hidden(frozen, 0) == hidden(frozen, 1)
    assert hidden(fresh, 0) != hidden(fresh, 1)
    # What is drawn for dropout, or not after a resume, does not matter.
    assert hidden(fresh, 1) == hidden(fresh, 1, drawn=9)


def test_a_checkpoint_without_head_gets_one_that_starts_at_word_frequencies(
    tiny_bert, tmp_path
):
    own, new = load_masked_lm(tiny_bert, 0, count_tokens=None)
    assert not new
    own.base_model.save_pretrained(tmp_path / "bare")
    counts = np.random.default_rng(0).integers(0, 1000, own.config.vocab_size)
    bare, new = load_masked_lm(tmp_path / "bare", 0, lambda: counts)
    again, _ = load_masked_lm(tmp_path / "bare", 0, lambda: counts)
    assert new
    for one, other in zip(bare.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    output = bare.get_output_embeddings()
    assert output.weight is bare.get_input_embeddings().weight
    expected = np.log((counts + 1) / (counts + 1).sum())
    np.testing.assert_allclose(output.bias.detach(), expected, rtol=1e-4)


def test_an_encoder_with_a_missing_layer_is_refused(tiny_bert, tmp_path):
    model, _ = load_masked_lm(tiny_bert, 0, count_tokens=None)
    weights = {
        name: values
        for name, values in model.state_dict().items()
        if "layer.1.attention.self.query" not in name
    }
    model.save_pretrained(tmp_path / "broken", state_dict=weights)
    with pytest.raises(ValueError, match=r"2 weights of the encoder are missing"):
        load_masked_lm(tmp_path / "broken", 0, count_tokens=None)


def test_a_packed_model_comes_back_the_same(tiny_bert, tmp_path):
    model, _ = load_masked_lm(tiny_bert, 0, count_tokens=None)
    with torch.no_grad():
        model.get_output_embeddings().bias += 1
    model.save_pretrained(tmp_path / "saved")
    packed = pack_folder(tmp_path / "saved")
    assert packed == pack_folder(tmp_path / "saved")
    folder = unpack_folder(packed, tmp_path / "unpacked")
    back, new = load_masked_lm(folder, 1, count_tokens=None)
    assert not new
    for name, values in model.state_dict().items():
        assert torch.equal(values, back.state_dict()[name]), name


def test_the_tokenizer_s_special_tokens_are_never_hidden(tiny_bert):
    from ojd_daps_language_models.training.masking import vocabulary_of

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    vocabulary = vocabulary_of(tokenizer)
    special = [
        tokenizer.convert_ids_to_tokens(int(i))
        for i in np.flatnonzero(vocabulary.special)
    ]
    assert set(special) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert vocabulary.mask == tokenizer.mask_token_id
