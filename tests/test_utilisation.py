"""What is said of the use of a GPU; here a processor takes its part."""

import re

import numpy as np
import pytest
import torch
from test_training_checkpoints import sentences, train_classifier, train_masked_lm
from torch.utils.flop_counter import FlopCounterMode

from ojd_daps_language_models.preprocessing.packing import encode_inputs, load_tokenizer
from ojd_daps_language_models.training import utilisation
from ojd_daps_language_models.training.fit import TrainingLog
from ojd_daps_language_models.training.masked_lm import load_masked_lm
from ojd_daps_language_models.training.utilisation import flop_per_token, matrix_ceiling


@pytest.fixture
def said(monkeypatch, capsys):
    """Of a training: tokens per second, percent, TFLOP/s achieved and possible."""
    monkeypatch.setattr(utilisation, "DEVICES", {"cpu"})
    monkeypatch.setattr(
        utilisation,
        "matrix_ceiling",
        lambda device, dtype: matrix_ceiling(device, dtype, size=256, seconds=0.01),
    )

    def said():
        numbers = r"([\d,]+) tokens/s, .* ([\d.]+)%: (\S+) of the (\S+) TFLOP/s"
        (found,) = re.findall(numbers, capsys.readouterr().out)
        return [float(number.replace(",", "")) for number in found]

    return said


def test_flop_are_those_that_torch_counts(tiny_bert):
    model, _ = load_masked_lm(tiny_bert, 0, count_tokens=None)
    model.train()
    ids = torch.randint(5, 100, (3, 32))
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    expected = counter.get_total_flops()
    assert ids.numel() * flop_per_token(model, [32] * 3, 1) == pytest.approx(
        expected, rel=0.02
    )


def test_long_inputs_attend_to_more(tiny_bert):
    model, _ = load_masked_lm(tiny_bert, 0, count_tokens=None)
    config = model.config
    short, long, mixed = (
        flop_per_token(model, lengths) for lengths in ([16], [64], [16, 64])
    )
    each = 12 * config.num_hidden_layers * config.hidden_size
    assert long - short == pytest.approx(48 * each)
    assert mixed == pytest.approx((16 * short + 64 * long) / 80)


def test_a_training_says_how_much_it_used(tiny_bert, said):
    log = TrainingLog(seed=7)
    train_classifier(tiny_bert, log, None)
    speed, share, achieved, ceiling = said()
    inputs = encode_inputs(sentences(), load_tokenizer(tiny_bert), 32)
    seconds = 3 * np.sum(inputs.lengths) / speed
    assert 0 < seconds <= log.rows[-1]["seconds"] + 0.1
    assert share == pytest.approx(100 * achieved / ceiling, abs=1)


def test_the_head_of_a_masked_model_counts_where_words_are_hidden(tiny_bert, said):
    train_masked_lm(tiny_bert, TrainingLog(), None)
    speed, _, achieved, _ = said()
    model, _ = load_masked_lm(tiny_bert, 0, count_tokens=None)
    least, most = (flop_per_token(model, [64], share) for share in (0.1, 0.2))
    assert least < 1e12 * achieved / speed < most


def test_no_training_fails_where_it_cannot_be_told(tiny_bert, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("no room for a matrix")

    monkeypatch.setattr(utilisation, "DEVICES", {"cpu"})
    monkeypatch.setattr(utilisation, "matrix_ceiling", fail)
    train_classifier(tiny_bert, TrainingLog(seed=7), None)
    assert "not known: no room for a matrix" in capsys.readouterr().out


def test_a_processor_is_not_asked(tiny_bert, capsys):
    train_classifier(tiny_bert, TrainingLog(seed=7), None)
    assert "TFLOP" not in capsys.readouterr().out
