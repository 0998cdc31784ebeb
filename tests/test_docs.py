"""The page of every task says the same four things, and its scores are measured."""

import importlib.util
import json
import re
from types import SimpleNamespace

import pytest

from flows import FLOWS
from ojd_daps_language_models import PROJECT_DIR

DOCS = PROJECT_DIR / "docs"
MARKER = "`make docs` puts the table of `sample_scores.json` here."
HEADINGS = [
    *("What it is for", "What it learns from", "Scores on the sample"),
    "Use the model",
]
IN_THE_README = {  # groups, measure, and the rival beside it
    "mlm": ("perplexity", "floor"),
    "nsp": ("all", "accuracy", "overlap"),
    "skill_similarity": ("alternative_labels", "mrr", "tfidf"),
    "ner": ("entities", "micro", "f1", "crf"),
    "company_descriptions": ("company_description", "f1", "tfidf"),
}
tasks = pytest.mark.parametrize("task", [flow.removesuffix("_flow") for flow in FLOWS])


def load(name):
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks, sample_scores = load("hooks"), load("sample_scores")


def page_of(task) -> str:
    path = DOCS / f"{task}.md"
    assert path.exists(), f"flows/{task}_flow.py has no page {path.name}"
    return path.read_text(encoding="utf-8")


def section(text, heading) -> str:
    """What stands under a heading, up to the next of its level."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no heading '{heading}'"
    return found[1].strip()


def tables(text) -> list[dict[str, str]]:
    """The rows of a Markdown table, by header."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    header, rule, *rows = rows
    assert set(rule) == {"---"}
    return [dict(zip(header, row, strict=True)) for row in rows]


@tasks
def test_the_page_of_a_task_says_the_four_things(task):
    text = page_of(task)
    for heading in HEADINGS:
        assert section(text, heading)
    assert MARKER in section(text, "Scores on the sample")
    use = section(text, "Use the model")
    snippets = re.findall(r"```python\n(.*?)```", use, re.S)
    for snippet in snippets:
        compile(snippet, f"{task}.md", "exec")
    assert f'Flow("{FLOWS[f"{task}_flow"]}")' in snippets[0]


@tasks
def test_the_scores_of_the_sample_run_are_on_the_page(task):
    scores = json.loads(hooks.SCORES.read_text(encoding="utf-8"))
    assert task in scores, "`make scores` has not run its flow yet"
    run = scores[task]
    page = SimpleNamespace(file=SimpleNamespace(src_uri=f"{task}.md"))
    text = hooks.on_page_markdown(page_of(task), page, None, None)
    assert MARKER not in text
    shown = section(text, "Scores on the sample")
    assert f"`{run['checkpoint']}`" in shown and f"seed {run['seed']}" in shown

    rows = {row[""]: row for row in tables(shown)}

    def compare(scores, names):
        for name, inner in scores.items():
            if "value" not in inner:
                compare(inner, [*names, name])
            else:
                cell = rows[", ".join(f"`{n}`" for n in names)][f"`{name}`"]
                if inner["value"] is not None:
                    shown = float(cell.partition(" ")[0])
                    assert shown == pytest.approx(inner["value"], rel=0.01, abs=6e-4)

    compare(run["scores"], [])


@pytest.mark.parametrize("task", IN_THE_README)
def test_the_readme_has_scores_of_the_sample_run(task):
    found = json.loads(hooks.SCORES.read_text(encoding="utf-8"))[task]["scores"]
    text = (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| .* `flows/{task}_flow\.py` .*$", text, re.M)
    shown = [float(value) for value in re.findall(r"\d*\.\d+", row)]
    *names, rival = IN_THE_README[task]
    for name in names:
        found = found[name]
    scores = [found[system]["value"] for system in ("before", "after", rival)]
    assert shown == pytest.approx(scores, rel=2e-3, abs=6e-4)


def test_scores_in_groups_of_any_depth_become_one_table():
    def score(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    run = {
        "checkpoint": "embedded",
        "epochs": 3,
        "seed": 42,
        "scored": {"spans": 1200},
        "scores": {
            "skills": {"strict": {"f1": {"after": score(0.5), "floor": score(0.25)}}},
            "accuracy": {"change": score(12.5), "before": score(0.75)},
            "precision": {"floor": {"value": None, "low": None, "high": None}},
        },
    }
    text = hooks.scores_section("ner", run)
    assert "1,200 spans" in text
    assert tables(text.replace("\N{NO-BREAK SPACE}", " ")) == [
        {
            "": "`skills`, `strict`, `f1`",
            "`floor`": "0.250 (0.150 to 0.350)",
            "`before`": "",
            "`after`": "0.500 (0.400 to 0.600)",
            "`change`": "",
        },
        {
            "": "`accuracy`",
            "`floor`": "",
            "`before`": "0.750 (0.650 to 0.850)",
            "`after`": "",
            "`change`": "12.5 (12.4 to 12.6)",
        },
        {
            "": "`precision`",
            "`floor`": "undefined",
            **dict.fromkeys(("`before`", "`after`", "`change`"), ""),
        },
    ]


def test_a_strict_build_refuses_a_flow_without_scores(tmp_path, monkeypatch, caplog):
    """MkDocs counts the warnings of its loggers, and `--strict` allows none."""
    scores = json.loads(hooks.SCORES.read_text(encoding="utf-8"))
    scores.pop("mlm")
    monkeypatch.setattr(hooks, "SCORES", tmp_path / "sample_scores.json")
    hooks.SCORES.write_text(json.dumps(scores), encoding="utf-8")
    hooks.on_config(SimpleNamespace(nav=[]))
    (warning,) = (record for record in caplog.records if "'mlm'" in record.message)
    assert warning.name.startswith("mkdocs.") and warning.levelname == "WARNING"
    assert "make scores" in warning.message


def test_the_file_of_scores_is_as_its_script_writes_it():
    text = hooks.SCORES.read_text(encoding="utf-8")
    scores = json.loads(text)
    assert sample_scores.as_text(scores) == text
    assert set(scores) <= set(sample_scores.TASKS), "a flow is gone"


def test_an_undefined_score_is_written_as_null():
    scores = {"f1": {"after": {"value": 0.123456, "low": float("nan"), "high": 1.0}}}
    assert sample_scores._rounded(scores) == {
        "f1": {"after": {"value": 0.1235, "low": None, "high": 1.0}}
    }
