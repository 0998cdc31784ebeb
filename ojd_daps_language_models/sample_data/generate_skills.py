"""Invented skills with other labels, as pairs; and sentences of adverts that need them.

Their words are in `skill_phrases.yaml`. A skill is an action on an object, and its
other labels are synonyms, nouns, and the short forms of CVs ("bdgts. mgmt", "maint. of
vehs."), which follow the same rules for all skills, so that they can be learnt. The
shipped samples are written anew, with the same content each time, by

    python -m ojd_daps_language_models.sample_data.generate_skills
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ojd_daps_language_models.sample_data.generate_adverts import FOLDER, write_sample

SEED = 11
MESS_EVERY = 60  # pairs
MESS = ("empty", "no skill", "same", "same id")  # in turn
MENTIONS = 200
NO_SKILL = "LABEL NOT PRESENT"


class Skill(NamedTuple):
    """A skill by its name, and what else it is called."""

    name: str
    others: tuple[str, ...]


def read_skill_words() -> dict[str, Any]:
    """The words that skills and sentences are made of."""
    return yaml.safe_load((FOLDER / "skill_phrases.yaml").read_text(encoding="utf-8"))


def make_skills(seed: int) -> list[Skill]:
    """All skills, each with three to six other labels; some of them two skills have."""
    words, rng = read_skill_words(), random.Random(seed)
    skills = []
    for number, (name, synonym, short, actions) in enumerate(words["objects"]):
        for verb in actions:
            others = call_otherwise(words["actions"][verb], name, synonym, short)
            rng.shuffle(others)
            others = others[: rng.randint(3, 5)]
            # Said of two skills alike, so that it must not tell them apart.
            if verb in actions[:2] and number % 4 == 0:
                others.append(f"{short} duties")
            skills.append(Skill(f"{verb} {name}", tuple(others)))
    rng.shuffle(skills)
    return skills


def call_otherwise(
    action: Mapping[str, list[str]], name: str, synonym: str, short: str
) -> list[str]:
    """Other labels of an action on an object, each once."""
    (brief,) = action["short"]
    noun = action["nouns"][0]
    # "advice on" and "training in" bring their own preposition.
    of = "" if " " in noun else " of"
    labels = [
        *(f"{verb} {synonym}" for verb in action["verbs"]),
        f"{noun}{of} {name}",
        f"{noun}{of} {synonym}",
        f"{brief}{of} {short}",
        f"{short} {brief}" if of else f"{brief} {short}",
        f"{short} - {brief}",
        f"{brief} {synonym}",
    ]
    return list(dict.fromkeys(labels))


def generate_pairs(seed: int) -> Iterator[dict[str, str | None]]:
    """Pairs of a skill and another label, with `id`, `skill` and `other`."""
    number = 0
    for skill in make_skills(seed):
        for other in skill.others:
            pair = {"id": f"sk{number:05d}", "skill": skill.name, "other": other}
            number += 1
            yield pair
            if number % MESS_EVERY == 0:
                card = MESS[number // MESS_EVERY % len(MESS)]
                yield spoil(pair, card, number)
                number += 1


def spoil(pair: Mapping[str, str], card: str, number: int) -> dict[str, str | None]:
    """The pair as a row that cannot be used."""
    changes = {
        "empty": {"other": ""},
        "no skill": {"skill": None},
        "same": {"other": pair["skill"].upper()},
        "same id": {"id": pair["id"], "other": f"{pair['other']} (copy)"},
    }
    return {**pair, "id": f"sk{number:05d}", **changes[card]}


def generate_mentions(seed: int) -> Iterator[dict[str, str]]:
    """Sentences of adverts, with `id`, `sentence` and `label`, the name of a skill."""
    words, rng = read_skill_words(), random.Random(seed)
    skills = make_skills(seed)
    for number in range(MENTIONS):
        row = {"id": f"se{number:04d}"}
        if number % 20 == 19:
            empty = rng.choice(words["empty_sentences"])
            yield row | {"sentence": empty, "label": NO_SKILL}
            continue
        skill = rng.choice(skills)
        label = rng.choice([skill.name, *skill.others])
        sentence = rng.choice(words["sentences"]).format(label)
        known = "juggle flaming torches" if number % 50 == 25 else skill.name
        yield row | {"sentence": sentence, "label": known}


def main(folder: Path = FOLDER) -> None:
    """Write the samples that the package ships."""
    write_sample(folder / "skill_similarity.jsonl.gz", generate_pairs(SEED))
    write_sample(
        folder / "skill_similarity_sentences.jsonl.gz", generate_mentions(SEED)
    )


if __name__ == "__main__":
    main()
