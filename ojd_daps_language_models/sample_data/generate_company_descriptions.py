"""Invented sentences of adverts, labelled by whether they describe the company.

They are drawn from the words of whole adverts, and from `company_phrases.yaml`. The
shipped sample is written anew, with the same content each time, by

    python -m ojd_daps_language_models.sample_data.generate_company_descriptions
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from ojd_daps_language_models.sample_data.advert_text import (
    FOLDER,
    Phrase,
    finish,
    parse_phrase,
    read_words,
    say,
    say_one,
    write_duties,
    write_offer,
    write_requirements,
)
from ojd_daps_language_models.sample_data.generate_adverts import (
    Employer,
    draw_day,
    draw_facts,
    draw_mess,
    make_employers,
    write_day,
    write_sample,
)

# None of these employers is in the samples of whole adverts.
SAMPLE_ARGUMENTS = {"employers": 75, "seed": 9}

# What is odd about sentences that do not (0) and do (1) describe the company. One deck
# is dealt for every 400 of the former and every 100 of the latter, so that these rates
# hold in both.
DECKS = (
    ("copy",) * 4
    + ("long", "one word", "mojibake", "entities") * 3
    + ("unsure", "empty", "no employer") * 2
    + ("no label", "majority", "tie", "no employer or advert")
    + ("plain",) * 374,
    ("long", "one word", "unsure") * 2
    + ("no label", "copy", "majority", "tie", "no employer", "mojibake", "entities")
    + ("plain",) * 87,
)
ADVERTS = (2, 2, 2, 3, 3, 3, 4, 4, 5, 8)  # of an employer
COMPANY_SENTENCES = (0, 1, 1, 1, 1, 2, 2)  # of an advert
OTHER_SENTENCES = (3, 4, 4, 5, 5, 5)  # of an advert
OTHER_PARTS = (
    ("opening", "offer", "apply") * 2 + ("duties", "requirements") * 3 + ("training",)
)
# Out of the words of whole adverts, or those of company_phrases.yaml.
COMPANY_SOURCES = ("adverts", "sector", "sector", "phrases", "phrases")
OTHER_SOURCES = ("adverts",) * 5 + ("phrases",) * 3 + ("sector",) * 2
ORDERS = (
    ("company", "opening", "duties", "requirements", "training", "offer", "apply"),
    ("opening", "company", "duties", "requirements", "training", "offer", "apply"),
    ("opening", "duties", "requirements", "training", "offer", "company", "apply"),
    ("opening", "offer", "company", "duties", "training", "requirements", "apply"),
)

Deal = Callable[[Sequence], Any]


def generate_sentences(employers: int, seed: int = 0) -> Iterator[dict]:
    """Yield labelled sentences, those of an advert one after the other, as in it.

    Args:
        employers: number of employers, each with two to eight adverts.
        seed: the same seed and employers give the same sentences.

    Yields:
        Dicts of id, sentence, label (1: it describes the company, or 0; "unsure" or
        None in a few), employer and advert (None in a few).
    """
    rng = random.Random(seed)
    deal = make_dealer(rng)
    words = read_words()
    phrases = read_company_phrases()
    houses = make_employers(rng, words, employers)
    turns = [house for house in houses for _ in range(deal(ADVERTS))]
    rng.shuffle(turns)
    seen: set[str] = set()
    number = 0

    for turn, house in enumerate(turns):
        occupation = rng.choice(house.occupations)
        facts = draw_facts(rng, words, house, occupation)
        facts["home"] = house.towns[0]
        facts["closing"] = write_day(rng, words, draw_day(rng) + timedelta(21))
        mess = draw_mess(rng, house) & {"contractions", "apostrophes"}
        parts = ["company"] * deal(COMPANY_SENTENCES)
        parts += [deal(OTHER_PARTS) for _ in range(deal(OTHER_SENTENCES))]
        for part in sorted(parts, key=rng.choice(ORDERS).index):
            label = int(part == "company")
            card = deal(DECKS[label])
            if card in phrases:
                templates = draw_phrases(
                    rng, deal, phrases[card]["company" if label else "other"]
                )
            elif label:
                templates = draw_company(rng, deal, phrases, house)
            else:
                templates = draw_other(
                    rng, deal, words, phrases, house, occupation, part
                )
            text = finish_new(templates, facts, mess, seen)
            for given in give_labels(label, card):
                yield {
                    "id": f"s{number:06d}",
                    "sentence": spoil(text, card),
                    "label": given,
                    "employer": None if card.startswith("no employer") else house.name,
                    "advert": None if card.endswith("advert") else f"ad{turn:05d}",
                }
                number += 1


def read_company_phrases() -> dict[str, dict[str, list[Phrase]]]:
    """Return company_phrases.yaml with every text in it as a phrase."""
    text = (FOLDER / "company_phrases.yaml").read_text(encoding="utf-8")
    return {
        kind: {
            theme: [parse_phrase(phrase) for phrase in listed]
            for theme, listed in themes.items()
        }
        for kind, themes in yaml.safe_load(text).items()
    }


def make_dealer(rng: random.Random) -> Deal:
    """Return a function that gives a card of a deck, none again before all others."""
    left: dict[int, list] = {}

    def deal(deck: Sequence) -> Any:
        cards = left.setdefault(id(deck), [])
        if not cards:
            cards.extend(rng.sample(deck, len(deck)))
        return cards.pop()

    return deal


# --------------------------------------------------------------------------- sentences


def draw_phrases(
    rng: random.Random, deal: Deal, phrases: list[Phrase]
) -> Iterator[str]:
    """Yield phrases without end."""
    while True:
        yield say(rng, deal(phrases))


def draw_company(
    rng: random.Random, deal: Deal, phrases: dict, house: Employer
) -> Iterator[str]:
    """Yield sentences about the employer without end."""
    sector = house.occupations[0]["sector"]
    themes = tuple(phrases["company"])
    while True:
        source = deal(COMPANY_SOURCES)
        if source == "adverts":
            yield rng.choice(house.about)
        elif source == "sector":
            yield say(rng, deal(phrases["company by sector"][sector]))
        else:
            yield say(rng, deal(phrases["company"][rng.choice(themes)]))


def draw_other(
    rng: random.Random,
    deal: Deal,
    words: dict,
    phrases: dict,
    house: Employer,
    occupation: dict,
    part: str,
) -> Iterator[str]:
    """Yield sentences of another part of an advert without end."""
    sector = house.occupations[0]["sector"]
    writers = {
        "opening": lambda: [say_one(rng, words["opening"] + words["purpose"])],
        "duties": lambda: write_duties(rng, words, occupation)[0],
        "requirements": lambda: write_requirements(rng, words, occupation)[0],
        "training": lambda: [say_one(rng, words["training"])],
        "offer": lambda: write_offer(rng, words, occupation, house.benefits)[0],
        "apply": lambda: [say_one(rng, words["apply"] + words["small_print"])],
    }
    while True:
        source = deal(OTHER_SOURCES)
        if source == "adverts":
            yield rng.choice(writers[part]())
        elif source == "sector":
            yield say(rng, deal(phrases["other by sector"][sector]))
        else:
            yield say(rng, deal(phrases["other"][part]))


def finish_new(
    templates: Iterator[str],
    facts: Mapping[str, str],
    mess: frozenset[str],
    seen: set[str],
) -> str:
    """Return the first sentence that was not seen; one that was, if many were."""
    for template in islice(templates, 20):
        text = finish(template, facts, mess)
        if text.casefold() not in seen:
            break
    seen.add(text.casefold())
    return text


# -------------------------------------------------------------------------------- mess


def give_labels(label: int, card: str) -> list[int | str | None]:
    """Return the labels of the rows that a sentence stands in: one, two or three."""
    labels = {
        "unsure": ["unsure"],
        "no label": [None],
        "copy": [label, label],
        "tie": [label, 1 - label],
        "majority": [label, 1 - label, label],
    }
    return labels.get(card, [label])


def spoil(text: str, card: str) -> str:
    """Return the sentence without its words, in a wrong encoding, or half in HTML."""
    if card == "empty":
        return ""
    if card == "mojibake":
        text = text.replace("'", "\u2019").replace(" ", "\u00a0", 1)
        return text.encode("utf-8").decode("cp1252")
    if card == "entities":
        text = text.replace(" and ", " &amp; ").replace("£", "&pound;")
        return text.replace(" ", "&nbsp;", 1)
    return text


def main(folder: Path = FOLDER) -> None:
    """Write the sample that the package ships."""
    sentences = generate_sentences(**SAMPLE_ARGUMENTS)
    write_sample(folder / "company_descriptions.jsonl.gz", sentences)


if __name__ == "__main__":
    main()
