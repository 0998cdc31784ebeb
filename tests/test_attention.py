"""Attention in fp32 gives what `sdpa` does, and stays out of what is saved."""

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from ojd_daps_language_models.training.attention import NAME, choose_attention
from ojd_daps_language_models.training.fit import set_dropout

MASKS = {
    "none": None,
    "padding": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
    "blocks": (torch.arange(8) < 3)[:, None] == (torch.arange(8) < 3)[None],
}


def outcome(model, mask, bf16):
    """Of a step: hidden states where something may be read, and a gradient."""
    torch.manual_seed(0)
    ids = torch.randint(5, 100, (2, 8))
    if mask is not None and mask.shape == (8, 8):
        mask = mask.expand(2, 1, 8, 8)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    read = torch.ones(2, 8, dtype=bool) if mask is None or mask.dim() > 2 else mask > 0
    weights = torch.randn(hidden.shape)
    (weights * hidden.float())[read].sum().backward()
    gradient = model.encoder.layer[0].attention.self.query.weight.grad
    return hidden[read].detach().float(), gradient.clone()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_it_gives_what_sdpa_gives(tiny_bert, mask, bf16, tolerance):
    model = AutoModel.from_pretrained(tiny_bert).eval()
    assert model.config._attn_implementation == "sdpa"
    expected = outcome(model, MASKS[mask], bf16)
    choose_attention(model)
    assert model.config._attn_implementation == NAME
    for ours, theirs in zip(outcome(model, MASKS[mask], bf16), expected, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize(
    ("dropout", "expected"), [(0.0, torch.float32), (None, torch.bfloat16)]
)
def test_it_reckons_in_fp32_within_autocast_but_for_dropout(
    tiny_bert, monkeypatch, dropout, expected
):
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(query, *others, **named):
        attended = attend(query, *others, **named)
        seen.append((query.dtype, attended.dtype))
        return attended

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    model = AutoModel.from_pretrained(tiny_bert).train()
    choose_attention(model)
    assert model.config.attention_probs_dropout_prob
    set_dropout(model, dropout)  # None: the checkpoint's own
    outcome(model, None, bf16=True)
    assert set(seen) == {(expected, expected)}


def test_what_is_saved_says_nothing_of_it(tiny_bert, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(tiny_bert)
    choose_attention(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"


def test_another_attention_stays(tiny_bert):
    model = AutoModel.from_pretrained(tiny_bert, attn_implementation="eager")
    choose_attention(model)
    assert model.config._attn_implementation == "eager"
