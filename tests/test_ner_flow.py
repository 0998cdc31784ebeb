"""The flow learns its sample, loses no gold span, and publishes what it scored."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from flows import WITHOUT_CARDS, errors_of, report_of, sentences_in
from flows import artifacts as artifacts_of
from flows import run_flow as run_any
from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.configs import NERConfig
from ojd_daps_language_models.preprocessing.entities import spans_of
from ojd_daps_language_models.tasks import ner
from ojd_daps_language_models.training.metrics import bootstrap, mean, of_sums

run_flow = partial(run_any, "ner_flow")
artifacts = partial(artifacts_of, "ner_flow")
slow = partial(pytest.param, marks=pytest.mark.slow)
LABELS = ["SKILL", "MULTISKILL", "EXPERIENCE", "BENEFIT"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(home, shallow_encoder):
    """A run on the shipped sample that starts from real weights, and its artifacts."""
    # Two layers learn slower than six.
    done = run_flow(home, "run", "--checkpoint", shallow_encoder, "--epochs", "10")
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


@pytest.fixture(scope="module")
def two_layers(home, tiny_bert):
    """A run with two seeds on a file with two columns of tags, in short windows."""
    rows = []
    for number in range(60):
        tokens = [f"word{(number * 31 + place * 7) % 500}" for place in range(40)]
        at = 3 + number % 30
        tokens[at : at + 2] = ["wants", f"skill{number % 5}"]
        tokens[at + 3] = "SQL"
        skill, knowledge = ["O"] * 40, ["O"] * 40
        skill[at : at + 4] = ["B", "I", "I", "I"]
        knowledge[at + 3] = "B-KNOWLEDGE"
        rows.append(
            {"tokens": tokens, "skill": skill, "knowledge": knowledge, "idx": number}
        )
    rows[0]["skill"][0] = "I"
    (home / "tags.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (home / "layers.yaml").write_text(
        "data:\n"
        "  columns: {id: null, employer: null, advert: idx}\n"
        "  layers: {SKILL: skill, KNOWLEDGE: knowledge}\n"
        "  labels: [SKILL, KNOWLEDGE]\n"
        "split: {max_verbatim_overlap: 1, max_near_overlap: 1}\n"
        "training: {max_length: 64, overlap: 16}\n"
        "evaluation: {bootstrap_samples: 100, examples: [She wants skill4 and SQL.]}\n"
    )
    done = run_flow(
        home,
        *("run", "--checkpoint", tiny_bert, "--data", home / "tags.jsonl"),
        *("--epochs", "1", "--seeds", "2", "--with", "tests.faults.say_whether_torch"),
        *WITHOUT_CARDS,
        before=["--config", "config", str(home / "layers.yaml")],
    )
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


def test_it_learns_the_sample(trained):
    scores = trained[1]["metrics"]["scores"]["entities"]
    f1 = scores["micro"]["f1"]
    assert f1["after"]["low"] > f1["gazetteer"]["high"]
    assert f1["change"]["low"] > 0.3
    assert set(scores) == {*LABELS, "micro", "macro"}
    for label in LABELS:
        assert scores[label]["f1"]["after"]["value"] > 0.5


def test_every_text_and_span_of_the_sample_is_accounted_for(trained):
    found = trained[1]
    report = found["data_report"]
    assert (
        len(found["texts"]) + len(found["kept_aside"]) == report["funnel"][0]["texts"]
    )
    spans = report["spans"]
    assert spans["read"] == spans["kept"] + len(found["spans_aside"])
    reasons = {row["reason"]: row["spans"] for row in report["spans_kept_aside"]}
    assert reasons["it begins or ends inside a word"] > 5
    assert reasons["it overlaps another"] > 3
    assert (found["texts"].groupby("employer")["part"].nunique() == 1).all()


def test_no_gold_span_is_lost_to_the_window(trained):
    lost = trained[1]["metrics"]["lost_to_truncation"]["test"]
    assert lost["lost"] > 0 and lost["long_texts"] > 0
    said, texts = trained[1]["predictions"], trained[1]["texts"]
    gold = said[said["system"] == "gold"]
    test = texts[texts["part"] == "test"]
    assert lost["spans"] == sum(map(len, spans_of(test, "entities")))
    assert len(gold) == lost["spans"] + test["unaligned"].str.len().sum()
    # The model finds entities there too.
    reach = test.set_index("id")["text"].str.len() / 2
    late = said[said["start"] > said["id"].map(reach)]
    found = late[late["system"] == "after"]
    keys = ["id", "label", "start", "end"]
    right = found.merge(late[late["system"] == "gold"], on=keys)
    assert len(right) > 0.5 * len(late[late["system"] == "gold"])


def test_strict_scores_follow_from_the_predictions(trained):
    """Recomputed from the artifact: same label, same characters."""
    said = trained[1]["predictions"]
    keys = ["id", "label", "start", "end"]
    gold = set(map(tuple, said.loc[said["system"] == "gold", keys].to_numpy()))
    texts = trained[1]["texts"]
    test = texts[texts["part"] == "test"]
    # Spans without words of their own are there, though no system finds them.
    beyond = {
        (id_, label, start, end)
        for id_, spans in zip(test["id"], test["unaligned"], strict=True)
        for start, end, label, _ in spans
    }
    assert beyond and beyond < gold
    for system in ("gazetteer", "crf", "before", "after"):
        found = set(map(tuple, said.loc[said["system"] == system, keys].to_numpy()))
        assert not beyond & found
        right = len(gold & found)
        scores = trained[1]["metrics"]["scores"]["entities"]["micro"]
        assert scores["recall"][system]["value"] == pytest.approx(right / len(gold))
        assert scores["f1"][system]["value"] == pytest.approx(
            2 * right / (len(gold) + len(found))
        )


def test_intervals_come_from_a_resampling_of_adverts(trained, shallow_encoder):
    """Where two texts are of one advert, they are drawn together."""
    found, texts = trained[1], trained[1]["texts"]
    adverts = texts.groupby("part").cumcount() // 2
    texts = texts.assign(advert=adverts.astype(str), employer=None)
    metrics, said, _ = ner.evaluate(
        *(found["tokens"], texts, found["labels"], shallow_encoder),
        *([found["model"]], NERConfig(), [42]),
    )
    test = texts[texts["part"] == "test"]
    advert_of = pd.Series(pd.factorize(test["advert"])[0], test["id"])
    count = advert_of.nunique()
    assert 1.5 * count < len(test)
    gold = said[said["system"] == "gold"]
    for system in ("gazetteer", "crf"):
        spans = said[said["system"] == system]
        right = spans.merge(gold, on=["id", "label", "start", "end"])
        of_gold, of_system, of_both = (
            np.bincount(rows["id"].map(advert_of), minlength=count)
            for rows in (gold, spans, right)
        )
        sums = np.column_stack([of_gold + of_system, 2 * of_both])
        expected = bootstrap(of_sums(sums, mean), count, 1000, 0)
        score = metrics["scores"]["entities"]["micro"]["f1"][system]
        assert score == pytest.approx(expected)


def test_the_published_model_finds_what_was_scored(trained, tmp_path):
    from ojd_daps_language_models.training.token_classification import find_entities

    found = trained[1]
    folder = unpack_folder(found["model"], tmp_path / "model")
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt")]
    test = found["texts"][found["texts"]["part"] == "test"]
    said = {
        (id_, entity["label"], entity["start"], entity["end"])
        for id_, entities in zip(
            test["id"], find_entities(test["text"].tolist(), folder), strict=True
        )
        for entity in entities
    }
    scored = found["predictions"]
    scored = scored.loc[scored["system"] == "after", ["id", "label", "start", "end"]]
    scored = set(map(tuple, scored.to_numpy()))
    # bf16 may turn what is as likely as not
    assert len(said & scored) > 0.98 * len(said | scored)


def test_a_pipeline_reads_a_whole_advert(trained, tmp_path):
    from transformers import pipeline

    found = trained[1]
    folder = unpack_folder(found["model"], tmp_path / "model")
    find = pipeline(
        "token-classification",
        model=str(folder),
        aggregation_strategy="simple",
        stride=32,
    )
    texts = found["texts"]
    text = texts.loc[texts["text"].str.len().idxmax()]
    entities = find(text["text"])
    assert {entity["entity_group"] for entity in entities} <= set(LABELS)
    assert max(entity["end"] for entity in entities) > 0.7 * len(text["text"])


def test_the_report_shows_examples_and_quotes_no_advert(trained):
    report = report_of(trained[0])
    assert "MULTISKILL" in report
    texts = trained[1]["texts"]["text"]
    assert not sentences_in(report, texts)


def test_two_layers_are_learnt_together_and_reported_apart(two_layers):
    metrics = two_layers[1]["metrics"]
    assert set(metrics["scores"]) == {"SKILL", "KNOWLEDGE"}
    assert set(metrics["scores"]["SKILL"]) == {"SKILL", "micro", "macro"}
    assert len(two_layers[1]["other_models"]) == 3
    log = two_layers[1]["training_log"]
    assert set(log["seed"]) == {42, 43}
    assert set(metrics["spread"]) >= {"SKILL, micro", "KNOWLEDGE, micro"}
    told = errors_of(two_layers[0])
    assert "2 seeds: mean" in told
    assert "model: finds SKILL; other_models: KNOWLEDGE" in told


def test_r_drop_counts_in_the_training_loss(two_layers, tiny_bert):
    found, losses = two_layers[1], []
    for weight in (0.0, 1000.0):
        training = {"max_length": 64, "overlap": 16, "dropout": 0.3, "r_drop": weight}
        _, log = ner.train(
            *(found["tokens"], found["texts"], found["labels"], tiny_bert),
            *(NERConfig(training=training), 1, [0]),
        )
        losses.append(log["loss"].dropna().iloc[0])
    assert losses[1] > losses[0] + 1


def test_models_of_one_training_share_an_encoder_and_not_their_head(
    two_layers, tmp_path
):
    found = two_layers[1]
    skill, other_seed, knowledge, _ = (
        load_file(unpack_folder(packed, tmp_path / f"{number}") / "model.safetensors")
        for number, packed in enumerate([found["model"], *found["other_models"]])
    )
    for name, values in skill.items():
        is_head = name.startswith("classifier")
        assert np.array_equal(values, knowledge[name]) != is_head, name
    weights = next(name for name in skill if name.endswith("query.weight"))
    assert not np.array_equal(skill[weights], other_seed[weights])


def test_a_tag_that_goes_on_with_nothing_is_mended_and_counted(two_layers):
    assert two_layers[1]["data_report"]["spans"]["repaired"] == 1


def test_steps_that_need_no_torch_do_not_import_it(two_layers):
    lines = errors_of(two_layers[0]).splitlines()
    with_torch = {line.split()[-1] for line in lines if "torch was imported" in line}
    assert with_torch == {"train", "evaluate"}


BROKEN = {
    "offsets past the end": (
        {"text": "We need SQL", "spans": [{"start": 8, "end": 99, "label": "SKILL"}]},
        "60 of 60 spans cannot be used: it ends past the end of the text (60); the "
        "first is in bad.jsonl, row 1, id 0 (characters 8 to 99); expected spans of",
    ),
    "no annotation": ({"text": "We need SQL"}, "no annotation is in it"),
    "no spans at all": (
        {"text": "We need SQL", "spans": []},
        "none of the 60 texts has a span",
    ),
    "tags that are none": (
        {"tokens": ["We", "need", "SQL"], "tags": ["O", "O", "SKILL"]},
        "the tags of 60 of 60 texts cannot be read",
    ),
    "unknown labels": (
        {"text": "We need SQL", "spans": [{"start": 8, "end": 11, "label": "Skill"}]},
        "its label is unknown: 'Skill'",
    ),
}
one_case, *other_cases = BROKEN


@pytest.mark.parametrize("case", [one_case, *map(slow, other_cases)])
def test_annotations_that_cannot_be_used_say_so(home, tiny_bert, case):
    row, message = BROKEN[case]
    whose = {"employer": "Brown & Sons", "advert": "a1"}
    lines = (json.dumps(row | whose | {"id": number}) for number in range(60))
    (home / "bad.jsonl").write_text("\n".join(lines))
    arguments = ("run", "--checkpoint", tiny_bert, "--data", home / "bad.jsonl")
    done = run_flow(home, *arguments)
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert message in " ".join(said.split()), said
    assert "bad.jsonl" in said
