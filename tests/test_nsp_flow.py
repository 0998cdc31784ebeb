"""The flow learns the order of sentences, against each kind of other sentence."""

from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from conftest import SAMPLE, sample_texts
from sklearn.metrics import accuracy_score, roc_auc_score

from flows import WITHOUT_CARDS, errors_of, report_of, run_id_of, sentences_in
from flows import artifacts as artifacts_of
from flows import run_flow as run_any
from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.configs import NSPConfig
from ojd_daps_language_models.preprocessing.duplicates import exact_fingerprints
from ojd_daps_language_models.preprocessing.pairs import make_pairs
from ojd_daps_language_models.tasks import nsp
from ojd_daps_language_models.training.baselines import word_overlap
from ojd_daps_language_models.training.metrics import (
    accuracy,
    best_threshold,
    bootstrap,
    mean,
    of_sums,
)

run_flow = partial(run_any, "nsp_flow")
artifacts = partial(artifacts_of, "nsp_flow")


FEW = ["--config", "config", "few.yaml"]  # of the pairs: as much to learn, sooner


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    (home / "few.yaml").write_text("pairs: {max_per_advert: 6}\n")
    return home


@pytest.fixture(scope="module")
def trained(home):
    """A run on the shipped sample with the embedded encoder, and its artifacts."""
    done = run_flow(home, "run", before=FEW)
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


@pytest.fixture(scope="module")
def two_seeds(home, tiny_bert):
    """A run of two seeds that starts from a run of the MLM flow."""
    few = pd.read_json(SAMPLE, lines=True)[:200]
    few.to_json(home / "few.jsonl", orient="records", lines=True)
    adapt = ["--checkpoint", tiny_bert, "--epochs", "0", "--data", home / "few.jsonl"]
    (home / "quick.yaml").write_text("evaluation: {audit_adverts: 0}\n")
    quick = ["--config", "config", "quick.yaml"]
    mlm = run_any("mlm_flow", home, "run", *adapt, *WITHOUT_CARDS, before=quick)
    assert mlm.returncode == 0, errors_of(mlm)
    done = run_flow(
        home,
        *("run", "--checkpoint", "run:MLMFlow/latest", "--epochs", "1", "--seeds", "2"),
        before=FEW,
    )
    assert done.returncode == 0, errors_of(done)
    return mlm, done, artifacts(home, done)


def test_it_learns_the_sample_against_each_kind(trained):
    metrics = trained[1]["metrics"]
    for kind in ("all", "another_advert", "same_advert"):
        for measure in ("accuracy", "roc_auc"):
            scores = metrics["scores"][kind][measure]
            assert scores["change"]["low"] > 0, kind
            assert scores["gain"]["low"] > 0, kind
            assert scores["majority"]["value"] == 0.5
    accuracy = metrics["scores"]["all"]["accuracy"]
    assert accuracy["after"]["low"] > 0.6
    assert accuracy["before"]["value"] == pytest.approx(0.5, abs=0.06)


def test_the_sample_is_divided_without_a_leak(trained):
    found = trained[1]
    adverts, pairs = found["adverts"], found["pairs"]
    assert (adverts.groupby("employer")["part"].nunique() == 1).all()
    texts = list(chain.from_iterable(found["sentences"]))
    of = np.repeat(range(len(adverts)), list(map(len, found["sentences"])))
    parts = adverts["part"].to_numpy()
    for end in ("first", "second"):
        assert (parts[of[pairs[end]]] == pairs["part"]).all()
    codes = exact_fingerprints(texts)
    first, second = codes[pairs["first"]], codes[pairs["second"]]
    said = pd.Series(zip(first, second, strict=True))
    follows = np.flatnonzero(of[1:] == of[:-1])
    true = set(zip(codes[follows], codes[follows + 1], strict=True))
    assert not said[(pairs["label"] == 1).to_numpy()].isin(true).any()
    assert said[(pairs["label"] == 0).to_numpy()].isin(true).all()


def test_order_is_that_of_the_adverts(trained):
    found = trained[1]
    for number in range(0, len(found["adverts"]), 20):
        text = found["adverts"]["text"][number]
        place = 0
        for sentence in found["sentences"][number]:
            place = text.index(sentence, place) + len(sentence)


@pytest.fixture(scope="module")
def few(tiny_bert):
    """Sentences, pairs and tokens of a few adverts, without a flow."""
    adverts = pd.DataFrame({"text": sample_texts()[:45], "employer": None})
    adverts["part"] = ["train"] * 15 + ["validation"] * 15 + ["test"] * 15
    kinds = {"another_advert": 0.5, "same_employer": 0, "same_advert": 0.5}
    config = NSPConfig(pairs={"shares": kinds, "max_per_advert": 8})
    sentences, pairs, _ = make_pairs(adverts, config.pairs)
    tokens, *_ = nsp.tokenize(sentences, pairs, tiny_bert, config)
    return sentences, pairs, tokens, config


@pytest.fixture(scope="module")
def scored(few, tiny_bert):
    """The metrics of an encoder that was not trained."""
    sentences, pairs, tokens, config = few
    models, _ = nsp.train(tokens, pairs, tiny_bert, config, 0, [0])
    return nsp.evaluate(tokens, sentences, pairs, tiny_bert, models, config, [0])


def overlap_of(sentences, rows):
    """Whether pairs follow each other, and their overlap of words."""
    texts = np.array(list(chain.from_iterable(sentences)), object)
    both = zip(texts[rows["first"]], texts[rows["second"]], strict=True)
    return (rows["label"] == 0).to_numpy(), word_overlap(both)


def test_training_goes_on_where_there_is_no_test_part(few, tiny_bert):
    """The epoch is chosen by validation alone."""
    _, pairs, tokens, config = few
    pairs = pairs[pairs["part"] != "test"]
    _, log = nsp.train(tokens, pairs, tiny_bert, config, 1, [0])
    assert log["validation_loss"].notna().any()


def test_validation_chooses_the_threshold_of_the_floor(few, scored):
    sentences, pairs, *_ = few
    chosen, best_on_test = (
        best_threshold(*overlap_of(sentences, pairs[pairs["part"] == part]), accuracy)
        for part in ("validation", "test")
    )
    assert scored["overlap_threshold"] == pytest.approx(chosen)
    assert scored["overlap_threshold"] != pytest.approx(best_on_test)


def test_intervals_come_from_a_resampling_of_adverts(few, scored):
    sentences, pairs, *_ = few
    rows = pairs[pairs["part"] == "test"]
    adverts, advert = np.unique(rows["advert"], return_inverse=True)
    is_next, overlap = overlap_of(sentences, rows)
    right = is_next == (overlap >= scored["overlap_threshold"])
    sums = np.column_stack([np.bincount(advert), np.bincount(advert, right)])
    expected = bootstrap(of_sums(sums, mean), len(adverts), 1000, 0)
    assert 2 * len(adverts) < len(rows)
    assert scored["scores"]["all"]["accuracy"]["overlap"] == pytest.approx(expected)


def test_the_scores_are_those_of_the_published_model(trained, tmp_path):
    """As a reader of the model card would compute them, with transformers alone."""
    import torch
    from transformers import AutoModelForNextSentencePrediction, AutoTokenizer

    found = trained[1]
    folder = unpack_folder(found["model"], tmp_path / "model")
    model = AutoModelForNextSentencePrediction.from_pretrained(folder).eval()
    assert model.config.id2label == {0: "is_next", 1: "not_next"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = np.array(list(chain.from_iterable(found["sentences"])), object)
    test = found["pairs"][found["pairs"]["part"] == "test"]
    likely = []
    for start in range(0, len(test), 32):
        rows = test[start : start + 32]
        batch = tokenizer(
            texts[rows["first"]].tolist(),
            texts[rows["second"]].tolist(),
            padding=True,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            likely += model(**batch).logits.softmax(-1)[:, 0].tolist()
    is_next, likely = test["label"] == 0, np.array(likely)
    scores = found["metrics"]["scores"]["all"]
    assert accuracy_score(is_next, likely > 0.5) == pytest.approx(
        scores["accuracy"]["after"]["value"], abs=0.01
    )
    assert roc_auc_score(is_next, likely) == pytest.approx(
        scores["roc_auc"]["after"]["value"], abs=0.01
    )
    counts = found["metrics"]["confusion"]["all"]["after"]
    assert sum(counts.values()) == len(test) == found["metrics"]["pairs"]
    assert (counts["tp"] + counts["tn"]) / len(test) == pytest.approx(
        scores["accuracy"]["after"]["value"]
    )


def test_the_report_quotes_no_advert(trained):
    report = report_of(trained[0])
    assert "word overlap" in report
    assert not sentences_in(report, trained[1]["adverts"]["text"])


def test_one_seed_has_no_spread(trained):
    assert trained[1]["metrics"]["spread"] == {}
    assert trained[1]["other_models"] == []
    assert set(trained[1]["training_log"]["seed"]) == {42}


def test_several_seeds_give_mean_and_spread(two_seeds):
    metrics = two_seeds[2]["metrics"]
    rows = metrics["seeds"]
    assert [row["seed"] for row in rows] == [42, 43]
    values = [row["scores"]["all"]["roc_auc"] for row in rows]
    spread = metrics["spread"]["all"]["roc_auc"]
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    assert values[0] == pytest.approx(
        metrics["scores"]["all"]["roc_auc"]["after"]["value"]
    )
    assert len(two_seeds[2]["other_models"]) == 1
    assert set(two_seeds[2]["training_log"]["seed"]) == {42, 43}


def test_the_lineage_leads_to_the_run_that_adapted_the_encoder(two_seeds):
    mlm, done, found = two_seeds
    lineage = found["lineage"]
    assert lineage["checkpoint"] == f"run:MLMFlow/{run_id_of(mlm)}"
    origin = lineage["origin"]
    assert origin["data fingerprint"] != lineage["data fingerprint"]
    assert origin["origin"] is None
    report = report_of(done)
    assert origin["data fingerprint"] in report
    assert f"run:MLMFlow/{run_id_of(mlm)}" in report
    seen = found["data_report"]["seen_by_checkpoint"]["test"]
    assert 0 <= seen["verbatim"] < 0.5 and seen["near"] == 0


def test_official_parts_and_a_checkpoint_that_is_only_scored(home, tiny_bert, trained):
    adverts = trained[1]["adverts"].drop(columns=["source", "row"])
    test = adverts["part"] == "test"
    adverts[~test].to_json(home / "t.jsonl", orient="records", lines=True)
    adverts[test].to_json(home / "official.jsonl", orient="records", lines=True)
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--epochs", "0"),
        *("--data", home / "t.jsonl", "--test-data", home / "official.jsonl"),
        *WITHOUT_CARDS,
        before=FEW,
    )
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, done)
    assert found["data_report"]["parts"]["test"]["adverts"] == test.sum()
    scores = found["metrics"]["scores"]["all"]["accuracy"]
    assert scores["after"] == scores["before"] and scores["change"]["value"] == 0
    assert found["training_log"].empty


def test_adverts_of_one_sentence_say_so(home, tiny_bert):
    rows = [
        {
            "text": f"We need {n} people " + "who drive and load our van " * 5,
            "employer": n,
        }
        for n in range(40)
    ]
    pd.DataFrame(rows).assign(id=range(40), title="", date="").to_csv(
        home / "one.csv", index=False
    )
    arguments = ["run", "--checkpoint", tiny_bert, "--data", home / "one.csv"]
    done = run_flow(home, *arguments)
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    message = "none of its 32 adverts has two sentences of 3 words or more, one after"
    assert f"train: {message}" in " ".join(said.split()), said
