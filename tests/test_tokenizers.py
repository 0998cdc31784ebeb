"""What is published with a model reads texts as what it was trained with."""

import json
import shutil

import numpy as np
import pytest
from conftest import sample_texts
from sentence_transformers import SentenceTransformer

from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.preprocessing.packing import encode_inputs, load_tokenizer
from ojd_daps_language_models.tasks import mlm
from ojd_daps_language_models.training.classification import Sequences


@pytest.fixture
def cased_bert(tiny_bert, tmp_path):
    """A folder whose tokenizer.json leaves capitals as they are."""
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"] |= {"lowercase": False, "strip_accents": False}
    path.write_text(json.dumps(tokenizer))
    return folder


def sequences(folder):
    """A sentence as the trainings of classifiers, taggers and bi-encoders read it."""
    inputs = encode_inputs(["We bake bread."], load_tokenizer(folder), 64)
    return Sequences(inputs, np.zeros(1), folder)


def test_no_training_begins_that_would_publish_another_tokenizer(cased_bert):
    parts = ("train", "validation")
    tokens = mlm.tokenize(dict.fromkeys(parts, sample_texts()[:4]), cased_bert)
    config = MLMConfig(training={"block_size": 64})
    message = r"bert: tokenizer_config.json makes another tokenizer.*'se.*not.*UNK"
    with pytest.raises(ValueError, match=message):
        mlm.train(tokens, cased_bert, config, 1, 0)
    with pytest.raises(ValueError, match=message):
        sequences(cased_bert)


def test_settings_that_fit_the_tokenizer_pass(cased_bert):
    path = cased_bert / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"do_lower_case": False}))
    sequences(cased_bert)


def test_tokenizers_that_were_saved_as_they_are_pass(tiny_bert, tmp_path):
    embedded = get_checkpoint("embedded")
    SentenceTransformer(str(embedded), device="cpu").save(str(tmp_path))
    for folder in (tiny_bert, embedded, tmp_path):
        sequences(folder)
