"""From a run to the hub: write the folder, look through it, push it."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ojd_daps_language_models.configs import PersonalData
from ojd_daps_language_models.preprocessing.personal_data import load_name_pipeline
from ojd_daps_language_models.publishing.folder import write_folder
from ojd_daps_language_models.publishing.guard import (
    inspect,
    refuse_examples,
    refuse_settings,
)
from ojd_daps_language_models.publishing.hub import check_push, push_folder
from ojd_daps_language_models.publishing.public import tags_of

if TYPE_CHECKING:
    from spacy import Language


def check_publishing(
    push_to: str | None, task: str, config: Mapping[str, Any], test_data: str | None
) -> None:
    """Raise unless what a run is to publish can be published when it has trained.

    Args:
        push_to: `OWNER/NAME` on the hub; None where nothing is to be published.
        task: a model of another one is not replaced.
        config: its section `publishing` says what no run can know.
        test_data: official test set of the run.

    Raises:
        ValueError: a name cannot be, the card would compare across test sets, or it
            would hold what must not leave.
        PermissionError: there is no token, or it may not write there.
        ConnectionError: the hub cannot be reached.
    """
    publishing = config["publishing"]
    if publishing["test_set"] and not test_data:
        raise ValueError(
            f"publishing.test_set: '{publishing['test_set']}' is what --test-data has "
            "to be, and none was given"
        )
    if push_to:
        refuse_settings(publishing, "publishing", _unchecked(config).phone_regions)
        check_push(
            push_to,
            publishing["private"],
            publishing["licence"],
            publishing["language"],
            tags_of(task),
        )


def check_examples(
    push_to: str | None,
    config: Mapping[str, Any],
    private_texts: Callable[[], Iterable[str]],
) -> None:
    """Raise ValueError if a run that is to publish has an example that may not leave:
    of its data, held out or not, or with personal data in it.

    Args:
        push_to: `OWNER/NAME` on the hub; None where nothing is to be published.
        config: its examples are `fill_mask` or `examples` of `evaluation`.
        private_texts: gives `getters.checkpoints.collect_private_texts`; it is asked
            only where that matters, for it reads the data of earlier runs.
    """
    for name in ("fill_mask", "examples"):
        if push_to and (examples := config["evaluation"].get(name)):
            refuse_examples(
                examples,
                private_texts(),
                f"evaluation.{name}",
                *_personal_data(config),
            )


def export(
    run: dict[str, Any],
    private_texts: Iterable[str],
    folder: Path,
    repository: str | None = None,
) -> dict[str, Any]:
    """Write what a run publishes into a folder, and look through it.

    Args:
        run: see `getters.runs.describe_run`.
        private_texts: of `getters.checkpoints.collect_private_texts`.
        folder: empty, or new.
        repository: `OWNER/NAME` that the card tells to load; None: the folder.

    Returns:
        What the guard looked at: counts.

    Raises:
        Breach: something in it must not leave.
    """
    write_folder(run, folder, repository)
    found = _personal_data(run["config"])
    return inspect(folder, private_texts, run["encoder"], *found)


def publish(
    run: dict[str, Any],
    private_texts: Callable[[], Iterable[str]],
    push_to: str | None,
) -> dict[str, Any] | None:
    """Push model, tokenizer and card of a run to the hub, in one commit.

    Args:
        run: see `getters.runs.describe_run`.
        private_texts: as of `check_examples`.
        push_to: `OWNER/NAME`; None publishes nothing.

    Returns:
        Where it is: repository, url, commit, tag; and what the guard looked at.

    Raises:
        Breach: something in it must not leave; the hub was not asked.
        ConnectionError: the hub could not be reached, and has not changed.
    """
    name = f"{run['flow']}/{run['run_id']}"
    if not push_to:
        print(
            "Nothing is published: no --push-to was given. To publish it now: "
            f"make publish RUN={run['flow']}/{run['stored_as']} TO=OWNER/NAME"
        )
        return None
    with tempfile.TemporaryDirectory() as folder:
        guard = export(run, private_texts(), Path(folder), push_to)
        pushed = push_folder(
            Path(folder),
            push_to,
            run["config"]["publishing"]["private"],
            tag=name.replace("/", "-"),
            message=f"Model of {name}",
            tags=tags_of(run["task"]),
        )
    return {**pushed, "guard": guard}


def _personal_data(config: Mapping[str, Any]) -> tuple[list[str], "Language | None"]:
    """Regions of telephone numbers, and the pipeline that finds names."""
    own = _unchecked(config)
    return own.phone_regions, load_name_pipeline(own.names)


def _unchecked(config: Mapping[str, Any]) -> PersonalData:
    # What a version before has allowed must not keep a model from the hub.
    return PersonalData.model_construct(**config.get("personal_data", {}))
