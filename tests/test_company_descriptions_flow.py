"""The flow learns its sample, and every score follows from what each system said."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from flows import WITHOUT_CARDS, errors_of, report_of, sentences_in
from flows import artifacts as artifacts_of
from flows import run_flow as run_any
from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.configs import CompanyDescriptionsConfig
from ojd_daps_language_models.preprocessing.company_descriptions import (
    LABELS,
    NEGATIVE,
    POSITIVE,
)
from ojd_daps_language_models.preprocessing.splits import as_keys
from ojd_daps_language_models.tasks import company_descriptions
from ojd_daps_language_models.training.baselines import fit_tfidf
from ojd_daps_language_models.training.metrics import (
    best_threshold,
    bootstrap,
    f1,
    mean,
    of_sums,
)

run_flow = partial(run_any, "company_descriptions_flow")
artifacts = partial(artifacts_of, "company_descriptions_flow")
slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(home, shallow_encoder):
    """A run on the shipped sample that starts from real weights, and its artifacts."""
    done = run_flow(home, "run", "--checkpoint", shallow_encoder, "--epochs", "4")
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


@pytest.fixture(scope="module")
def two_seeds(home, tiny_bert):
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--epochs", "1", "--seeds", "2"),
        *("--with", "tests.faults.say_whether_torch"),
        *WITHOUT_CARDS,
    )
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


def test_it_learns_the_sample(trained):
    scores = trained[1]["metrics"]["scores"]
    f1 = scores[POSITIVE]["f1"]
    assert f1["after"]["low"] > 0.7
    assert f1["change"]["low"] > 0
    assert f1["majority"]["value"] == 0
    precision = scores[POSITIVE]["average_precision"]
    assert precision["after"]["low"] > precision["majority"]["high"]


def test_every_row_of_the_sample_is_accounted_for(trained):
    found = trained[1]
    report = found["data_report"]
    rows = report["funnel"][0]["sentences"]
    assert len(found["sentences"]) + len(found["kept_aside"]) == rows == 1512
    assert sum(row["sentences"] for row in report["kept_aside"]) == len(
        found["kept_aside"]
    )
    assert report["conflicts"]["sentences"] > 0
    assert (found["sentences"].groupby("employer")["part"].nunique() == 1).all()


@pytest.mark.parametrize("system", ["majority", "tfidf", "before", "after"])
def test_every_number_follows_from_what_was_said(trained, system):
    """Recomputed with scikit-learn from the artifact `predictions`."""
    metrics, said = trained[1]["metrics"], trained[1]["predictions"]
    positive, predicted = said["label"] == POSITIVE, said[f"{system} says so"]
    counts = metrics["confusion"][system]
    (tn, fp), (fn, tp) = sklearn_metrics.confusion_matrix(positive, predicted)
    assert counts == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    for label, found in (
        (POSITIVE, (positive, predicted)),
        (NEGATIVE, (~positive, ~predicted)),
    ):
        expected = sklearn_metrics.precision_recall_fscore_support(
            *found, average="binary", zero_division=np.nan
        )
        for measure, value in zip(
            ("precision", "recall", "f1"), expected, strict=False
        ):
            score = metrics["scores"][label][measure][system]["value"]
            says_so = found[1].any()
            if measure == "precision" and not says_so:
                assert np.isnan(score)
            else:
                assert score == pytest.approx(value)
    both = metrics["scores"]["both"]
    assert both["accuracy"][system]["value"] == pytest.approx((tp + tn) / len(said))
    assert both["brier"][system]["value"] == pytest.approx(
        sklearn_metrics.brier_score_loss(positive, said[system])
    )
    assert metrics["scores"][POSITIVE]["average_precision"][system][
        "value"
    ] == pytest.approx(sklearn_metrics.average_precision_score(positive, said[system]))


def test_the_floor_decides_and_is_scored_where_the_model_is(trained):
    """At one half, where the threshold that validation chose was moved."""
    said = trained[1]["predictions"]
    assert (said["tfidf says so"] == (said["tfidf"] > 0.5)).all()
    assert trained[1]["metrics"]["threshold"]["tfidf"] != 0.5


def test_intervals_come_from_a_resampling_of_employers(two_seeds):
    metrics, said = two_seeds[1]["metrics"], two_seeds[1]["predictions"]
    employers, employer = np.unique(as_keys(said["employer"]), return_inverse=True)
    assert 2 * len(employers) < len(said)
    for system in ("tfidf", "after"):
        right = (said["label"] == POSITIVE) == said[f"{system} says so"]
        sums = np.column_stack([np.bincount(employer), np.bincount(employer, right)])
        expected = bootstrap(of_sums(sums, mean), len(employers), 1000, 0)
        found = metrics["scores"]["both"]["accuracy"][system]
        assert found == pytest.approx(expected)


def test_precision_at_the_prevalence_of_the_data_is_about_the_precision(trained):
    metrics = trained[1]["metrics"]
    assert metrics["prevalence"]["assumed"] == trained[1]["data_report"]["prevalence"]
    scores = metrics["scores"][POSITIVE]
    assert scores["precision_at_prevalence"]["after"]["value"] == pytest.approx(
        scores["precision"]["after"]["value"], abs=0.1
    )


def test_the_reliability_curve_counts_every_sentence_once(trained):
    metrics, said = trained[1]["metrics"], trained[1]["predictions"]
    bins = metrics["reliability"]["after"]
    assert sum(row["sentences"] for row in bins) == len(said) == metrics["sentences"]
    observed = sum(row["observed"] * row["sentences"] for row in bins)
    assert observed == pytest.approx((said["label"] == POSITIVE).sum())
    for row in bins:
        assert row["from"] <= row["predicted"] <= row["to"]


def test_training_goes_on_where_there_is_no_test_part(two_seeds, tiny_bert):
    """Epoch and threshold are chosen by validation alone."""
    sentences = two_seeds[1]["sentences"]
    parts = ("train", "validation")
    _, thresholds, log = company_descriptions.train(
        {part: two_seeds[1]["tokens"][part] for part in parts},
        sentences[sentences["part"].isin(parts)],
        *(tiny_bert, CompanyDescriptionsConfig(), 1, [0]),
    )
    assert thresholds != [0.5]
    assert log["validation_average_precision"].notna().any()


def test_validation_chooses_the_threshold_of_the_floor(two_seeds):
    parts = {
        part: (rows["text"].tolist(), rows["label"].eq(POSITIVE).to_numpy())
        for part, rows in two_seeds[1]["sentences"].groupby("part")
    }
    likely = fit_tfidf(parts["train"], parts["validation"])
    chosen, best_on_test = (
        best_threshold(parts[part][1], likely(parts[part][0]), f1)
        for part in ("validation", "test")
    )
    threshold = two_seeds[1]["metrics"]["threshold"]["tfidf"]
    assert threshold == pytest.approx(chosen)
    assert threshold != pytest.approx(best_on_test)


def test_a_pipeline_gives_the_label_that_was_scored(trained, tmp_path):
    """The threshold that validation chose is part of the published model."""
    from transformers import pipeline

    found = trained[1]
    folder = unpack_folder(found["model"], tmp_path / "model")
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt")]
    classify = pipeline("text-classification", model=str(folder), truncation=True)
    test = found["sentences"][found["sentences"]["part"] == "test"]
    answers = [answer["label"] for answer in classify(test["text"].tolist())]
    assert set(answers) == set(LABELS)
    scored = np.where(found["predictions"]["after says so"], POSITIVE, NEGATIVE)
    # bf16 may turn what stands at one half
    assert (np.array(answers) == scored).mean() > 0.98
    assert found["metrics"]["threshold"]["after"] == found["thresholds"][0] != 0.5


def test_the_report_quotes_no_sentence(trained):
    report = report_of(trained[0])
    assert "TF-IDF" in report
    assert not sentences_in(report, trained[1]["sentences"]["text"])


def test_several_seeds_give_mean_and_spread(two_seeds):
    metrics = two_seeds[1]["metrics"]
    values = [row["scores"]["both"]["accuracy"] for row in metrics["seeds"]]
    spread = metrics["spread"]["both"]["accuracy"]
    assert len(values) == 2
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    assert "2 seeds: mean" in errors_of(two_seeds[0])


def test_steps_that_need_no_torch_do_not_import_it(two_seeds):
    lines = errors_of(two_seeds[0]).splitlines()
    with_torch = {line.split()[-1] for line in lines if "torch was imported" in line}
    assert with_torch == {"train", "evaluate"}


def test_official_test_data_keep_their_prevalence(home, tiny_bert, trained):
    sentences = trained[1]["sentences"]
    test = sentences[sentences["part"] == "test"]
    columns = {"text": "sentence"}
    keep = ["id", "text", "label", "employer", "advert"]
    test[keep].rename(columns=columns).to_csv(home / "test.csv", index=False)
    rest = sentences.loc[sentences["part"] != "test", keep].rename(columns=columns)
    pd.concat([rest, test[keep].rename(columns=columns)[:1]]).to_csv(
        home / "rest.csv", index=False
    )
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--epochs", "0"),
        *("--data", home / "rest.csv", "--test-data", home / "test.csv"),
        *WITHOUT_CARDS,
    )
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, done)
    parts = found["data_report"]["parts"]
    assert parts["test"]["sentences"] == len(test)
    assert parts["test"][POSITIVE] == (test["label"] == POSITIVE).sum()
    assert found["metrics"]["threshold"]["after"] == 0.5
    scores = found["metrics"]["scores"]["both"]["accuracy"]
    assert scores["change"]["value"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"employer": None}, "neither an employer nor an advert is given (60)"),
        slow({"label": 1}, "all 60 sentences are 'company_description'; expected both"),
        slow({"label": "perhaps"}, "60 of 60 rows have no label that is known"),
        slow({"employer": "A"}, "too few groups of sentences for"),
    ],
)
def test_data_that_cannot_be_used_say_so(home, tiny_bert, change, message):
    rows = [
        {
            "sentence": f"Text {number} says {number * 7} things about {number * 3}",
            "label": number % 2,
            "employer": f"E{number % 6}",
        }
        | change
        for number in range(60)
    ]
    pd.DataFrame(rows).to_csv(home / "bad.csv", index=False)
    (home / "own.yaml").write_text("data: {columns: {id: null, advert: null}}\n")
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--data", home / "bad.csv"),
        before=["--config", "config", str(home / "own.yaml")],
    )
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert message in " ".join(said.split()), said
