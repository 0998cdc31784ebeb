"""Encoders to measure with: the embedded one, or random weights of a usual shape."""

import atexit
import shutil
import tempfile
from pathlib import Path

from ojd_daps_language_models.getters.checkpoints import get_checkpoint

SHAPES = {  # layers, width, heads; speed depends on these, not on what was learnt
    "embedded": None,
    "bert-base": (12, 768, 12),
    "bert-tiny": (2, 128, 2),
}


def get_encoder(shape: str) -> Path:
    """Folder of an encoder with the tokenizer of the embedded one."""
    embedded = get_checkpoint("embedded")
    if SHAPES[shape] is None:
        return embedded
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, set_seed

    set_seed(0)
    layers, width, heads = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(embedded)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=4 * width,
        )
    )
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return Path(folder)
