"""The adverts of a flow, prepared in its run or by an earlier one."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from ojd_daps_language_models.getters.adverts import iter_advert_parts
from ojd_daps_language_models.getters.prepared import (
    PreparedSentences,
    PreparedTexts,
    find_prepared,
    read_adverts,
    read_kept_aside,
)
from ojd_daps_language_models.getters.records import check_records
from ojd_daps_language_models.preprocessing.splits import PARTS


def check_adverts(flow: Any, task: str) -> tuple[dict | None, list[str]]:
    """Look at the adverts of a run before it begins.

    Args:
        task: whose sample `sample` is.

    Returns:
        The manifest where `--data` names prepared adverts, None for all others; and the
        paths of adverts that will be read into memory, which prepared ones are not.

    Raises:
        ValueError, OSError: as `find_prepared` and `check_records`; prepared adverts
            lack employers that the configuration asks for, or are given parts.
    """
    prepared = find_prepared(flow.data)
    official = [path for path in (flow.validation_data, flow.test_data) if path]
    if not prepared:
        for path in (flow.data, *official):
            check_records(path, flow.config.data.columns, task)
        return None, [flow.data, *official]
    if official:
        raise ValueError(
            f"{flow.data} has its parts already: --validation-data and --test-data are "
            "for flows/prepare_adverts_flow.py"
        )
    own = flow.config.to_dict()
    share = own.get("pairs", {}).get("shares", {}).get("same_employer")
    if share and prepared["config"]["data"]["columns"]["employer"] is None:
        raise ValueError(
            f"{prepared['data']} was prepared without employers, and "
            f"pairs.shares.same_employer, which is {share:g}, would need them: prepare "
            "the adverts with data.columns.employer, or say pairs: {shares: "
            "{another_advert: 0.5, same_employer: 0, same_advert: 0.5}}"
        )
    own["data"] |= {"path": prepared["config"]["data"]["path"]}
    differ = [name for name, kept in prepared["config"].items() if kept != own[name]]
    if differ:
        print(f"{', '.join(differ)}: as {prepared['data']} was prepared, not as here")
    return prepared, []


def prepared_of(flow: Any) -> dict | None:
    """What `check_adverts` found; runs that version 0.1.0 began have nothing."""
    return getattr(flow, "prepared", None)


def load_adverts(
    flow: Any, task: str, seen: Collection[str] | None
) -> tuple[pd.DataFrame | dict, pd.DataFrame, dict]:
    """The adverts of a run, which are prepared now unless they are already.

    Args:
        task: whose sample `sample` is.
        seen: texts that the checkpoint was trained on, None where that is not known.

    Returns:
        What `preprocessing.adverts.prepare_adverts` does. Adverts that an earlier run
        has prepared stay in their files: of them the manifest stands for the table.
    """
    from ojd_daps_language_models.preprocessing.adverts import (
        describe_prepared,
        prepare_adverts,
    )

    prepared = prepared_of(flow)
    if not prepared:
        given = iter_advert_parts(
            flow.data, flow.validation_data, flow.test_data, flow.config.data, task
        )
        return prepare_adverts(given, flow.config, seen)
    held_out = {part: PreparedTexts(prepared, part) for part in PARTS[1:]}
    threshold = prepared["config"]["duplicates"]["near_threshold"]
    report = describe_prepared(prepared["report"], held_out, threshold, seen)
    return prepared, read_kept_aside(prepared), report


def texts_by_part(adverts: pd.DataFrame | dict) -> dict[str, Collection[str]]:
    """The texts of each part of the adverts that `load_adverts` gave."""
    if isinstance(adverts, dict):
        return {part: PreparedTexts(adverts, part) for part in PARTS}
    return {part: adverts.loc[adverts["part"] == part, "text"] for part in PARTS}


def advert_table(adverts: pd.DataFrame | dict) -> pd.DataFrame:
    """The adverts that `load_adverts` gave as a table: employer, part, and text unless
    they were prepared."""
    if isinstance(adverts, dict):
        return read_adverts(adverts, ["employer", "part"])
    return adverts


def sentences_of(
    adverts: pd.DataFrame | dict, own: Collection[Sequence[str]] | None = None
) -> Collection[Sequence[str]] | None:
    """The sentences of each advert: of prepared ones from their files, of others those
    that the run has split."""
    return PreparedSentences(adverts) if isinstance(adverts, dict) else own


def describe_data(flow: Any) -> tuple[dict, dict]:
    """What a run was trained on, for its lineage, and the configuration that holds."""
    prepared = prepared_of(flow)
    given = {
        "data": flow.data,
        "validation data": flow.validation_data,
        "test data": flow.test_data,
    }
    if not prepared:
        return given, flow.config.to_dict()
    official = {name: prepared["lineage"][name] for name in list(given)[1:]}
    config = flow.config.to_dict() | prepared["config"]
    return {"data": prepared["data"], **official}, config
