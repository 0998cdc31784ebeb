"""What starting from an encoder adapted to adverts is worth, beside the floors.

    python benchmarks/adapted_start.py nsp --adverts adverts.jsonl --seeds 5
    python benchmarks/adapted_start.py company_descriptions --adverts adverts.jsonl \
        --data labelled.csv --seeds 5
    python benchmarks/adapted_start.py ner --adverts adverts.jsonl \
        --data train.json --test-data dev.json --config skillspan.yaml
    python benchmarks/adapted_start.py company_descriptions --data labelled.csv \
        --folds 4

Runs the MLM flow on the adverts, then the flow of the task twice with the same seeds,
data and division: from the embedded encoder, and from what the MLM flow trained. The
difference is paired by seed. With `--folds` instead, the employers of the data are
dealt into folds and each is the test part once, from the embedded encoder and one seed;
F1 is that of all folds together, with an interval by employer.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
TASKS = {
    "nsp": "NSPFlow",
    "company_descriptions": "CompanyDescriptionsFlow",
    "ner": "NERFlow",
}


def run(home: Path, task: str, changes: Path | None, *options: str) -> dict:
    """Run a flow, and give back what this benchmark needs of its artifacts."""
    from metaflow import Flow, namespace

    flow = {**TASKS, "mlm": "MLMFlow"}[task]
    config = ["--config", "config", str(changes)] if changes else []
    command = [sys.executable, str(ROOT / "flows" / f"{task}_flow.py"), *config]
    done = subprocess.run(
        [*command, "run", *options], cwd=home, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    namespace(None)
    found = Flow(flow).latest_run
    data = found["end"].task.data
    names = ("metrics", "data_report", "predictions")
    kept = {name: getattr(data, name, None) for name in names}
    return {"id": f"run:{flow}/{found.id}", **kept}


def compare_starts(home: Path, arguments) -> None:
    """Print scores of the task from both starts, and their difference by seed."""
    from ojd_daps_language_models.flow_utils import list_scores

    mlm = run(home, "mlm", arguments.mlm_config, "--data", str(arguments.adverts))
    own = arguments.adverts if arguments.task == "nsp" else "sample"
    data = str(arguments.data or own)
    print(f"adapted: {mlm['metrics']['scores']['perplexity']}", flush=True)
    test = ("--test-data", str(arguments.test_data)) if arguments.test_data else ()
    starts = {
        name: run(
            home,
            arguments.task,
            arguments.config,
            *("--data", data, "--checkpoint", checkpoint),
            *("--seeds", str(arguments.seeds)),
            *test,
        )
        for name, checkpoint in (("embedded", "embedded"), ("adapted", mlm["id"]))
    }
    for name, found in starts.items():
        print(f"\n{name}: test, seed of the published model")
        for line in list_scores(found["metrics"]["scores"]):
            print(f"  {line}")
    seen = starts["adapted"]["data_report"]["seen_by_checkpoint"]
    print(f"\nof the test part, in what the encoder was adapted on: {seen['test']}")
    print(f"\nadapted minus embedded, {arguments.seeds} seeds")
    one, other = (starts[name]["metrics"]["seeds"] for name in ("adapted", "embedded"))
    for group, measures in one[0]["scores"].items():
        for measure in measures:
            values = np.array(
                [
                    [row["scores"][group][measure] for row in rows]
                    for rows in (one, other)
                ]
            )
            gains = values[0] - values[1]
            said = f"{values[1].mean():.3f} to {values[0].mean():.3f}"
            said += f"; {gains.mean():+.3f}"
            if len(gains) > 1:
                error = gains.std(ddof=1) / len(gains) ** 0.5
                said += f", standard error {error:.3f}, by seed "
                said += " ".join(f"{gain:+.3f}" for gain in gains)
            print(f"  {group}, {measure}: {said}", flush=True)


def cross_validate(home: Path, arguments) -> None:
    """Print F1 against the floor, with every employer in a test part once."""
    from ojd_daps_language_models.training.metrics import (
        compare,
        f1,
        of_sums,
        outcomes,
    )

    config = yaml.safe_load(arguments.config.read_text()) if arguments.config else {}
    column = config.get("data", {}).get("columns", {}).get("employer", "employer")
    rows = pd.read_csv(arguments.data)
    employers = np.random.default_rng(0).permutation(rows[column].unique().tolist())
    said = []
    for fold in range(arguments.folds):
        test = rows[column].isin(employers[fold :: arguments.folds])
        for name, part in (("train", rows[~test]), ("test", rows[test])):
            part.to_csv(home / f"{name}.csv", index=False)
        options = ("--data", "train.csv", "--test-data", "test.csv")
        said.append(
            run(home, arguments.task, arguments.config, *options)["predictions"]
        )
        print(f"fold {fold + 1}: {len(said[-1])} sentences", flush=True)
    said = pd.concat(said)
    names, employer = np.unique(said["employer"], return_inverse=True)
    positive = (said["label"] == "company_description").to_numpy()
    scores = compare(
        {
            system: of_sums(
                outcomes(
                    positive,
                    said[f"{system} says so"].to_numpy(bool),
                    employer,
                    len(names),
                ),
                f1,
            )
            for system in ("tfidf", "after")
        },
        {"gain": ("after", "tfidf")},
        len(names),
        samples=2000,
        seed=0,
    )
    print(f"\nF1, {len(said):,} sentences of {len(names)} employers")
    for system, score in scores.items():
        print("  {} {value:.3f} ({low:.3f} to {high:.3f})".format(system, **score))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=TASKS, default="nsp")
    parser.add_argument(
        "--adverts", default="sample", help="to adapt on; of NSP, the data too"
    )
    parser.add_argument("--data", help="of the task")
    parser.add_argument(
        "--test-data", help="of the task, where there is an official one"
    )
    parser.add_argument("--config", type=Path, help="YAML of the task's flow")
    parser.add_argument("--mlm-config", type=Path, help="YAML of the MLM flow")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=0)
    arguments = parser.parse_args()
    for name in ("adverts", "data", "test_data", "config", "mlm_config"):
        path = getattr(arguments, name)
        if path and Path(path).exists():  # the flows run elsewhere
            setattr(arguments, name, Path(path).resolve())
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("METAFLOW_USER", "benchmark")  # Metaflow refuses root
        os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = home
        os.environ["PYTHONPATH"] = str(ROOT)
        run_it = cross_validate if arguments.folds else compare_starts
        run_it(Path(home), arguments)


if __name__ == "__main__":
    main()
