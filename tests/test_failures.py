"""A run that fails says why and how to go on, wherever people look."""

import errno
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from metaflow import Config, FlowSpec, Parameter

from flows import FLOWS, errors_of, report_of, run_flow, run_id_of
from ojd_daps_language_models import PROJECT_DIR, resume
from ojd_daps_language_models.cards.alive import INCOMPLETE, unfailing_card
from ojd_daps_language_models.failures import Stopped, in_plain_words
from ojd_daps_language_models.flow_utils import tags_of
from ojd_daps_language_models.resume import (
    check_encoding,
    check_resume,
    check_tokens,
    resumed_by,
)

QUICK = "../tests/quick_flow"  # of the same name as the MLM flow
QUICK_FILE = str(PROJECT_DIR / "flows" / f"{QUICK}.py")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the runs of this module are kept."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def failed(home):
    """A run whose step `train` raised an error."""
    return run_flow(QUICK, home, "run", "--how", "failing")


def card_of(home, done, step) -> str:
    """What the stored card of a step says."""
    cards = f".metaflow/mf.cards/*/runs/{run_id_of(done)}/steps/{step}/**/*.html"
    (page,) = home.glob(cards)
    return report_of(SimpleNamespace(stdout=f"file://{page}", stderr=""))


def last_words(done) -> list[str]:
    """The last lines that a step put into its log, without blank ones."""
    log = [line.strip() for line in errors_of(done).splitlines() if line.strip()]
    (end,) = (n for n, line in enumerate(log) if line.startswith("Workflow failed."))
    return log[: end - 1]  # before it stands: Task failed.


def type_in(home, command) -> subprocess.CompletedProcess:
    """Type a command as it was shown."""
    program, file, *arguments = shlex.split(command)
    assert (program, file) == ("python", QUICK_FILE)
    return run_flow(QUICK, home, *arguments)


def tags_of_run(home, done) -> set[str]:
    code = (
        "import metaflow; metaflow.namespace(None)\n"
        f"print(*metaflow.Run('MLMFlow/{run_id_of(done)}').user_tags)"
    )
    environment = os.environ | {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home)}
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment)
    return set(printed.decode().split())


def test_the_log_of_a_failed_step_ends_with_reason_and_command(failed):
    *before, step, kept, command = last_words(failed)
    assert re.fullmatch("step train: RuntimeError: no .good.", step)
    assert kept.startswith("Steps before train are kept.")
    run_id = run_id_of(failed)
    assert command == f"python {QUICK_FILE} resume --origin-run-id {run_id}"
    # Who mends the code wants to see where it was.
    assert "Traceback (most recent call last):" in before
    assert failed.stderr.count("Traceback") + failed.stdout.count("Traceback") == 1


def test_the_card_of_a_failed_step_says_the_same_at_its_top(home, failed):
    card = card_of(home, failed, "train")
    assert "RuntimeError: no *good*" in card
    assert f"resume --origin-run-id {run_id_of(failed)}" in card
    assert card.index("# Step train failed") < card.index("# Curves")


def test_the_command_continues_the_run(home, failed):
    command = last_words(failed)[-1]
    assert failed.stderr.splitlines()[-1].strip() == command
    (home / "mended").touch()
    again = type_in(home, command)
    (home / "mended").unlink()
    assert again.returncode == 0, errors_of(again)
    assert not re.search(r"/load/\d+ \(pid \d+\)\] Task is starting", again.stdout)
    # Its report has no sign of life left, and nothing of the failure.
    card = card_of(home, again, "train")
    assert "# Curves" in card and "sign of life" not in card and "failed" not in card
    tags = {"task:mlm", "checkpoint:run:MLMFlow/7", "data:adverts.csv"}
    assert tags | {"revision:0123456789ab-dirty"} == tags_of_run(home, failed)
    assert tags_of_run(home, again) == tags_of_run(home, failed)


def test_a_step_that_is_killed_leaves_a_card_and_the_command(home):
    done = run_flow(QUICK, home, "run", "--how", "killed")
    command = f"python {QUICK_FILE} resume --origin-run-id {run_id_of(done)}"
    assert done.stderr.splitlines()[-1].strip() == command
    card = card_of(home, done, "train")
    assert "Step train is running; last sign of life at 2" in card
    assert command in card and "# Curves" in card


def test_what_is_said_of_the_input_has_a_way_on_and_no_traceback(home):
    done = run_flow(QUICK, home, "run", "--how", "refused")
    assert "Traceback" not in done.stdout + done.stderr
    *_, reason, kept, command = last_words(done)
    assert reason == "nonsense: expected run:FLOW/ID or run:FLOW/latest"
    assert "to change options, start a new `run`" in kept
    assert command.endswith(f"resume --origin-run-id {run_id_of(done)}")


def test_nothing_is_to_be_resumed_where_nothing_was_done(home):
    done = run_flow(QUICK, home, "run", "--how", "refused at once")
    assert "Nothing has been done yet" in last_words(done)[-1]
    assert "--origin-run-id" not in errors_of(done)


def test_the_command_has_what_a_run_does_not_keep(home, monkeypatch):
    (home / "config_small.json").write_text("{}")
    monkeypatch.setenv("METAFLOW_PROFILE", "small")
    retry = ("--with", "retry:times=1,minutes_between_retries=0")
    done = run_flow(QUICK, home, "run", "--how", "refused", *retry)
    # A step that is tried again is not for the user to continue.
    assert errors_of(done).count("The step will be retried.") == 1
    for line in (last_words(done)[-1], done.stderr.splitlines()[-1]):
        profile, *words = shlex.split(line)
        assert profile == "METAFLOW_PROFILE=small"
        assert words[:3] == ["python", QUICK_FILE, "resume"]
        assert words[3:] == [*retry, "--origin-run-id", run_id_of(done)]


def test_what_a_card_cannot_show_is_said_in_a_line(capsys):
    with unfailing_card():
        raise KeyError("scores")
    said = capsys.readouterr().out
    assert said.startswith(f"{INCOMPLETE}: KeyError: 'scores' (test_failures.py, line")
    assert len(said.splitlines()) == 1
    with pytest.raises(KeyboardInterrupt), unfailing_card():
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_card_that_cannot_be_made_fails_no_step(home):
    # What fails here is the check that tests make of every run.
    with pytest.raises(AssertionError) as caught:
        run_flow(QUICK, home, "run", "--how", "card")
    said = str(caught.value)
    assert f"{INCOMPLETE}: KeyError: 'scores' (quick_flow.py, line" in said
    assert "\nDone!" in said
    card = card_of(home, SimpleNamespace(stdout=said, stderr=""), "evaluate")
    assert "# Report" in card and f"{INCOMPLETE}: KeyError" in card


REFUSED = {
    "an unknown run": (["--origin-run-id", "123"], "MLMFlow has no run 123; recent"),
    "no id": (["--origin-run-id"], "no id follows"),
    "an equals sign": (["--origin-run-id=ID"], "write a space before the id"),
    "a parameter": (["--origin-run-id", "ID", "--how", "well"], "--how: a resumed run"),
    "a parameter as one word": (["--how=well"], "--how: a resumed run keeps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_resume_that_cannot_work_is_refused_in_a_sentence(home, failed, case):
    arguments, message = REFUSED[case]
    typed = [word.replace("ID", run_id_of(failed)) for word in arguments]
    done = run_flow(QUICK, home, "resume", *typed)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--config", "--config-value"])
def test_a_resume_with_a_configuration_is_refused(home, failed, option):
    asked = ("resume", "--origin-run-id", run_id_of(failed))
    done = run_flow("mlm_flow", home, *asked, before=[option, "config", "mine.yaml"])
    assert done.returncode != 0
    assert f"{option}: a resumed run keeps" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_that_is_no_utf_8_is_refused_by_its_line(tmp_path):
    """Metaflow reads it before any of our code can say what is wrong with it."""
    path = tmp_path / "mine.yaml"
    path.write_bytes("data:\n  path: résumés.csv\n".encode("cp1252"))
    done = run_flow(
        "mlm_flow", tmp_path, "show", before=["--config", "config", str(path)]
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"{path}: line 2 is not UTF-8; expected" in done.stderr

    class Flow:
        config = Config("config", default=str(path))

    with pytest.raises(ValueError, match="line 2"):
        check_encoding(Flow, ["run"])
    check_encoding(Flow, ["--config", "config", "absent.yaml", "run"])


def test_a_run_of_another_flow_or_version_is_refused(home, failed):
    asked = ("resume", "--origin-run-id", run_id_of(failed))
    other = run_flow("ner_flow", home, *asked)
    assert "NERFlow has no run" in other.stderr
    assert "it is a run of MLMFlow" in other.stderr
    changed = run_flow("mlm_flow", home, *asked)
    assert "was begun by another version of the flow, which had no --" in changed.stderr
    for done in (other, changed):
        assert done.returncode != 0 and "Traceback" not in done.stderr


def test_a_run_that_was_continued_is_continued_from_there(tmp_path):
    first = run_id_of(run_flow(QUICK, tmp_path, "run", "--how", "failing"))
    run_flow(QUICK, tmp_path, "resume")
    asked = ("resume", "--origin-run-id")
    done = run_flow(QUICK, tmp_path, "resume")
    (second,) = re.findall(rf"run {first} was continued as run (\d+):", done.stderr)
    assert done.returncode != 0 and f"resume --origin-run-id {second}" in done.stderr
    third = run_id_of(run_flow(QUICK, tmp_path, *asked, second))
    done = run_flow(QUICK, tmp_path, "resume", "train")
    assert f"run {first} was continued as run {third}:" in done.stderr
    run_flow(QUICK, tmp_path, "run", "--how", "failing")
    (tmp_path / "mended").touch()
    assert run_flow(QUICK, tmp_path, "resume").returncode == 0


def test_where_only_s3_knows_of_a_run_the_last_line_says_that_it_is_not_there(
    tmp_path, s3, monkeypatch
):
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_S3", f"s3://{s3.bucket}/metaflow")
    done = run_flow("mlm_flow", tmp_path, "resume", "--origin-run-id", "123")
    assert done.returncode != 0
    assert done.stderr.strip().endswith("There is no such run of MLMFlow.")


@pytest.mark.parametrize("option", ["--epochs", "--nodes"])
def test_parameters_that_a_flow_inherits_are_kept_too(option):
    class Flow:
        epochs = Parameter("epochs")

    class OnSeveralMachines(Flow):
        nodes = Parameter("nodes")

    with pytest.raises(ValueError, match=rf"^{option}: a resumed run keeps"):
        check_resume(OnSeveralMachines, ["resume", option, "3"])


def test_what_is_no_resume_is_not_looked_at():
    class Flow:
        epochs = Parameter("epochs")

    check_resume(Flow, ["run", "--epochs", "1", "--data", "resume"])
    check_resume(Flow, ["card", "view", "evaluate"])
    check_resume(Flow, ["resume", "train", "--with", "batch"])
    with pytest.raises(ValueError, match="--epochs"):
        check_resume(Flow, ["resume", "--epochs", "1"])


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
@pytest.mark.parametrize(
    "typed",
    [
        """f.py run --with batch --with 'environment:vars={"A": "b","NAME":"hf_x"}'""",
        """f.py '--with=environment:vars={"NAME":"hf_x"}' step-functions create""",
    ],
)
def test_a_token_that_jobs_would_show_is_refused_and_not_told(name, typed, monkeypatch):
    monkeypatch.setattr("sys.argv", shlex.split(typed.replace("NAME", name)))
    with pytest.raises(SystemExit) as stop:
        resume.launch(FlowSpec)
    assert f"--with environment: {name} would stand" in str(stop.value)
    assert "aws-secrets-manager.NAME" in str(stop.value)
    assert "hf_x" not in str(stop.value)


def test_what_is_no_token_may_be_set_in_jobs():
    check_tokens(["run", "--with", 'environment:vars={"MY_HF_TOKENS": "2"}'])
    check_tokens(["run", "--with", 'secrets:sources=["aws-secrets-manager.HF_TOKEN"]'])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("flows/mlm_flow.py run", "flows/mlm_flow.py resume"),
        ("mlm_flow.py run --data a.csv --seed 1", "mlm_flow.py resume"),
        (
            "flows/mlm_flow.py --config config mine.yaml run --with batch --epochs 3",
            "flows/mlm_flow.py resume --with batch",
        ),
        (
            "f.py --datastore s3 run --with=retry --with kubernetes:cpu=2",
            "f.py --datastore s3 resume --with retry --with kubernetes:cpu=2",
        ),
        ("f.py resume --origin-run-id 3 --with batch", "f.py resume --with batch"),
        (
            'f.py run --with \'environment:vars={"HF_TOKEN": "hf_x"}\'',
            "f.py resume --with 'environment:…'",
        ),
        (
            "f.py --with=environment:vars=hf_x run --with 'environment:vars=\nhf_y'",
            "f.py '--with=environment:…' resume --with 'environment:…'",
        ),
        ("'my flows/f.py' run", "'my flows/f.py' resume"),
        (
            "f.py run --max-workers 4 --with batch --max-num-splits=200",
            "f.py resume --with batch --max-workers 4 --max-num-splits 200",
        ),
    ],
)
def test_the_command_keeps_what_a_run_does_not(monkeypatch, typed, expected):
    monkeypatch.delenv("METAFLOW_PROFILE", raising=False)
    assert resumed_by(shlex.split(typed)) == f"python {expected} --origin-run-id"


def test_a_machine_where_nobody_typed_learns_it_from_the_run(monkeypatch):
    monkeypatch.delenv("METAFLOW_PROFILE", raising=False)
    monkeypatch.delenv(resume.RESUMED_BY, raising=False)
    here = SimpleNamespace(run_id="12", flow_name="CompanyDescriptionsFlow")
    monkeypatch.setattr(resume, "current", here)

    flow = SimpleNamespace(resumed_by="METAFLOW_PROFILE=big python f.py resume -x")
    assert resume.resume_command(flow).endswith("big python f.py resume -x 12")
    # Where the first step ran on Batch, nothing is known but how this one was started.
    flow = SimpleNamespace()
    file = "flows/company_descriptions_flow.py"
    monkeypatch.setattr("sys.argv", [file, "--with", "batch:cpu=1", "step", "load"])
    command = resume.resume_command(flow)
    assert command == f"python {file} resume --with batch --origin-run-id 12"
    assert f"{flow.resumed_by} 12" == command


def test_a_job_keeps_all_that_was_given_with_it(monkeypatch):
    monkeypatch.delenv("METAFLOW_PROFILE", raising=False)
    monkeypatch.delenv(resume.RESUMED_BY, raising=False)
    here = SimpleNamespace(run_id="12", flow_name="NERFlow")
    monkeypatch.setattr(resume, "current", here)
    retry, secrets = "retry:times=3", r"secrets:sources=[\"a.b\"],allow_override=False"
    specs = [
        *(retry, secrets, r"environment:vars={\"KEY\": \"s3cr3t\"}"),
        "batch:queue=gpus,iam_role=arn:x,use_tmpfs=False,cpu=1,gpu=0,memory=8000",
    ]
    given = [word for spec in specs for word in ("--with", spec)]
    monkeypatch.setattr("sys.argv", ["ner_flow.py", *given, "step", "start"])
    assert shlex.split(resume.resume_command(SimpleNamespace())) == [
        *("python", "flows/ner_flow.py", "resume", "--with", retry, "--with", secrets),
        *("--with", "environment:…", "--with", "batch:queue=gpus,memory=8000"),
        *("--origin-run-id", "12"),
    ]


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no good"), "RuntimeError: no good"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (Stopped("the hub is away"), "Stopped: the hub is away"),
        (MemoryError(), "the memory of the machine is full"),
        (OutOfMemoryError("CUDA out of memory"), "smaller `training.batch_size`: CUDA"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: [Errno"),
    ],
)
def test_errors_are_told_in_plain_words(error, words):
    assert words in in_plain_words(error)


def test_tags_tell_no_path_and_no_secret():
    tags = tags_of(
        data="/home/somebody/secret/adverts.csv",
        checkpoint="s3://key:word@bucket/bert?token=word",
        more="hf://datasets/owner/name",
        long="x" * 600,
    )
    assert tags[:3] == [
        "data:adverts.csv",
        "checkpoint:s3://bucket/bert",
        "more:hf://datasets/owner/name",
    ]
    assert len(tags[3]) <= 500


@pytest.mark.parametrize(
    "flow",
    [
        pytest.param(flow, marks=() if flow == "mlm_flow" else pytest.mark.every_flow)
        for flow in FLOWS
    ],
)
def test_every_flow_fails_well(home, tiny_bert, flow):
    done = run_flow(
        flow,
        home,
        *("run", "--checkpoint", tiny_bert, "--epochs", "0"),
        *("--with", "tests.faults.fail_within:at=train"),
    )
    assert done.returncode != 0
    *_, reason, _, command = last_words(done)
    assert reason == "step train: RuntimeError: planned failure in train"
    assert command.endswith(f"--origin-run-id {run_id_of(done)}")
    card = card_of(home, done, "train")
    assert "planned failure in train" in card and command in card
