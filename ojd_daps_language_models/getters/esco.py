"""The official ESCO export: skills, their labels, relations and groups.

ESCO is the classification of European Skills, Competences, Qualifications and
Occupations, https://esco.ec.europa.eu; its files are read as they are downloaded.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import pandas as pd

from ojd_daps_language_models.getters.skill_pairs import (
    ASIDE_COLUMNS,
    RELATION_COLUMNS,
    SKILL_COLUMNS,
    SkillInput,
    empty_table,
)
from ojd_daps_language_models.getters.storage import File, list_files
from ojd_daps_language_models.getters.tables import MissingColumnError, read_rows

SKILL = "KnowledgeSkillCompetence"
GROUP = "SkillGroup"
COLUMNS = {
    "skills": ("conceptUri", "preferredLabel", "altLabels", "description"),
    "skillSkillRelations": ("originalSkillUri", "relatedSkillUri"),
    "broaderRelationsSkillPillar": (
        *("conceptType", "conceptUri", "broaderType", "broaderUri"),
    ),
}
HIERARCHY = ("Level 1 URI", "Level 1 preferred term")
EXPECTED = (
    "the folder of ESCO's export as CSV, version 1.1 or later, with skills_en.csv, "
    "skillSkillRelations.csv and broaderRelationsSkillPillar.csv"
)


def is_esco(path: str) -> bool:
    """Whether a path, not a glob, is a folder or file of ESCO's export."""
    return any(map(_language_of, list_files(path)))


def check_esco(path: str, language: str) -> dict[str, File]:
    """The files of an export by what they hold, with their columns checked.

    Args:
        path: folder, or `s3://bucket/folder`.
        language: two letters, as in `skills_en.csv`.

    Raises:
        ValueError: it is no such folder, in another language or of another version.
        OSError: nothing is there, or access is refused.
    """
    files = {re.sub(r"\.csv(\.gz)?$", "", file.name): file for file in list_files(path)}
    languages = sorted(filter(None, map(_language_of, files.values())))
    if languages and language not in languages:
        raise ValueError(
            f"{path}: no skills_{language}.csv; found skills_{languages[0]}.csv: "
            f"set data.language to {languages[0]} in the configuration"
        )
    found = {}
    for kind, columns in COLUMNS.items():
        # Later versions have the language at the end of all names.
        names = [name for name in (kind, f"{kind}_{language}") if name in files]
        if not names:
            have = ", ".join(file.name for file in files.values())
            raise ValueError(
                f"{path}: no {kind}{'_' + language if kind == 'skills' else ''}.csv; "
                f"found {have}; expected {EXPECTED}"
            )
        found[kind] = files[names[-1]]
        next(_rows(found[kind], columns), None)
    if hierarchy := files.get(f"skillsHierarchy_{language}"):
        found["skillsHierarchy"] = hierarchy
    return found


def read_esco(path: str, language: str) -> SkillInput:
    """Read an export: each other label of a skill makes a pair with the preferred one.

    Groups are the narrowest that ESCO puts a skill in, the first by URI where there are
    several; areas are those of the second level, known where the export has
    `skillsHierarchy_en.csv`.

    Raises:
        ValueError, OSError: as `check_esco`.
    """
    files = check_esco(path, language)
    broader = defaultdict(list)
    for row in _rows(files["broaderRelationsSkillPillar"]):
        broader[row["conceptUri"]].append((row["broaderType"], row["broaderUri"]))
    areas = _read_areas(files.get("skillsHierarchy"))
    skills, pairs = [], []
    for number, row in enumerate(_rows(files["skills"]), 1):
        uri, name = row["conceptUri"], _one_line(row["preferredLabel"])
        own = sorted(above for kind, above in broader[uri] if kind == GROUP)
        area = _find_area(uri, broader, areas)
        described = _one_line(row["description"]) or None
        skills.append((uri, name, described, own[0] if own else None, area))
        others = filter(None, map(_one_line, row["altLabels"].split("\n")))
        short = uri.rpartition("/")[2]
        pairs += [
            (f"{short}:{place}", uri, name, other, number)
            for place, other in enumerate(others, 1)
        ]
    relations = [
        (row["originalSkillUri"], row["relatedSkillUri"])
        for row in _rows(files["skillSkillRelations"])
    ]
    table = pd.DataFrame(pairs, columns=["id", "skill", "name", "other", "row"])
    return SkillInput(
        table.assign(score=float("nan"), source=files["skills"].name),
        empty_table(ASIDE_COLUMNS),
        pd.DataFrame(skills, columns=SKILL_COLUMNS, dtype="str"),
        pd.DataFrame(relations, columns=RELATION_COLUMNS, dtype="str"),
    )


def _language_of(file: File) -> str | None:
    match = re.fullmatch(r"skills_([a-z]{2})\.csv(\.gz)?", file.name)
    return match and match[1]


def _rows(file: File, columns: tuple | None = None) -> Iterator[Mapping[str, str]]:
    kind = re.sub(r"(_[a-z]{2})?\.csv(\.gz)?$", "", file.name)
    try:
        for row in read_rows(file, columns or COLUMNS[kind]):
            if row.problem:
                raise ValueError(
                    f"{file.name}, row {row.number}: {row.problem}; expected the file "
                    "as ESCO gives it out"
                )
            yield row.values
    except MissingColumnError as error:
        raise ValueError(f"{error.fault}; expected {EXPECTED}") from error


def _read_areas(hierarchy: File | None) -> dict[str, str]:
    """Names of the groups of the second level, by URI."""
    if hierarchy is None:
        return {}
    uri, name = HIERARCHY
    return {row[uri]: row[name] for row in _rows(hierarchy, HIERARCHY) if row[uri]}


def _find_area(uri: str, broader: dict, areas: dict[str, str]) -> str | None:
    """The first group of the second level on the way up from a skill."""
    seen, level = {uri}, [uri]
    while level:
        named = sorted(areas[above] for above in level if above in areas)
        if named:
            return named[0]
        level = [above for one in level for _, above in broader.get(one, ())]
        level = [above for above in dict.fromkeys(level) if above not in seen]
        seen.update(level)
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())
