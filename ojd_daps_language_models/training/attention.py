"""Attention that is as fast as a processor can do it."""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_in_fp32"


def attend_in_fp32(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """What `sdpa` gives, reckoned in fp32 whatever the type of its input.

    The gradient of torch's fused attention in bf16 takes up to ten times as long on a
    CPU as in fp32, which is more exact besides. With dropout it is not fused, and goes
    as it came.
    """
    mask = attention_mask
    if named.get("dropout"):
        return sdpa_attention_forward(module, query, key, value, mask, **named)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    if (bias := named.get("position_bias")) is not None:
        named["position_bias"] = bias.float()
    wide = (query.float(), key.float(), value.float())
    with torch.autocast(query.device.type, enabled=False):  # it would narrow them again
        attended, _ = sdpa_attention_forward(module, *wide, mask, **named)
    return attended.to(query.dtype), None


AttentionInterface.register(NAME, attend_in_fp32)
AttentionMaskInterface.register(NAME, sdpa_mask)


def choose_attention(model: PreTrainedModel) -> None:
    """Let a model on a CPU that would attend by `sdpa` do so in fp32.

    Its configuration, as it is saved, says nothing of it.
    """
    on_cpu = model.device.type == "cpu"
    if on_cpu and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
