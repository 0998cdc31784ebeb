"""A model card says what the artifacts hold, and nothing that must not be public."""

import ast
import io
import json
import re
import tarfile
from math import isnan, nan

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from test_card_ner import artifacts as ner_artifacts
from test_cards import company_artifacts, mlm_artifacts, nsp_artifacts
from test_skill_similarity_card import ATTRIBUTION, of_pairs, skill_artifacts
from vl_convert import vegalite_to_png

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.cards.components import SYSTEMS
from ojd_daps_language_models.configs import (
    CompanyDescriptionsConfig,
    MLMConfig,
    NERConfig,
    NSPConfig,
    SkillSimilarityConfig,
    parse_config,
)
from ojd_daps_language_models.publishing import figures
from ojd_daps_language_models.publishing.metadata import EMBEDDED
from ojd_daps_language_models.publishing.model_card import TEMPLATES, write_card
from ojd_daps_language_models.publishing.scores import list_measures
from ojd_daps_language_models.training.span_metrics import score_spans

TASKS = {
    "mlm": (MLMConfig, mlm_artifacts),
    "nsp": (NSPConfig, lambda: nsp_artifacts([42])),
    "company_descriptions": (
        CompanyDescriptionsConfig,
        lambda: company_artifacts([42]),
    ),
    "ner": (NERConfig, ner_artifacts),
    "skill_similarity": (SkillSimilarityConfig, lambda: skill_artifacts([42])),
}
ARTIFACTS = ("metrics", "data_report", "training_log", "lineage", "costs")
REFERENCE = {
    "system": "JobBERT",
    "score": "all, accuracy",
    "value": 0.7525,
    "test_set": "PairSpan test",
    "source": "https://example.org/paper",
}
DRAWN: dict[str, bytes] = {}
every_task = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(autouse=True)
def each_chart_once(monkeypatch):
    """Charts that were drawn before are not drawn again: it takes most of the time."""

    def draw(chart, **settings):
        key = json.dumps([chart, settings])
        if key not in DRAWN:
            DRAWN[key] = vegalite_to_png(chart, **settings)
        return DRAWN[key]

    monkeypatch.setattr(figures.vl_convert, "vegalite_to_png", draw)


def packed(mask="[MASK]") -> bytes:
    """A model folder with no more than the mask of its tokenizer."""
    content = json.dumps({"mask_token": mask}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("tokenizer_config.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_run(task: str, made=None) -> dict:
    """A run as it is handed to the card, on the configuration of the repository."""
    model, make = TASKS[task]
    text = (PROJECT_DIR / "configs" / f"{task}.yaml").read_text(encoding="utf-8")
    given = made or make()
    run = {key: given[key] for key in ARTIFACTS}
    lineage = {"data": "sample", "validation data": None, "test data": None}
    run["lineage"] = run["lineage"] | lineage | {"run": "AFlow/12"}
    run["data_report"].setdefault("seen_by_checkpoint", None)
    run["data_report"].setdefault("labels", {"entities": ["SKILL", "BENEFIT"]})
    return run | {
        "flow": "AFlow",
        "run_id": "12",
        "task": task,
        "model": packed(),
        "config": parse_config(text, model).model_dump(),
    }


def write(folder, run, repository="charity/model") -> str:
    write_card(run, folder, repository)
    return (folder / "README.md").read_text(encoding="utf-8")


def groups_of(scores: dict) -> list[dict]:
    """What is scored, each with its measures."""
    first = next(iter(scores.values()))
    if all("value" in score for score in first.values()):
        return [scores]
    return [group for inner in scores.values() for group in groups_of(inner)]


def read_tables(text: str) -> list[list[list[str]]]:
    """Cells of each Markdown table, its headers first."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    lines = [block.splitlines() for block in blocks]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
        for rows in lines
    ]


def read_score(cell: str) -> list[float]:
    if cell == "undefined":
        return [nan, nan, nan]
    return [float(number) for number in re.findall(r"-?[\d,.]+", cell.replace(",", ""))]


def section(text: str, title: str) -> str:
    (found,) = re.findall(rf"^{title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found


# ------------------------------------------------------------------------ the numbers


@every_task
def test_every_score_in_the_tables_is_the_one_of_the_run(task, tmp_path):
    run = make_run(task)
    text = section(write(tmp_path, run), "## Scores")
    tables = read_tables(text.partition("### How to read them")[0])
    groups = groups_of(run["metrics"]["scores"])
    if task == "ner":  # the averages come first
        groups = [*groups[-2:], *groups[:-2]]
    assert len(tables) == len(groups)
    for (headers, _, *rows), measures in zip(tables, groups, strict=True):
        found = {row[0].strip("*"): row[1:] for row in rows}
        systems = {name for row in measures.values() for name in row}
        assert set(found) == {SYSTEMS[name] for name in systems}
        assert len(headers) == 1 + len(measures)
        for place, (measure, row) in enumerate(measures.items()):
            for system, score in row.items():
                cell = found[SYSTEMS[system]][place]
                expected = [score[key] for key in ("value", "low", "high")]
                rounded = 0.051 if measure == "perplexity" else 0.00051
                assert read_score(cell) == pytest.approx(
                    expected, abs=rounded, nan_ok=True
                )


@every_task
def test_the_hub_is_told_every_score_of_the_model(task, tmp_path):
    run = make_run(task)
    write(tmp_path, run)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    expected = [
        (measure, row["after"]["value"])
        for group in groups_of(run["metrics"]["scores"])
        for measure, row in group.items()
    ]
    assert [(r.metric_type, r.metric_value) for r in results] == expected
    names = [(result.dataset_name, result.metric_name) for result in results]
    assert len(set(names)) == len(names)


def test_scores_of_a_file_of_sentences_are_of_that_file(tmp_path):
    write(tmp_path, make_run("skill_similarity"))
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    named = {result.metric_name: result.dataset_name for result in results}
    assert {name: of for name, of in named.items() if "sentence" in name} == {
        "mean reciprocal rank (advert sentence to skill, House_A)": "House_A",
        "R-precision at 5 (advert sentence to skill, House_A)": "House_A",
    }
    assert "the test part of the sample" in named.values()


def test_a_floor_of_another_name_is_in_the_table(tmp_path):
    run = make_run("mlm")
    systems = run["metrics"]["scores"]["accuracy_at_1"]
    systems["bigrams"] = {"value": 0.125, "low": 0.1, "high": 0.15}
    assert re.search(r"^\| bigrams \|  \| 0\.125 ", write(tmp_path, run), re.M)


@every_task
def test_counts_and_costs_are_those_of_the_run(task, tmp_path):
    run = make_run(task)
    text = write(tmp_path, run)
    data = read_tables(section(text, "## Data"))
    unit = next(key for key in run["data_report"]["funnel"][0] if key != "stage")
    assert data[0][2:] == [
        [row["stage"], f"{row[unit]:,}"] for row in run["data_report"]["funnel"]
    ]
    parts = run["data_report"]["parts"]
    assert data[1][0] == ["", *parts]
    assert data[1][2:] == [
        [name.replace("_", " "), *(f"{part[name]:,}" for part in parts.values())]
        for name in parts["train"]
    ]
    (steps,) = [
        rows
        for rows in read_tables(section(text, "## How it was made"))
        if rows[0][0] == "step"
    ]
    assert steps[2:] == [["load", "3.2", "410"], ["train", "71.5", "1,400"]]
    left = run["data_report"]["funnel"]
    lost = left[0][unit] - left[-1][unit]
    share = lost / left[0][unit]
    assert f"{lost:,} of {left[0][unit]:,} {unit} ({share:.1%})" in text


@every_task
def test_the_file_of_scores_is_plain_json_of_the_run(task, tmp_path):
    run = make_run(task)
    run["metrics"]["of_numpy"] = {"n": np.int64(3), "x": np.float32(0.5)}
    write(tmp_path, run)
    text = (tmp_path / "evaluation.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert set(found) == {"metrics", "data_report", "lineage", "costs", "config"}
    assert text == json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False)
    assert found["metrics"]["of_numpy"] == {"n": 3, "x": 0.5}
    assert found["metrics"]["scores"] == json.loads(
        json.dumps(run["metrics"]["scores"]).replace("NaN", "null")
    )


def test_what_the_training_ran_on_is_told_where_it_is_known(tmp_path):
    run = make_run("nsp")
    assert "The training ran on" not in write(tmp_path, run)
    run["costs"]["train"] |= {"hardware": "2 cores", "energy_kwh": 0.0125}
    text = write(tmp_path, run)
    assert "| hardware | 2 cores |" in text and "| energy kwh | 0.0125 |" in text


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name, make_run("nsp"))
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "other")
    )
    assert one == other and len(one) == 5


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("number", [nan, float("inf")])
@pytest.mark.parametrize("key", ["value", "low"])
def test_a_score_of_the_model_that_is_no_number_is_refused(number, key, tmp_path):
    run = make_run("company_descriptions")
    run["metrics"]["scores"]["both"]["brier"]["after"][key] = number
    with pytest.raises(
        ValueError, match=f"both, brier: the {key} of 'after' is {number}"
    ):
        write(tmp_path, run)
    assert not any(tmp_path.iterdir())


def test_only_a_share_of_nothing_may_be_undefined(tmp_path):
    run = make_run("company_descriptions")
    precision = run["metrics"]["scores"]["company_description"]["precision"]
    assert isnan(precision["majority"]["value"])
    assert "| always the same answer | undefined |" in write(tmp_path, run)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    scores = found["metrics"]["scores"]["company_description"]
    assert scores["precision"]["majority"]["value"] is None
    run["metrics"]["scores"]["both"]["accuracy"]["tfidf"]["value"] = nan
    with pytest.raises(ValueError, match="both, accuracy: the value of 'tfidf'"):
        write(tmp_path, run)


def test_what_a_model_never_finds_has_no_precision_and_is_published(tmp_path):
    run = make_run("company_descriptions")
    scores = run["metrics"]["scores"]["company_description"]
    scores["precision"]["after"] = dict.fromkeys(("value", "low", "high"), nan)
    card = ModelCard(write(tmp_path, run))
    told = {result.metric_name for result in card.data.eval_results}
    assert "recall (company descriptions)" in told
    assert "precision (company descriptions)" not in told
    scores["recall"]["after"]["value"] = nan
    with pytest.raises(ValueError, match="recall: the value of 'after' is nan"):
        write(tmp_path, run)


def test_a_label_that_the_test_part_lacks_has_no_recall(tmp_path):
    run = make_run("company_descriptions")
    scores = run["metrics"]["scores"]["company_description"]
    nothing = dict.fromkeys(("value", "low", "high"), nan)
    scores["recall"] = dict.fromkeys(scores["recall"], nothing)
    assert "undefined" in write(tmp_path, run)


def test_the_f1_of_a_label_that_only_some_systems_invent_is_published():
    """The test part has none: 0 for those, a share of nothing for the others."""
    gold, invented = [[(0, 1, "SKILL")]] * 2, [[(0, 1, "BENEFIT")]] * 2
    scores = score_spans(
        gold,
        {"before": invented, "after": gold},
        ["SKILL", "BENEFIT"],
        np.arange(2),
        100,
        0,
        {"change": ("after", "before")},
    )
    f1 = {m.path: m.systems for m in list_measures(scores) if m.name == "f1"}
    assert f1["BENEFIT",]["before"]["value"] == 0
    assert isnan(f1["BENEFIT",]["after"]["value"])


def test_a_missing_value_is_named_with_its_place(tmp_path):
    run = make_run("nsp")
    del run["data_report"]["pairs"]
    with pytest.raises(ValueError, match=r"nsp\.md, line \d+: .*'pairs'"):
        write(tmp_path, run)
    run = make_run("nsp")
    del run["data_report"]["names"]
    with pytest.raises(ValueError, match=r"model_card\.md, line \d+: .*'names'"):
        write(tmp_path, run)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_is_no_value(nothing, tmp_path):
    run = make_run("nsp")
    run["metrics"]["head"] = nothing
    with pytest.raises(ValueError, match=r"model_card\.md, line \d+.*metrics\.head"):
        write(tmp_path, run)


def refer(run: dict, test_set: str | None, test_data: str | None, **changes) -> dict:
    run["config"]["publishing"] |= {
        "test_set": test_set,
        "references": [REFERENCE | changes],
    }
    run["lineage"]["test data"] = test_data
    return run


def test_published_scores_stand_beside_those_on_the_same_test_set(tmp_path):
    run = refer(make_run("nsp"), "PairSpan test", "hf://datasets/a/pairs/test.csv")
    text = section(write(tmp_path, run), "## Scores")
    (row,) = [line for line in text.splitlines() if line.startswith("| JobBERT")]
    value, own, *where = [cell.strip() for cell in row.strip("|").split("|")][2:]
    assert (value, read_score(own)[0]) == ("0.7525", 0.81)
    assert where == ["PairSpan test", "https://example.org/paper"]
    group = text[: text.index(row)].rpartition("### ")[2]
    assert group.startswith("All kinds")
    (results,) = ModelCard.load(tmp_path / "README.md").data.to_dict()["model-index"]
    dataset = results["results"][0]["dataset"]
    assert (dataset["name"], dataset["type"]) == ("PairSpan test", "a/pairs")


@pytest.mark.parametrize(
    "data, test_data, test_set, name",
    [
        ("sample", None, None, "the test part of the sample"),
        ("mine.csv", None, None, "the test part of its own data (local file)"),
        ("hf://datasets/a/pairs", None, None, "the test part of a/pairs"),
        ("sample", "zoltan.csv", None, "a test set that was given (local file)"),
        ("sample", "hf://datasets/a/pairs", None, "a/pairs"),
        ("sample", "zoltan.csv", "PairSpan test", "PairSpan test"),
    ],
)
def test_it_names_what_the_model_was_scored_on(
    data, test_data, test_set, name, tmp_path
):
    run = make_run("nsp")
    run["lineage"] |= {"data": data, "test data": test_data}
    run["config"]["publishing"]["test_set"] = test_set
    assert f"On {name}, scored once." in write(tmp_path, run)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert {result.dataset_name for result in results} == {name}


@pytest.mark.parametrize(
    "test_set, test_data, found",
    [
        ("Another test", "test.csv", "'Another test'"),
        (None, "test.csv", "without a name"),
        ("PairSpan test", None, "had no --test-data"),
    ],
)
def test_published_scores_on_another_test_set_are_refused(
    test_set, test_data, found, tmp_path
):
    with pytest.raises(ValueError, match=f"JobBERT was scored on.*{found}"):
        write(tmp_path, refer(make_run("nsp"), test_set, test_data))


def test_a_published_score_by_another_measure_is_left_out(tmp_path, capsys):
    run = refer(make_run("nsp"), "PairSpan test", "test.csv", score="all, f1")
    assert "JobBERT" not in write(tmp_path, run).partition("The configuration:")[0]
    said = capsys.readouterr().out
    assert "left out of the card: JobBERT, for the run has no score 'all, f1'" in said
    assert "all, accuracy; all, roc" in said


# ----------------------------------------------------------------- what must not leave


PLACES = {
    "mlm": "/home/zoltan/adverts.csv",
    "nsp": "s3://bucket-of-zoltan/adverts",
    "company_descriptions": "~/zoltan/adverts",
    "ner": "zoltan-*.jsonl",
    "skill_similarity": "zoltan",
}


@pytest.mark.parametrize("task, place", PLACES.items())
def test_no_place_of_data_or_checkpoint_is_told(task, place, tmp_path):
    run = make_run(task)
    run["config"]["data"]["path"] = place
    if task == "skill_similarity":
        run["config"]["data"]["sentences"] = [place]
    else:
        run["config"]["personal_data"]["names"] = "/home/zoltan/pipeline"
    run["config"]["model"]["checkpoint"] = "/home/zoltan/checkpoint"
    run["data_report"]["kept_aside"].append(
        {"reason": "cannot be read: /home/zoltan/x.csv", unit_of(run): 3}
    )
    names = ("data", "validation data", "test data")
    first = {"checkpoint": "/home/zoltan/checkpoint", "data": place}
    run["lineage"] |= dict.fromkeys(names, place)
    run["lineage"]["origin"]["origin"] = first
    text = write(tmp_path, run) + (tmp_path / "evaluation.json").read_text()
    assert "zoltan" not in text
    kind = "S3 objects" if place.startswith("s3") else "local f"
    assert f"| data | {kind}" in text and f"path: {kind}" in text
    assert "checkpoint: local folder" in text


def unit_of(run: dict) -> str:
    return next(key for key in run["data_report"]["funnel"][0] if key != "stage")


def test_public_places_are_told(tmp_path):
    run = make_run("mlm")
    run["config"]["data"]["path"] = run["lineage"]["data"] = "hf://datasets/a/adverts"
    text = write(tmp_path, run)
    assert "path: hf://datasets/a/adverts" in text
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.datasets == ["a/adverts"]
    assert {result.dataset_type for result in data.eval_results} == {"a/adverts"}


def test_no_text_of_rows_kept_aside_is_told(tmp_path):
    run = make_run("ner")
    run["data_report"]["kept_aside"] = [
        {"reason": "the label is neither of the two: 'a secret of ours'", "texts": 2},
        {"reason": 'the label is neither of the two: "it\'s a secret"', "texts": 3},
        {"reason": "its answer is 'a secret'", "texts": 4},
    ]
    text = write(tmp_path, run) + (tmp_path / "evaluation.json").read_text()
    assert "secret" not in text and "12345" not in text
    assert "| the label is neither of the two | 5 |" in text
    assert "| its answer is … | 4 |" in text


# ------------------------------------------------------------------ what the hub reads


def test_every_task_has_a_template():
    folder = PROJECT_DIR / "ojd_daps_language_models/tasks"
    tasks = {path.stem for path in folder.glob("[a-z]*.py")}
    assert {path.stem for path in TEMPLATES.glob("*.md")} == tasks | {"model_card"}


def test_a_task_without_a_template_is_told_which_file_it_lacks(tmp_path):
    run = make_run("nsp") | {"task": "weather"}
    with pytest.raises(FileNotFoundError, match=r"templates/weather\.md: no such file"):
        write(tmp_path, run)


@every_task
def test_the_metadata_is_plain_yaml_that_the_hub_can_list(task, tmp_path):
    text = write(tmp_path, make_run(task))
    block = text.split("---\n")[1]
    data = yaml.safe_load(block)
    assert "!!" not in block
    assert (data["license"], data["language"]) == ("unknown", "en")
    assert {"job-adverts", task, "metaflow"} <= set(data["tags"])
    assert data["model-index"][0]["name"] == "model"
    similar = task == "skill_similarity"
    library = "sentence-transformers" if similar else "transformers"
    assert data["library_name"] == library
    tags = {
        "mlm": "fill-mask",
        "nsp": "other",
        "ner": "token-classification",
        "company_descriptions": "text-classification",
        "skill_similarity": "sentence-similarity",
    }
    assert data["pipeline_tag"] == tags[task]
    loaded = ModelCard.load(tmp_path / "README.md")
    assert str(loaded) == text


@every_task
def test_nothing_is_said_of_a_model_that_nobody_chose_or_checked(task, tmp_path):
    run = make_run(task)
    run["lineage"]["data"] = "own.csv"
    run["data_report"]["attribution"] = None  # of ESCO
    checked = {"mlm": "en", "nsp": "en"}.get(task)
    text = write(tmp_path, run)
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.language) == ("unknown", checked)
    assert ("was neither said nor checked" in text) == (checked is None)
    if checked:
        run["config"]["data"]["language"] = None
        write(tmp_path, run)
        assert ModelCard.load(tmp_path / "README.md").data.language is None
    run["config"]["publishing"] |= {"licence": "mit", "language": "cy"}
    text = write(tmp_path, run)
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.language) == ("mit", "cy")
    assert "are in `cy`; in others" in text


def test_the_language_of_the_esco_export_is_that_of_the_model(tmp_path):
    run = make_run("skill_similarity")
    run["lineage"]["data"] = "esco"
    run["data_report"]["attribution"] = "This service uses ESCO."
    run["config"]["data"]["language"] = "fr"
    write(tmp_path, run)
    assert ModelCard.load(tmp_path / "README.md").data.language == "fr"


def test_widgets_have_the_sentences_of_the_configuration(tmp_path):
    run = make_run("mlm") | {"model": packed({"content": "<mask>"})}
    run["config"]["evaluation"]["fill_mask"] = ["We bake [MASK] at night."]
    text = write(tmp_path, run)
    widget = ModelCard.load(tmp_path / "README.md").data.to_dict()["widget"]
    assert widget == [{"text": "We bake <mask> at night."}]
    assert "[MASK]" not in section(text, "## How to use it").split("What it")[0]
    run = make_run("ner")
    write(tmp_path, run)
    widget = ModelCard.load(tmp_path / "README.md").data.to_dict()["widget"]
    assert [row["text"] for row in widget] == run["config"]["evaluation"]["examples"]


@pytest.mark.parametrize(
    "checkpoint, base",
    [
        ("embedded", EMBEDDED),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("/home/zoltan/model", None),
        ("s3://bucket/model", None),
        ("run:MLMFlow/3", None),
    ],
)
@pytest.mark.parametrize("runs_before", [0, 2])
def test_the_base_model_is_the_first_of_all(checkpoint, base, runs_before, tmp_path):
    run = make_run("nsp")
    lineage = {"checkpoint": checkpoint, "data fingerprint": "0f"}
    for number in range(runs_before):
        lineage = {"checkpoint": f"run:MLMFlow/{number}", "origin": lineage}
    run["lineage"] |= {"origin": None} | lineage
    text = write(tmp_path, run)
    assert ModelCard.load(tmp_path / "README.md").data.base_model == base
    assert ("is not known here" in section(text, "## Limits and bias")) == (not base)
    tables = read_tables(section(text, "## How it was made"))
    runs = [[row[0] for row in rows[2:]] for rows in tables if rows[0][0] == "run"]
    assert runs == ([["run:MLMFlow/1", "run:MLMFlow/0"]] if runs_before else [])


# ----------------------------------------------------------------------------- the text


@every_task
@pytest.mark.parametrize("repository", ["charity/model", None])
def test_the_snippets_are_short_python_that_loads_this_model(
    task, repository, tmp_path
):
    text = write(tmp_path / "my_model", make_run(task), repository)
    first, *others = re.findall(r"```python\n(.*?)```", text, re.S)
    assert sum(bool(line) for line in first.splitlines()) <= 5
    for snippet in (first, *others):
        compile(snippet, "README.md", "exec")
        assert f'"{repository or "my_model"}"' in snippet and "print(" in snippet


def test_the_snippet_has_an_example_of_any_spelling(tmp_path):
    run = make_run("mlm") | {"model": packed("<mask>")}
    run["config"]["evaluation"]["fill_mask"] = ['Our "[MASK]"\n  costs 5\\6 £.\n']
    snippet, *_ = re.findall(r"```python\n(.*?)```", write(tmp_path, run), re.S)
    calls = [node for node in ast.walk(ast.parse(snippet)) if type(node) is ast.Call]
    (text,) = [call.args[0].value for call in calls if call.func.id == "fill"]
    assert text == 'Our "<mask>" costs 5\\6 £.'
    assert "<mask>" in snippet


def test_pairs_without_a_head_for_them_are_classified(tmp_path):
    run = make_run("nsp")
    run["metrics"]["architecture"] = "RobertaForSequenceClassification, a classifier"
    text = write(tmp_path, run)
    assert 'pipeline("text-classification", "charity/model"' in text
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.pipeline_tag == "text-classification"


@every_task
def test_it_begins_with_the_result_and_shows_every_figure(task, tmp_path):
    run = make_run(task)
    text = write(tmp_path, run)
    body = text.split("---\n", 2)[2]
    titles = re.findall(r"^##? (.*)", body, re.M)
    assert titles == [
        *("model", "What it is for", "How to use it", "Scores", "Training", "Data"),
        *("Limits and bias", "How it was made"),
    ]
    assert "\n\n\n" not in body and "{{" not in body
    named = re.findall(r"!\[[^\]]{20,}\]\((.*?)\)", body)
    drawn = [f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()]
    assert sorted(named) == sorted(drawn)
    for path in (tmp_path / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_its_own_section_stands_with_each_task(tmp_path):
    for task, expected in {
        "mlm": "| We are looking for a [MASK]. | man | nurse |",
        "nsp": "| first sentences | 1,000 | 1,000 | 1,000 |",
        "company_descriptions": "21 sentences came with both labels: 14 were settled",
        "ner": "9,121 annotated entities were read, 9,100 of them are used",
        "skill_similarity": ATTRIBUTION,
    }.items():
        assert expected in write(tmp_path, make_run(task)), task


def test_of_several_layers_the_published_model_is_told(tmp_path):
    run = make_run("ner", ner_artifacts(["knowledge", "entities"], [42, 43]))
    run["data_report"]["labels"] = {"knowledge": ["KNOWLEDGE"], "entities": ["SKILL"]}
    text = write(tmp_path, run)
    assert "This is the one of knowledge" in text
    assert "BENEFIT" not in section(text, "## Scores")
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert len(results) == 3 + 5 + 3
    spread = section(text, "## Scores").partition("### Several seeds")[2]
    assert "| KNOWLEDGE, f1 | 0.4002 |" in spread


def test_it_says_what_was_learnt_from_copies_that_were_left_out(tmp_path):
    told = "The model learnt nothing from them"
    assert f"{told}.\n" in write(tmp_path, make_run("mlm"))
    text = write(tmp_path, make_run("company_descriptions"))
    assert f"{told}, but copies of a sentence had a say in its label.\n" in text
    run = make_run("ner")
    assert f"{told}.\n" in write(tmp_path, run)  # an earlier run
    run["data_report"]["spans"]["merged"] = 1412
    expected = "but 1,412 entities, annotated in copies of texts that are kept"
    assert f"{told} {expected}.\n" in write(tmp_path, run)


def test_labels_in_angle_brackets_are_shown(tmp_path):
    run = make_run("ner", ner_artifacts(["entities", "knowledge"]))
    metrics = run["metrics"]
    layer = metrics["layers"].pop("entities") | {"labels": ["<SKILL>"]}
    metrics["layers"] = {"<own>": layer, **metrics["layers"]}
    scores = metrics["scores"].pop("entities")
    scores["<SKILL>"] = scores.pop("SKILL")
    scores["<SKILL>"]["f1"]["after"]["low"] = 0
    metrics["scores"]["<own>"] = scores
    run["data_report"]["labels"] = {"<own>": ["<SKILL>"], "knowledge": ["KNOWLEDGE"]}
    body = write(tmp_path, run).split("---\n", 2)[2]
    body = re.sub("```.*?```", "", body, flags=re.S)
    assert not re.search("<\\w", body)
    assert "\n### &lt;SKILL>\n" in body and "F1 for &lt;SKILL> is" in body
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert "F1 (<SKILL>)" in [result.metric_name for result in results]


@every_task
def test_without_training_it_says_so_and_draws_no_curve(task, tmp_path):
    run = make_run(task) | {"training_log": pd.DataFrame()}
    text = write(tmp_path, run)
    assert "Nothing was trained" in text and "## Training" not in text
    said = text.partition("The configuration:")[0]
    for true in ("what that model learnt", "The model learnt nothing from them"):
        said = said.replace(true, "")
    for untrue in ("learnt", "It was trained", "recipe was trained"):
        assert untrue not in said
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["scores.png"]


def test_it_says_what_kept_sentences_together(tmp_path):
    run = make_run("company_descriptions")
    assert "resamples of employers" in write(tmp_path, run)
    run["metrics"]["grouped_by"] = "adverts"
    text = write(tmp_path, run)
    assert "resamples of adverts" in text and "paired by adverts" in text
    assert re.findall(r"trained on [\d,]+ sentences from [\d,]+ (\w+)\.", text) == [
        "adverts"
    ]


@every_task
def test_it_begins_with_what_the_checkpoint_knew_of_the_test_part(task, tmp_path):
    run = make_run(task)
    seen = {"verbatim": 0.97, "near": 0.93}
    told = "before: 97.0% of its sentences word for word, 93.0% of its"
    if task == "skill_similarity":
        seen = {"labels": 300, "seen": 9, "seen_in_another_order": 12}
        told = "before: 12 of its 300 labels."
    for known in (None, {"test": dict.fromkeys(seen, 0)}, {"test": seen}):
        run["data_report"]["seen_by_checkpoint"] = known
        beginning = write(tmp_path, run).partition("## What it is for")[0]
        assert "it never saw" not in beginning
        assert ("trained on before" in beginning) == (known == {"test": seen})
    assert f"stands in what the checkpoint was trained on {told}" in beginning


def test_it_says_on_how_many_unlike_pairs_the_correlation_rests(tmp_path):
    run = make_run("skill_similarity")
    assert "of unlike skills" not in write(tmp_path, run)
    of_pairs(run)
    assert "of unlike skills" not in write(tmp_path, run)  # an earlier run
    of_pairs(run, unlike_pairs=3)
    told = "with scores of 30 pairs, 3 of them of unlike skills, with a score below 0.8"
    assert told in write(tmp_path, run)


def test_it_says_where_intervals_do_not_tell_of_other_employers(tmp_path):
    run = make_run("mlm")
    told = "scores on other employers may differ by more"
    assert told in write(tmp_path, run)
    run["config"]["split"]["by"] = "cluster"
    assert told not in write(tmp_path, run)
    assert told not in write(tmp_path, make_run("company_descriptions"))


def test_it_warns_of_a_small_test_part(tmp_path):
    run = make_run("nsp")
    assert "A small test part" not in write(tmp_path, run)
    after = run["metrics"]["scores"]["same_employer"]["roc_auc"]["after"]
    after |= {"low": 0.7, "high": 0.85}
    expected = r"ROC AUC \(.* same employer\) is 0\.790 \(0\.700.to.0\.850\)"
    assert re.search(expected, section(write(tmp_path, run), "## Limits and bias"))


def test_it_says_whether_names_were_looked_for(tmp_path):
    run = make_run("nsp")
    assert "names were not looked for" in write(tmp_path, run)
    run["data_report"]["names"] = "en_core_web_sm 3.8.0 (ner)"
    text = write(tmp_path, run)
    assert "People's names: en_core_web_sm 3.8.0 (ner)." in text
    assert "not looked for" not in text


def test_it_tells_what_the_model_remembers_where_that_was_asked(tmp_path):
    run = make_run("mlm")
    assert "What it remembers" not in write(tmp_path, run)
    row = {"value": 0.525, "low": 0.5, "high": 0.55}
    run["metrics"]["memorisation"] = {
        "method": "Slots are hidden and filled.",
        "scores": {"membership_auc": {"after": row}},
        "slots": [
            {"kind": "phone", "found": 31, "in_training": 0},
            {"kind": "name", "found": 2, "in_training": None},
        ],
        "adverts": {"training": 1200, "held_out": 1200},
    }
    text = section(write(tmp_path, run), "## Data")
    shown = text.partition("### What it remembers")[2]
    assert "Slots are hidden and filled." in shown
    measures, slots, adverts = read_tables(shown)
    assert measures[0][1:] == ["membership, ROC AUC"]
    assert read_score(measures[2][1]) == [0.525, 0.5, 0.55]
    assert slots[2:] == [["phone", "31", "0"], ["name", "2", "-"]]
    assert adverts[2:] == [["training", "1,200"], ["held out", "1,200"]]
    run["metrics"]["memorisation"]["scores"]["membership_auc"]["after"]["low"] = nan
    with pytest.raises(ValueError, match="membership_auc: the low of 'after' is nan"):
        write(tmp_path, run)
