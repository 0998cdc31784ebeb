"""What a run with --push-to leaves on the hub, and what it does not."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub_stand_in import TOKEN

from flows import FLOWS, artifacts, errors_of, run_flow, run_id_of
from ojd_daps_language_models import PROJECT_DIR

RUN = ("run", "--epochs", "1")
MARKS = {
    "mlm_flow": (),
    "ner_flow": pytest.mark.slow,
    "skill_similarity_flow": pytest.mark.slow,
}


def python(home, *arguments):
    """Run Python in the folder of the runs, as somebody who may read the hub."""
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(folder: Path):
    """All that lies under a folder, as bytes; Metaflow's are gzipped."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            gzipped = content.startswith(b"\x1f\x8b")
            yield path, gzip.decompress(content) if gzipped else content


@pytest.mark.parametrize(
    "flow",
    [
        # What differs between the flows is their card and their model.
        pytest.param(flow, marks=MARKS.get(flow, pytest.mark.every_flow))
        for flow in FLOWS
    ],
)
def test_a_run_publishes_its_model_with_a_card(
    hub, monkeypatch, tmp_path, tiny_bert, flow
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    name = f"tester/{flow}"
    done = run_flow(flow, tmp_path, *RUN, "--checkpoint", tiny_bert, "--push-to", name)
    assert done.returncode == 0, errors_of(done)
    run = f"{FLOWS[flow]}-{run_id_of(done)}"
    kept = artifacts(flow, tmp_path, done)

    repository = hub.repositories[name]
    assert repository.private
    files = dict(repository)
    assert kept["published"]["commit"] == repository.tags[run]
    assert {"README.md", "evaluation.json", "config.json"} <= set(files) or (
        "modules.json" in files
    )
    assert json.loads(files["evaluation.json"])["metrics"]["scores"]
    assert str(tmp_path) not in files["README.md"].decode()
    assert str(tiny_bert) not in "".join(
        content.decode() for file, content in files.items() if file.endswith(".json")
    )

    # What the card says can be typed.
    (snippet, *_) = re.findall(
        r"```python\n(.*?)```", files["README.md"].decode(), re.S
    )
    (tmp_path / "snippet.py").write_text(snippet)
    said = python(tmp_path, "snippet.py").strip()
    assert said or flow == "ner_flow"  # so small a tagger finds nothing

    # The same can be had without the hub.
    python(
        tmp_path,
        "-m",
        "ojd_daps_language_models",
        "export",
        run.replace("-", "/"),
        "out",
    )
    exported = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert set(exported) == set(files) - {".gitattributes"}
    assert {file for file in exported if exported[file] != files[file]} <= {"README.md"}
    # It can be published later too, elsewhere, with settings of that time.
    command = ("-m", "ojd_daps_language_models", "publish", run.replace("-", "/"))
    python(tmp_path, *command, "tester/later", "--no-private", "--licence", "mit")
    later = hub.repositories["tester/later"]
    assert not later.private and set(later) == set(files) and list(later.tags) == [run]
    assert b"\nlicense: mit\n" in later["README.md"]
    said = python(tmp_path, *command, name)
    assert f"{run} is there already" in said and dict(repository) == files
    listed = python(tmp_path, "-m", "ojd_daps_language_models", "models")
    assert kept["published"]["url"] in listed and run.replace("-", "/") in listed

    # The token is nowhere.
    assert TOKEN not in done.stdout + done.stderr
    assert not [path for path, content in stored(tmp_path) if TOKEN.encode() in content]


def test_without_a_token_nothing_is_trained(hub, monkeypatch, tmp_path, tiny_bert):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = run_flow(
        *("mlm_flow", tmp_path, *RUN, "--checkpoint", tiny_bert),
        *("--push-to", "tester/model"),
    )
    said = errors_of(done)
    assert done.returncode != 0
    assert "hf auth login" in said and "Traceback" not in said
    assert "/load/" not in said


def test_examples_of_held_out_adverts_are_refused_before_training(
    hub, tmp_path, tiny_bert
):
    given = (PROJECT_DIR / "configs" / "mlm.yaml").read_text()
    example = "We ask for confidence with heating [MASK] and flue gas analysers."
    kept = "You should bring a current driving [MASK] to the interview."
    assert kept in given
    (tmp_path / "quoting.yaml").write_text(given.replace(kept, example))
    done = run_flow(
        *("mlm_flow", tmp_path, *RUN, "--checkpoint", tiny_bert),
        *("--push-to", "tester/model"),
        before=["--config", "config", str(tmp_path / "quoting.yaml")],
    )
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert "evaluation.fill_mask[3]: nearly a sentence of the data" in said
    assert "/train/" not in said


@pytest.mark.slow
def test_a_hub_that_is_down_loses_no_model(hub, monkeypatch, tmp_path, tiny_bert):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fail("POST /api/models/.*/commit", times=1000, status=503)
    done = run_flow(
        *("mlm_flow", tmp_path, *RUN, "--checkpoint", tiny_bert),
        *("--push-to", "tester/model"),
    )
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert "Step push_to_hub" in said
    resume = re.search(r"flow\.py (resume --origin-run-id \d+)", said)[1].split()

    hub.faults.clear()
    again = run_flow("mlm_flow", tmp_path, *resume)
    assert again.returncode == 0, errors_of(again)
    assert "README.md" in hub.repositories["tester/model"]
    assert not re.search(r"/train/\d+ \(pid \d+\)\] Task is starting", again.stdout)
    # It is the model of the run that trained it.
    assert list(hub.repositories["tester/model"].tags) == [f"MLMFlow-{run_id_of(done)}"]
