"""What several tests use: a tiny BERT, and a home of their own for Metaflow's runs."""

import gzip
import json
import os
import shutil
from functools import cache
from pathlib import Path

import pytest
from batch_stand_in import batch, batch_image  # noqa: F401
from hub_stand_in import hub  # noqa: F401
from s3_stand_in import s3, s3_endpoint  # noqa: F401

os.environ.setdefault("METAFLOW_USER", "tester")
os.environ["HF_HUB_OFFLINE"] = "1"
# As in the steps of the flows; tests side by side would else wait for each other.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
SAMPLE = (
    Path(__file__).parent.parent / "ojd_daps_language_models/sample_data/mlm.jsonl.gz"
)

# Files whose tests take longest. At the end, others would wait for who has one.
LONG = [
    *("nsp_flow", "mlm_flow", "flows", "ner_flow", "company_descriptions_flow"),
    *("skill_similarity_flow", "failures", "adding_a_task", "training_checkpoints"),
    *("publishing_flows", "prepare_adverts_flow", "batch", "runs", "readme"),
]


def pytest_collection_modifyitems(items):
    """Let long files come first."""
    place = {f"test_{name}": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@cache
def sample_texts() -> list[str]:
    """Texts of the shipped sample."""
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as file:
        return [text for line in file if (text := json.loads(line)["text"])]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A folder with a BERT of two layers and a WordPiece tokenizer of 2,000 tokens."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_bert")
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(
        sample_texts()[:200], vocab_size=2000, show_progress=False
    )
    tokenizer = BertTokenizerFast(
        tokenizer_object=pieces._tokenizer,
        **{
            f"{name}_token": f"[{name.upper()}]"
            for name in ("cls", "sep", "pad", "mask", "unk")
        },
        model_max_length=128,
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def renamed_bert(tiny_bert, tmp_path_factory) -> Path:
    """A copy whose weights are named as those of google-bert/bert-base-uncased are:
    transformers gives them other names on loading, and these again on saving."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("renamed_bert")
    shutil.copytree(tiny_bert, folder, dirs_exist_ok=True)
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(folder / "model.safetensors")
    for own, other in names.items():
        weights = {name.replace(own, other): w for name, w in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def shallow_encoder(tmp_path_factory) -> Path:
    """A folder with the first two of six layers of the embedded encoder.

    Enough to learn from the samples what is in single sentences, in half the time.
    """
    from transformers import AutoModel, AutoTokenizer

    from ojd_daps_language_models.getters.checkpoints import get_checkpoint

    embedded = get_checkpoint("embedded", None)
    model = AutoModel.from_pretrained(embedded, num_hidden_layers=2)
    folder = tmp_path_factory.mktemp("shallow_encoder")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded).save_pretrained(folder)
    return folder
