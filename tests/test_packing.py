"""Packing loses nothing and mixes nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing.packing import (
    Tokens,
    encode,
    load_tokenizer,
    pack,
    padded_width,
    positions_in_advert,
    word_starts,
    words_apart,
)

adverts = st.lists(st.integers(0, 40), max_size=12)
widths = st.integers(1, 17)


def tokens_of(lengths):
    return Tokens(
        np.arange(1, sum(lengths) + 1, dtype=np.uint16), np.array(lengths, np.int32)
    )


@given(adverts, widths, st.booleans())
def test_every_token_is_kept_once_in_order_with_its_advert(lengths, width, separate):
    tokens = tokens_of(lengths)
    blocks = pack(tokens, width, padding=0, separate=separate)[:]
    real = blocks.adverts >= 0
    assert blocks.ids.shape == blocks.adverts.shape
    assert (blocks.ids[real] == tokens.ids).all()
    assert (blocks.ids[~real] == 0).all()
    owners = np.repeat(np.arange(len(lengths)), lengths)
    assert (blocks.adverts[real] == owners).all()


@given(adverts, widths, st.booleans(), st.data())
def test_some_blocks_are_what_they_are_among_all(lengths, width, separate, data):
    blocks = pack(tokens_of(lengths), width, padding=0, separate=separate)
    rows = data.draw(st.lists(st.sampled_from(range(len(blocks))))) if blocks else []
    for some, among_all in zip(blocks[rows], blocks[:], strict=True):
        assert (some == among_all[rows]).all()


@given(adverts, widths, st.booleans())
def test_stretches_are_what_each_advert_has_in_each_block(lengths, width, separate):
    blocks = pack(tokens_of(lengths), width, padding=0, separate=separate)
    counts = [
        (row == advert).sum()
        for row in blocks[:].adverts
        for advert in np.unique(row[row >= 0])
    ]
    assert blocks.stretches().tolist() == counts


@given(adverts, widths)
def test_packed_blocks_waste_less_than_one_block(lengths, width):
    blocks = pack(tokens_of(lengths), width, padding=0)[:]
    assert (blocks.adverts < 0).sum() < width


@given(adverts, widths)
def test_separate_blocks_hold_one_advert_each(lengths, width):
    blocks = pack(tokens_of(lengths), width, padding=0, separate=True)[:]
    for row in blocks.adverts:
        assert len(set(row[row >= 0])) == 1


@given(st.integers(1, 2000), st.integers(0, 2000))
def test_a_batch_is_padded_by_an_eighth_at_most_and_never_past_the_longest(
    longest, more
):
    width = padded_width(longest, longest + more)
    assert longest <= width <= min(longest * 1.125, longest + more)


def test_batches_have_few_widths():
    assert len({padded_width(longest, 512) for longest in range(1, 513)}) <= 56
    assert {padded_width(n, 512) for n in range(32, 65)} == set(range(32, 65, 4))


@given(adverts, widths)
def test_positions_count_from_0_in_each_stretch_of_an_advert(lengths, width):
    blocks = pack(tokens_of(lengths), width, padding=0)[:]
    positions = positions_in_advert(blocks.adverts)
    for owners, row in zip(blocks.adverts, positions, strict=True):
        for owner in set(owners):
            here = row[owners == owner]
            assert here.tolist() == list(range(len(here)))


def test_encode_gives_what_the_tokenizer_gives_text_by_text(tiny_bert):
    tokenizer = load_tokenizer(tiny_bert)
    texts = ["We need a nurse.", "", "Skills: Python and SQL", "unbelievableness"]
    tokens = encode(iter(texts), tokenizer, batch_size=3)
    one_by_one = [tokenizer.encode(text).ids for text in texts]
    assert tokens.ids.tolist() == [number for ids in one_by_one for number in ids]
    assert tokens.lengths.tolist() == [len(ids) for ids in one_by_one]
    assert tokens.ids.dtype == np.uint16


def test_long_adverts_are_not_truncated(tiny_bert):
    tokenizer = load_tokenizer(tiny_bert)
    assert encode(["nurse " * 5000], tokenizer).lengths[0] >= 5000


def test_word_starts_of_wordpiece(tiny_bert):
    tokenizer = load_tokenizer(tiny_bert)
    starts = word_starts(tokenizer)
    for text in ("unbelievableness of microservices", "Skills, e.g. C++"):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        words = encoding.word_ids
        first = [i == 0 or words[i] != words[i - 1] for i in range(len(words))]
        assert starts[encoding.ids].tolist() == first


def test_words_of_byte_level_bpe():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["we need a nurse, a nurse we need"] * 9, trainer)
    encoding = tokenizer.encode("we need a nurse, in\nLeeds")
    starts = word_starts(tokenizer)[encoding.ids]
    apart = words_apart(tokenizer)[encoding.ids]
    starts[1:] |= apart[:-1]
    words = "".join(
        (" |" if start else "") + token
        for start, token in zip(starts, encoding.tokens, strict=True)
    )
    assert words == " |Ġwe |Ġneed |Ġa |Ġnurse |, |Ġin |Ċ |Leeds"
