"""The flow learns its sample, and every score follows from where right answers came."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from test_skill_similarity import like_and_unlike, many, pair, prepare, scored

from flows import WITHOUT_CARDS, errors_of, report_of, run_id_of
from flows import artifacts as artifacts_of
from flows import run_flow as run_any
from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.configs import SkillSimilarityConfig
from ojd_daps_language_models.publishing.scores import list_measures
from ojd_daps_language_models.tasks import skill_similarity
from ojd_daps_language_models.training.metrics import bootstrap, mean, of_sums

run_flow = partial(run_any, "skill_similarity_flow")
artifacts = partial(artifacts_of, "skill_similarity_flow")
slow = partial(pytest.param, marks=pytest.mark.slow)

SCORES = ["--config", "config", "scores.yaml"]
OFFICIAL = [
    word
    for part in ("data", "validation-data", "test-data")
    for word in (f"--{part}", f"{part}.csv")
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(home):
    """A run on the shipped sample with the embedded encoder, and its artifacts."""
    done = run_flow(home, "run", "--epochs", "1")
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


@pytest.fixture(scope="module")
def two_seeds(home, tiny_bert):
    """Two seeds of a tiny BERT, on pairs with scores, in official parts."""
    rng = np.random.default_rng(0)
    for part, count in (("data", 120), ("validation-data", 30), ("test-data", 24)):
        rows = [
            {
                "skill": f"{part} skill {number}",
                "other": f"{part} label {number // 2 * 2} {number}",
                "score": float(rng.choice([0.0, 0.25, 0.5, 0.75, 1.0])),
            }
            for number in range(count)
        ]
        pd.DataFrame(rows).to_csv(home / f"{part}.csv", index=False)
    (home / "scores.yaml").write_text(
        "data: {columns: {id: null, score: score}}\ntraining: {batch_size: 32}\n"
    )
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--epochs", "1", "--seeds", "2"),
        *OFFICIAL,
        *("--with", "tests.faults.say_whether_torch"),
        *WITHOUT_CARDS,
        before=SCORES,
    )
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


def test_it_learns_the_sample(trained):
    scores = trained[1]["metrics"]["scores"]["alternative_labels"]["mrr"]
    assert scores["change"]["low"] > 0
    assert scores["gain"]["low"] > 0
    assert scores["after"]["low"] > 0.6
    sentences = trained[1]["metrics"]["scores"]["sentences, skill_similarity_sentences"]
    assert sentences["mrr"]["change"]["low"] > 0


def test_every_row_of_the_sample_is_accounted_for(trained):
    report = trained[1]["data_report"]
    first, last = report["funnel"][0]["pairs"], report["funnel"][-1]["pairs"]
    assert last + len(trained[1]["kept_aside"]) == first == 1229
    assert sum(row["pairs"] for row in report["kept_aside"]) == first - last > 0
    assert report["shared_labels"]["labels"] > 5
    labels = trained[1]["labels"]
    assert (labels.groupby("key")["part"].nunique() == 1).all()
    assert report["overlap"]["test"]["seen"] == 0


@pytest.mark.parametrize("system", ["tfidf", "before", "after"])
def test_every_number_follows_from_the_places_of_right_answers(trained, system):
    """Recomputed query by query from the artifact `predictions`."""
    metrics, said = trained[1]["metrics"], trained[1]["predictions"]
    groups = {
        "alternative_labels": said["task"] == "alternative_labels",
        "sentences, skill_similarity_sentences": said["task"] == "sentences",
    }
    assert set(groups) == set(metrics["scores"])
    for group, rows in groups.items():
        ranks = said[rows].groupby("text")[system]
        by_hand = {
            "mrr": (1 / ranks.min()).mean(),
            **{
                f"recall_at_{k}": ranks.agg(lambda r, k=k: (r <= k).mean()).mean()
                for k in (1, 5, 10)
            },
            **{
                f"rp_at_{k}": ranks.agg(
                    lambda r, k=k: (r <= k).sum() / min(k, len(r))
                ).mean()
                for k in (5, 10)
            },
        }
        for measure, systems in metrics["scores"][group].items():
            assert systems[system]["value"] == pytest.approx(by_hand[measure])


def test_intervals_come_from_a_resampling_of_skills_that_share_labels(trained):
    metrics, said = trained[1]["metrics"], trained[1]["predictions"]
    asked = said[said["task"] == "alternative_labels"].groupby("text")
    clusters, cluster = np.unique(asked["cluster"].first(), return_inverse=True)
    assert 2 * len(clusters) < len(cluster)
    for system in ("tfidf", "after"):
        reciprocal = 1 / asked[system].min().to_numpy()
        sums = np.column_stack([np.bincount(cluster), np.bincount(cluster, reciprocal)])
        expected = bootstrap(of_sums(sums, mean), len(clusters), 1000, 0)
        found = metrics["scores"]["alternative_labels"]["mrr"][system]
        assert found == pytest.approx(expected)


def test_sentence_transformers_loads_the_model_that_was_scored(trained, tmp_path):
    from sentence_transformers import SentenceTransformer

    found = trained[1]
    folder = unpack_folder(found["model"], tmp_path / "model")
    files = [path.name for path in folder.rglob("*") if path.is_file()]
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    model = SentenceTransformer(str(folder))
    said = found["predictions"]
    asked = said[said["task"] == "alternative_labels"][:100]
    similar = (
        model.encode(asked["text"].tolist())
        @ model.encode(found["skills"]["name"].tolist()).T
    )
    right = similar[np.arange(len(asked)), asked["skill"]]
    ranks = 1 + (similar > right[:, None]).sum(axis=1)
    # bf16 may change places that are close
    assert (np.abs(ranks - asked["after"]) <= 1).mean() > 0.9


def test_what_the_report_shows(trained):
    report = report_of(trained[0])
    assert "False negatives avoided" in report
    row = trained[1]["space"]["neighbours"][0]
    assert row["label"] in report and row["after"][0] in report
    assert "ESCO" not in report


@pytest.mark.parametrize(
    ("run", "measure"), [("two_seeds", "spearman"), ("trained", "mrr")]
)
def test_training_goes_on_where_there_is_no_test_part(request, tiny_bert, run, measure):
    """The epoch is chosen by validation alone."""
    found, config = request.getfixturevalue(run)[1], SkillSimilarityConfig()
    queries, pairs = (
        found[name][found[name]["part"] != "test"] for name in ("queries", "pairs")
    )
    tokens = skill_similarity.tokenize(
        *(found["skills"], queries, pairs, found["owners"], tiny_bert, config)
    )
    _, log = skill_similarity.train(
        *(tokens, queries, found["related"], tiny_bert, config, 1, [0])
    )
    assert log[f"validation_{measure}"].notna().sum() == 1


def test_scores_choose_the_epoch_where_validation_has_nothing_else(tmp_path, tiny_bert):
    """As when training is on ESCO, and validation on pairs of related skills."""
    found, config = prepare(tmp_path, many()), SkillSimilarityConfig()
    validation = [
        {"text": f"s {n}", "other": f"t {n * n}", "score": n / 4, "part": "validation"}
        for n in range(5)
    ]
    pairs = pd.concat([found.pairs, pd.DataFrame(validation)], ignore_index=True)
    queries = found.queries[found.queries["part"] != "validation"]
    tokens = skill_similarity.tokenize(
        *(found.skills, queries, pairs, found.owners, tiny_bert, config)
    )
    _, log = skill_similarity.train(
        *(tokens, queries, found.related, tiny_bert, config, 1, [0])
    )
    assert log["validation_spearman"].notna().sum() == 1


@pytest.mark.parametrize("unlike", [[], ["xylem", "quartz"]])
def test_what_a_small_test_part_can_say_is_published(tmp_path, tiny_bert, unlike):
    """With one score there is no correlation, and for TF-IDF all pairs may be alike."""
    test = [pair(f"abc {n}", f"uvw {n + 5}", score=1.0) for n in range(4)]
    test += [pair("abc 1", other, score=0.0) for other in unlike]
    found = prepare(tmp_path, like_and_unlike(), scored(), test=test)
    config = SkillSimilarityConfig()
    tokens = skill_similarity.tokenize(
        *(found.skills, found.queries, found.pairs, found.owners, tiny_bert, config)
    )
    models, _ = skill_similarity.train(
        *(tokens, found.queries, found.related, tiny_bert, config, 0, [0])
    )
    metrics, *_ = skill_similarity.evaluate(
        *(tokens, found.skills, found.queries, tiny_bert, models, config, [0])
    )
    asked = {measure.path[0] for measure in list_measures(metrics["scores"])}
    assert asked == {"alternative_labels", *(["scored_pairs"] if unlike else [])}
    if unlike:
        floor = metrics["scores"]["scored_pairs"]["spearman"]["tfidf"]
        assert floor == {"value": 0, "low": 0, "high": 0}


def test_scores_of_pairs_are_correlated_with_similarities(home, two_seeds):
    metrics, said = two_seeds[1]["metrics"], two_seeds[1]["predictions"]
    pairs = said[said["task"] == "scored_pairs"]
    assert len(pairs) == metrics["scored_pairs"]
    asked = pd.read_csv(home / "test-data.csv")
    assert sorted(pairs["score"]) == sorted(asked["score"])
    for system in ("tfidf", "before", "after"):
        score = metrics["scores"]["scored_pairs"]["spearman"][system]
        expected = spearmanr(pairs["score"], pairs[system]).statistic
        assert score["value"] == pytest.approx(expected)
    assert two_seeds[1]["training_log"]["validation_spearman"].notna().any()


def test_several_seeds_give_mean_and_spread(two_seeds):
    metrics = two_seeds[1]["metrics"]
    values = [row["scores"]["scored_pairs"]["spearman"] for row in metrics["seeds"]]
    spread = metrics["spread"]["scored_pairs"]["spearman"]
    assert len(values) == 2
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert len(two_seeds[1]["other_models"]) == 1
    assert "2 seeds: mean" in errors_of(two_seeds[0])


def test_steps_that_need_no_torch_do_not_import_it(two_seeds):
    lines = errors_of(two_seeds[0]).splitlines()
    with_torch = {line.split()[-1] for line in lines if "torch was imported" in line}
    assert with_torch == {"train", "evaluate"}


def test_a_run_starts_from_another_and_says_what_that_had_seen(home, two_seeds):
    first = two_seeds[1]
    checkpoint = f"run:SkillSimilarityFlow/{run_id_of(two_seeds[0])}"
    done = run_flow(
        home,
        *("run", "--checkpoint", checkpoint, "--epochs", "0", *OFFICIAL),
        *WITHOUT_CARDS,
        before=SCORES,
    )
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, done)
    seen = found["data_report"]["seen_by_checkpoint"]
    assert seen["test"]["seen"] == 0 < seen["test"]["labels"]
    fingerprint = first["data_report"]["fingerprint"]
    assert found["lineage"]["origin"]["data fingerprint"] == fingerprint
    scores, before = (
        run["metrics"]["scores"]["scored_pairs"]["spearman"] for run in (found, first)
    )
    assert scores["change"]["value"] == 0
    assert scores["after"]["value"] == pytest.approx(before["after"]["value"], abs=0.01)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"skill": "a", "other": "A"}] * 3, "both labels are the same"),
        slow([{"skill": "a", "other": "b"}], "bad.jsonl: too few groups of skills for"),
        slow(
            [{"skill": "a", "others": "b"}],
            "no column 'other'; found 'skill', 'others'",
        ),
    ],
)
def test_data_that_cannot_be_used_say_so(home, tiny_bert, rows, message):
    lines = [json.dumps(row) + "\n" for row in rows]
    (home / "bad.jsonl").write_text("".join(lines))
    (home / "own.yaml").write_text("data: {columns: {id: null}}\n")
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--data", home / "bad.jsonl"),
        before=["--config", "config", str(home / "own.yaml")],
    )
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert message in " ".join(said.split()), said
