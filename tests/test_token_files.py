"""Tokens in files are those in memory, and so is what is learnt from them."""

import pickle

import numpy as np
import pytest
from conftest import sample_texts

from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.preprocessing.packing import encode, load_tokenizer
from ojd_daps_language_models.preprocessing.token_files import (
    encode_to_file,
    open_tokens,
    read_tokens,
)
from ojd_daps_language_models.stores import Folder
from ojd_daps_language_models.tasks import mlm


@pytest.fixture
def store(tmp_path):
    return Folder(tmp_path / "tokens")


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001])
def test_what_is_written_is_read_back(tiny_bert, store, count):
    tokenizer = load_tokenizer(tiny_bert)
    texts = [f"nurse {number}" for number in range(count)]
    expected = encode(texts, tokenizer)
    written = encode_to_file(iter(texts), tokenizer, store, "run/train.bin")
    with open_tokens({"train": written}, store) as tokens:
        # as another process gets it
        found = read_tokens(pickle.loads(pickle.dumps(tokens))["train"])
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.ids.dtype == expected.ids.dtype == np.uint16
        assert found.lengths.tolist() == expected.lengths.tolist()
        assert not count or isinstance(found.ids, np.memmap)


def test_a_file_that_is_cut_short_is_named(tiny_bert, store, tmp_path):
    written = encode_to_file(
        ["We need a nurse."], load_tokenizer(tiny_bert), store, "run/train.bin"
    )
    path = tmp_path / "tokens/run/train.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with (
        open_tokens({"train": written}, store) as tokens,
        pytest.raises(ValueError, match=r"run/train\.bin: .* bytes.*tokenize"),
    ):
        read_tokens(tokens["train"])


def test_a_file_that_is_gone_is_named(tiny_bert, store):
    written = encode_to_file(
        ["We need a nurse."], load_tokenizer(tiny_bert), store, "run/train.bin"
    )
    store.delete("run/train.bin")
    with (
        pytest.raises(FileNotFoundError, match=r"run/train\.bin.*tokenize"),
        open_tokens({"train": written}, store),
    ):
        pass


def test_training_from_files_gives_the_same_model_and_scores(tiny_bert, store):
    texts = sample_texts()[:40]
    parts = {"train": texts[:20], "validation": texts[20:30], "test": texts[30:]}
    config = MLMConfig(training={"block_size": 64, "epochs": 1})
    in_memory = mlm.tokenize(parts, tiny_bert)
    in_files = mlm.tokenize(parts, tiny_bert, store, "run")
    assert not any("ids" in fields for fields in in_files.values())
    found = []
    for kept in (in_memory, in_files):
        with open_tokens(kept, store) as tokens:
            model, _ = mlm.train(tokens, tiny_bert, config, 1, 0)
            given = (config, 0, parts["train"], ["GB"])
            scores = mlm.evaluate(tokens, tiny_bert, model, *given)
            found.append((model, scores))
    assert found[0] == found[1]
