"""Classifiers read what they should, learn pairs, and decide as they were scored."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainingArguments,
)

from ojd_daps_language_models.configs import FineTuning, NERTraining
from ojd_daps_language_models.preprocessing.packing import (
    encode_inputs,
    load_tokenizer,
)
from ojd_daps_language_models.training import fit
from ojd_daps_language_models.training.classification import (
    Sequences,
    SequenceTrainer,
    TwinSampler,
    describe_architecture,
    disagreement,
    fit_classifier,
    load_classifier,
    move_threshold,
    probabilities,
    score_sequences,
)
from ojd_daps_language_models.training.fit import (
    TrainingLog,
    set_dropout,
)

LABELS = ("no", "yes")
SENTENCES = [
    "We are a family firm.",
    "You will drive a van through Leeds and talk to our customers every day.",
    "Apply now!",
    "Our team of nurses looks after older people in their own homes.",
]


def sequences(folder: Path, texts, labels, max_length=64, **options) -> Sequences:
    inputs = encode_inputs(texts, load_tokenizer(folder), max_length)
    return Sequences(inputs, np.array(labels), folder, **options)


def test_batches_are_what_the_tokenizer_of_transformers_makes(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    expected = tokenizer(
        SENTENCES,
        padding=True,
        truncation=True,
        max_length=16,
        return_tensors="pt",
    )
    found = sequences(tiny_bert, SENTENCES, [0, 1, 0, 1], 16).__getitems__(range(4))
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
    assert found["labels"].tolist() == [0, 1, 0, 1]


def test_what_is_cut_is_counted(tiny_bert):
    inputs = encode_inputs(SENTENCES, load_tokenizer(tiny_bert), 12)
    whole = encode_inputs(SENTENCES, load_tokenizer(tiny_bert), 100)
    assert inputs.truncated.tolist() == (whole.lengths > 12).tolist()
    assert 0 < inputs.truncated.sum() < 4 and not whole.truncated.any()
    none = encode_inputs([], load_tokenizer(tiny_bert), 12)
    assert len(none.ids) == len(none.lengths) == 0


def test_twins_are_in_one_batch_and_each_comes_once():
    torch.manual_seed(0)
    count, size = 203, 16
    twins = np.roll(np.arange(2 * count), count)
    lengths = np.random.default_rng(0).integers(5, 90, 2 * count)
    # and little is padded: the lengths of a batch are alike
    at_random = np.random.default_rng(1).permutation(2 * count)
    random = sum(
        lengths[at_random[s : s + size]].max() * size for s in range(0, 2 * count, size)
    )
    sampler = TwinSampler(lengths, twins, size)
    for _ in range(20):
        order = list(sampler)
        assert sorted(order) == list(range(2 * count)) and order != sorted(order)
        for start in range(0, len(order), 2):
            assert twins[order[start]] == order[start + 1]
        batches = (order[s : s + size] for s in range(0, len(order), size))
        assert sum(lengths[b].max() * len(b) for b in batches) < 0.8 * random


def test_scores_do_not_depend_on_the_order_or_the_batch(tiny_bert):
    model, _ = load_classifier(tiny_bert, LABELS, 0)
    every = sequences(tiny_bert, SENTENCES, [0] * 4)
    together = score_sequences(model, every, 4, "fp32")
    for row, text in enumerate(SENTENCES):
        alone = score_sequences(model, sequences(tiny_bert, [text], [0]), 1, "fp32")
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_a_machine_without_bf16_says_so_once_and_not_for_every_batch(
    tiny_bert, monkeypatch, capsys
):
    monkeypatch.setattr(fit, "has_bf16", lambda: False)
    model, _ = load_classifier(tiny_bert, LABELS, 0)
    score_sequences(model, sequences(tiny_bert, SENTENCES, [0] * 4), 1, "bf16")
    assert capsys.readouterr().out.count("precision: fp32") == 1


def test_a_new_head_depends_on_the_seed_alone(tiny_bert):
    def head(seed):
        return load_classifier(tiny_bert, LABELS, seed)[0].classifier.weight

    assert torch.equal(head(1), head(1)) and not torch.equal(head(1), head(2))


def test_a_head_for_the_same_labels_is_kept_and_one_for_others_is_not(
    tiny_bert, tmp_path
):
    model, new = load_classifier(tiny_bert, LABELS, 0)
    assert new
    model.save_pretrained(tmp_path)
    again, new = load_classifier(tmp_path, LABELS, 1)
    assert not new and torch.equal(again.classifier.weight, model.classifier.weight)
    assert again.config.id2label == {0: "no", 1: "yes"}
    other, new = load_classifier(tmp_path, ("good", "bad"), 1)
    assert new and not torch.equal(other.classifier.weight, model.classifier.weight)
    three, new = load_classifier(tmp_path, ("a", "b", "c"), 1)
    assert new and three.config.num_labels == 3


SMALL = {
    "vocab_size": 2000,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 66,
    "dim": 16,
    "n_heads": 2,
    "n_layers": 1,
    "embedding_size": 16,
}


def test_the_first_deberta_learns_and_is_scored_in_fp32(tiny_bert, monkeypatch, capsys):
    monkeypatch.setattr(fit, "has_bf16", lambda: True)
    config = AutoConfig.for_model("deberta", **SMALL)
    model = AutoModelForSequenceClassification.from_config(config)
    data = sequences(tiny_bert, SENTENCES, [0, 1, 0, 1])
    settings = FineTuning(batch_size=4, precision="bf16")
    fit_classifier(model, data, data, settings, 1, 0, TrainingLog(seed=0))
    score_sequences(model, data, 4, "auto")
    assert capsys.readouterr().out.count("precision: fp32, for this model") == 1


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra"])
def test_the_threshold_becomes_one_half_in_every_architecture(tiny_bert, kind):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    batch = {"input_ids": torch.arange(5, 45).reshape(4, 10)}

    def likely():
        with torch.no_grad():
            return probabilities(model(**batch).logits.numpy(), 1)

    before = likely()
    threshold = float(np.sort(before)[1:3].mean())
    assert move_threshold(model, threshold)
    assert ((likely() > 0.5) == (before > threshold)).all()


def test_pairs_get_the_head_of_the_architecture_or_a_classifier(tiny_bert, tmp_path):
    model, new = load_classifier(tiny_bert, ("is_next", "not_next"), 0, pairs=True)
    assert describe_architecture(model) == "BertForNextSentencePrediction" and new
    model.save_pretrained(tmp_path / "bert")
    _, new = load_classifier(tmp_path / "bert", ("is_next", "not_next"), 0, pairs=True)
    assert not new
    config = AutoConfig.for_model("roberta", **SMALL)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(
        tmp_path / "roberta"
    )
    model, new = load_classifier(
        tmp_path / "roberta", ("is_next", "not_next"), 0, pairs=True
    )
    assert new and model.config.label2id == {"is_next": 0, "not_next": 1}
    assert "RobertaForSequenceClassification, a two-label" in describe_architecture(
        model
    )


def test_the_best_epoch_is_left_and_word_embeddings_may_stay(tiny_bert):
    texts = [
        f"{'We' if n % 2 else 'You'} {n} {s}" for n in range(64) for s in ("a", "b")
    ]
    labels = [int(text.startswith("We")) for text in texts]
    train = sequences(tiny_bert, texts, labels)
    model, _ = load_classifier(tiny_bert, LABELS, 0)
    words = model.get_input_embeddings().weight.clone()
    config = FineTuning(learning_rate=3e-3, batch_size=16, precision="fp32")
    log = TrainingLog(seed=0)
    fit_classifier(model, train, train, config, 5, 0, log)
    assert torch.equal(model.get_input_embeddings().weight, words)
    losses = [row["validation_loss"] for row in log.rows if "validation_loss" in row]
    logits = torch.from_numpy(score_sequences(model, train, 16, "fp32"))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    assert loss.item() == pytest.approx(min(losses), rel=1e-3)
    assert min(losses) < 0.3


@pytest.mark.parametrize("checkpoint", ["tiny_bert", "renamed_bert"])
def test_the_best_epoch_is_left_whole_where_it_is_not_the_last(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    data = sequences(folder, SENTENCES, [0, 1, 0, 1])
    model, _ = load_classifier(folder, LABELS, 0)
    epochs = []

    def score(*_) -> float:
        epochs.append({name: w.clone() for name, w in model.state_dict().items()})
        return -float(len(epochs))  # each is worse than the one before

    config = FineTuning(learning_rate=3e-3, batch_size=2, precision="fp32")
    measure = ("f1", score)
    fit_classifier(model, data, data, config, 3, 0, TrainingLog(), None, measure)
    left = model.state_dict()
    assert [n for n, w in epochs[0].items() if not torch.equal(left[n], w)] == []
    assert not torch.equal(left["classifier.weight"], epochs[2]["classifier.weight"])


def test_class_weights_count_in_training_and_not_on_validation(tiny_bert):
    texts = [f"Sentence number {n} of many" for n in range(40)]
    labels = [int(n % 10 == 0) for n in range(40)]
    data = sequences(tiny_bert, texts, labels)
    config = FineTuning(learning_rate=1e-3, batch_size=8, precision="fp32")
    found = []
    for weights in (None, [0.55, 5.0]):
        model, _ = load_classifier(tiny_bert, LABELS, 0)
        log = TrainingLog()
        fit_classifier(model, data, data, config, 4, 0, log, weights)
        logits = score_sequences(model, data, 16, "fp32")
        loss = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits), torch.tensor(labels)
        ).item()
        losses = [r["validation_loss"] for r in log.rows if "validation_loss" in r]
        assert min(losses) == pytest.approx(loss, rel=1e-3)
        found.append(probabilities(logits, 1).mean())
    assert found[1] > found[0] + 0.1


def test_a_class_weighs_as_much_in_a_batch_of_its_own(tiny_bert, tmp_path):
    model, _ = load_classifier(tiny_bert, LABELS, 0)
    set_dropout(model.train(), 0.0)
    data = sequences(tiny_bert, SENTENCES, [0, 1, 0, 1])
    arguments = TrainingArguments(tmp_path, use_cpu=True, report_to="none")
    plain, weighted = (
        SequenceTrainer(model, arguments, class_weights=weights).compute_loss(
            model, data.__getitems__([1, 3])
        )
        for weights in (None, torch.tensor([0.5, 5.0]))
    )
    assert weighted.item() == pytest.approx(5 * plain.item())


class WatchingLog(TrainingLog):
    """Keeps the learning rate after each step, and the weight decays."""

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        groups = optimizer.param_groups
        self.decays = {group["weight_decay"] for group in groups}
        self.rates = [*getattr(self, "rates", []), groups[0]["lr"]]


def test_warmup_and_weight_decay_are_those_of_the_configuration(tiny_bert):
    data = sequences(tiny_bert, ["One sentence", "Another one"] * 20, [0, 1] * 20)
    model, _ = load_classifier(tiny_bert, LABELS, 0)
    config = FineTuning(batch_size=4, warmup=0.4, weight_decay=0.3, precision="fp32")
    log = WatchingLog()
    fit_classifier(model, data, data, config, 1, 0, log)
    assert np.argmax(log.rates) + 1 == 4 and len(log.rates) == 10
    assert max(log.rates) == pytest.approx(config.learning_rate)
    assert log.decays == {0.0, 0.3}  # none of biases and norms


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_training_that_diverges_ends_and_says_so(loss):
    state = SimpleNamespace(global_step=12, epoch=1.0)
    message = r"training \(seed 3\): validation_loss is .* step 12; .* diverged, .*rate"
    with pytest.raises(ValueError, match=message):
        TrainingLog(seed=3).on_log(None, state, None, logs={"eval_loss": loss})


def test_a_training_that_diverges_within_an_epoch_ends_as_well(tiny_bert):
    data = sequences(tiny_bert, ["One sentence", "Another one"] * 20, [0, 1] * 20)
    model, _ = load_classifier(tiny_bert, LABELS, 0)
    model.classifier.weight.data.fill_(np.nan)
    config = FineTuning(batch_size=8, precision="fp32")
    with pytest.raises(ValueError, match=r": loss is nan after step 1; "):
        fit_classifier(model, data, data, config, 4, 0, TrainingLog())


def test_disagreement_is_the_mean_divergence_of_what_is_scored():
    torch.manual_seed(0)
    one, other = (torch.randn(3, 5, 2, 4) for _ in range(2))
    labels = torch.randint(4, (3, 5, 2))
    labels[1, 2:] = labels[2, 0, 1] = -100
    scored = labels >= 0
    a, b = (logits[scored].log_softmax(-1) for logits in (one, other))
    there, back = (
        kl_div(*pair, log_target=True, reduction="batchmean").item()
        for pair in ((a, b), (b, a))
    )
    found = disagreement(torch.cat([one, other]), torch.cat([labels, labels]))
    assert found.item() == pytest.approx((there + back) / 2, rel=1e-4)
    assert disagreement(torch.cat([one, one]), torch.cat([labels, labels])).item() == 0


def test_r_drop_teaches_to_answer_alike_whatever_is_dropped(tiny_bert):
    texts = [f"{word} {n}" for n in range(32) for word in ("We", "You")]
    labels = [0, 1] * 32
    data = sequences(tiny_bert, texts, labels)
    batch = data.__getitems__(range(64))
    labels = batch.pop("labels")
    twice = {name: torch.cat([rows, rows]) for name, rows in batch.items()}
    found = []
    for weight in (0.0, 20.0):
        config = NERTraining(
            learning_rate=1e-3, batch_size=16, dropout=0.4, precision="fp32"
        )
        model, _ = load_classifier(tiny_bert, LABELS, 0)
        fit_classifier(model, data, data, config, 4, 0, TrainingLog(), r_drop=weight)
        model.train()
        with torch.no_grad():
            logits = model(**twice).logits
        found.append(disagreement(logits, torch.cat([labels, labels])).item())
    assert found[1] < found[0] / 2
