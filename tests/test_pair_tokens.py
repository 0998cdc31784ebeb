"""Pairs of sentences that were tokenized once are those that their tokenizer makes."""

import numpy as np
import pytest
import torch
from conftest import sample_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.processors import RobertaProcessing
from transformers import AutoTokenizer

from ojd_daps_language_models.preprocessing import pair_tokens
from ojd_daps_language_models.preprocessing.packing import encode, load_tokenizer
from ojd_daps_language_models.preprocessing.pair_tokens import (
    SentencePairs,
    cut_longer,
    pair_template,
)
from ojd_daps_language_models.training.classification import JoinedSequences

SENTENCES = [
    "We are a family firm.",
    "You will drive a van through Leeds and talk to our customers every day.",
    "Apply now!",
    "\u200b",  # of which some tokenizers leave nothing
    "Our team of nurses looks after older people in their own homes.",
]
FIRST, SECOND = (
    column.ravel() for column in np.indices((len(SENTENCES), len(SENTENCES)))
)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def tokenizer(request, tiny_bert) -> Tokenizer:
    if request.param == "bert":
        return load_tokenizer(tiny_bert)
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trained.train_from_iterator(sample_texts()[:20], 500, special_tokens=special)
    tokenizer = Tokenizer.from_str(trained.to_str())
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def pairs_of(tokenizer, max_length: int) -> SentencePairs:
    tokenizer.no_truncation()
    sentences = encode(SENTENCES, tokenizer, special_tokens=False)
    template = pair_template(tokenizer)
    return SentencePairs(sentences, FIRST, SECOND, template, max_length)


@pytest.mark.parametrize("max_length", range(8, 48))
def test_each_pair_is_what_the_tokenizer_makes_of_it(
    tokenizer, max_length, monkeypatch
):
    monkeypatch.setattr(pair_tokens, "_AT_ONCE", 7)  # of 25
    found = pairs_of(tokenizer, max_length)
    tokenizer.enable_truncation(max_length)
    for pair, (first, second) in enumerate(zip(FIRST, SECOND, strict=True)):
        expected = tokenizer.encode(SENTENCES[first], SENTENCES[second])
        assert found.tokens([pair]).tolist() == expected.ids
        of_first = expected.type_ids.count(0)
        facts = (len(expected), of_first, bool(expected.overflowing))
        assert tuple(column[pair] for column in found.inputs[1:]) == facts
    together = [found.tokens([pair]) for pair in (3, 7, 5)]
    assert found.tokens([3, 7, 5]).tolist() == np.concatenate(together).tolist()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_the_longer_one_is_cut(first, second, room):
    kept = tuple(map(int, cut_longer(np.array(first), np.array(second), room)))
    assert sum(kept) == min(first + second, room)
    assert kept[0] <= first and kept[1] <= second
    if first + second > room:  # none is shorter than the other but for what it had
        assert kept[0] == first or kept[1] == second or abs(kept[0] - kept[1]) <= 1


@pytest.mark.parametrize("max_length", [16, 64])
def test_batches_are_what_the_tokenizer_of_transformers_makes(tiny_bert, max_length):
    texts = np.array(SENTENCES, object)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    expected = tokenizer(
        *(texts[FIRST].tolist(), texts[SECOND].tolist()),
        padding=True,
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    joined = pairs_of(load_tokenizer(tiny_bert), max_length)
    labels = np.arange(len(FIRST)) % 2
    found = JoinedSequences(joined, labels, tiny_bert).__getitems__(range(len(FIRST)))
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
    assert found["labels"].tolist() == labels.tolist()


def test_other_pairs_of_the_same_sentences_are_other_data(tiny_bert):
    """So that no checkpoint of a training on them is taken up."""
    tokenizer = load_tokenizer(tiny_bert)
    sentences = encode(["One two.", "Two one.", "One two."], tokenizer)
    template, first = pair_template(tokenizer), np.array([0, 1])
    one, other = (
        [
            array.tolist()
            for array in SentencePairs(sentences, first, second, template, 32).arrays()
        ]
        for second in (np.array([1, 0]), np.array([1, 2]))
    )
    assert one != other
