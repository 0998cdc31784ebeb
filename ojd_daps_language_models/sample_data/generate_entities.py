"""Invented adverts in which skills, experience and benefits are marked as spans.

They are drawn from the words of whole adverts, and from `entity_phrases.yaml`. The
shipped sample is written anew, with the same content each time, by

    python -m ojd_daps_language_models.sample_data.generate_entities
"""

import random
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import yaml

from ojd_daps_language_models.sample_data.advert_text import (
    FOLDER,
    ORDERS,
    Section,
    finish,
    lay_out_plain,
    parse_phrase,
    read_words,
    say,
    say_one,
)
from ojd_daps_language_models.sample_data.generate_adverts import (
    Draft,
    Employer,
    draw_day,
    draw_facts,
    make_employers,
    make_name,
    vary,
    write_day,
    write_sample,
)
from ojd_daps_language_models.sample_data.generate_company_descriptions import (
    ADVERTS,
    Deal,
    make_dealer,
    read_company_phrases,
)

# None of these employers is in another sample.
SAMPLE_ARGUMENTS = {"employers": 60, "seed": 11}

# One deck is dealt for every 216 adverts, so that these rates hold at any size.
DECK = (
    ("inside a word",) * 12
    + ("overlap",) * 8
    + ("exact duplicate", "near duplicate", "unknown label") * 6
    + ("no span", "reject") * 4
    + ("past the end",) * 3
    + ("turned", "ignore", "no text") * 2
    + ("repeated id",)
    + ("plain",) * 160
)
SIZES = (1,) * 13 + (2,) * 5 + (3,) * 2  # of an advert
WORDS = {1: range(60, 86), 2: range(86, 171), 3: range(171, 261)}  # by size
SPANS = range(6, 15)  # of an advert
MESS_RATES = {"contractions": 0.3, "apostrophes": 0.4, "spaces": 0.1}
UNMARKED_PARTS = ("about",)  # besides the opening and how to apply
# Lines of the parts that have few spans or none, at most, by size.
MOST_LINES = {
    "about": {1: 0, 2: 2, 3: 4},
    "training": {1: 0, 2: 1, 3: 2},
    "apply": {1: 1, 2: 2, 3: 4},
}
# What stands in a place such as {act}, and how it is marked, if at all.
LABELS = {
    "act": "SKILL",
    "skill": "SKILL",
    "instrument": "SKILL",
    "strength": "SKILL",
    "acts": "MULTISKILL",
    "skills": "MULTISKILL",
    "experience": "EXPERIENCE",
    "benefit": "BENEFIT",
}
PLACES = (*LABELS, "field", "perform", "perk", "tool", "topic", "trade")
PLACE = re.compile(rf"{{({'|'.join(PLACES)})}}")
# Phrases that can be cut inside of their first word or their last.
LONG_ENDS = re.compile(r"[^\W\d_]{4}.* .*[^\W\d_]{4}")
MARKED = re.compile(r"\[([A-Z]+) ([^]]+)\]")
# The tokens of "year.We" can be told apart, those of "SQL.We" cannot.
BETWEEN_SENTENCES = re.compile(r"([a-z]\]?\.)\s+(?=[A-Z])")


def generate_annotations(employers: int, seed: int = 0) -> Iterator[dict]:
    """Yield annotated adverts, with the faults that annotators leave in some.

    Args:
        employers: number of employers, each with two to eight adverts. Agencies, which
            only repeat the adverts of others, come on top.
        seed: the same seed and employers give the same adverts.

    Yields:
        Dicts as Prodigy exports them: id, text (None or empty in a few), employer,
        advert (the id again), spans (dicts of start and end in characters, and label)
        and answer ("accept"; "reject" or "ignore" in a few).
    """
    rng = random.Random(seed)
    deal = make_dealer(rng)
    words = read_words()
    phrases = yaml.safe_load((FOLDER / "entity_phrases.yaml").read_text("utf-8"))
    themes = read_company_phrases()["company"].values()
    phrases["company"] = [phrase for theme in themes for phrase in theme]
    houses = make_employers(rng, words, employers)
    turns = [house for house in houses for _ in range(deal(ADVERTS))]
    rng.shuffle(turns)
    drafts: list[Draft] = []

    for turn, house in enumerate(turns):
        card = deal(DECK)
        if drafts and card.endswith("duplicate"):
            draft = rng.choice(drafts)
            if card == "near duplicate":
                draft = vary_visibly(rng, words, draft)
        else:
            parts, size = rng.choice(ORDERS), deal(SIZES)
            if card == "no span":
                parts, size = UNMARKED_PARTS, 2
            draft = write_fitting(rng, words, phrases, house, parts, size)
            if card == "plain":
                drafts.append(draft)
        if card != "repeated id" or turn == 0:
            identifier = f"ad{turn:05d}"
        text, spans = read_draft(draft)
        yield {
            "id": identifier,
            "text": rng.choice((None, "")) if card == "no text" else text,
            "employer": draft.employer,
            "advert": identifier,
            "spans": spoil_spans(rng, text, spans, card),
            "answer": card if card in ("reject", "ignore") else "accept",
        }


# ----------------------------------------------------------------------------- adverts


def write_fitting(
    rng: random.Random,
    words: dict,
    phrases: dict,
    house: Employer,
    parts: Sequence[str],
    size: int,
) -> Draft:
    """Return a new advert that is as long as others of its size.

    Args:
        rng: source of chance.
        words: what `read_words` returns.
        phrases: entity_phrases.yaml, and the phrases about companies.
        house: the employer.
        parts: between the opening and how to apply, in this order.
        size: 1, 2 or 3.
    """
    counts = (0,) if parts == UNMARKED_PARTS else SPANS
    while True:
        draft = write_draft(rng, words, phrases, house, parts, size)
        text, spans = read_draft(draft)
        if len(text.split()) in WORDS[size] and len(spans) in counts:
            return draft


def write_draft(
    rng: random.Random,
    words: dict,
    phrases: dict,
    house: Employer,
    parts: Sequence[str],
    size: int,
) -> Draft:
    """Return a new advert of the employer, its spans as in `[SKILL SQL]`."""
    occupation = rng.choice(house.occupations)
    day = draw_day(rng)
    facts = draw_facts(rng, words, house, occupation)
    facts["home"] = house.towns[0]
    facts["closing"] = write_day(rng, words, day + timedelta(21))
    deal = make_dealer(rng)
    decks = gather_decks(rng, words, phrases, house, occupation)
    sections: list[Section] = [(None, [say_one(rng, words["opening"])], False)]
    for part in (*parts, "apply"):
        lines, in_bullets = write_lines(rng, deal, decks, part, size)
        if lines:
            sections.append((rng.choice(words["headings"][part]), lines, in_bullets))
    template = lay_out_plain(
        sections, house.bullet, house.line_end, house.heading_style
    )
    mess = frozenset(name for name, rate in MESS_RATES.items() if rng.random() < rate)
    template = disturb_sentences(rng, template)
    return Draft(template, facts, house.name, facts["title"], day, mess)


def gather_decks(
    rng: random.Random, words: dict, phrases: dict, house: Employer, occupation: dict
) -> dict[str, list]:
    """Return the lines of each part and what may stand in each place of them."""
    sector = phrases["sectors"][occupation["sector"]]
    pay = [rng.choice(words["salary"][:3]), words["hours"][occupation["hours"]][1]]
    return phrases | {
        "about": phrases["about"] + house.about + rng.sample(phrases["company"], 8),
        "apply": phrases["apply"] + words["apply"] + words["small_print"],
        "offer": phrases["offer"] + pay,
        "offer items": phrases["offer items"] + pay,
        "act": phrases["act"] + sector["act"],
        "acts": phrases["acts"] + sector["acts"],
        "skill": occupation["tools"] + occupation["topics"],
        "instrument": occupation["tools"],
        "tool": occupation["tools"],
        "topic": occupation["topics"],
        "field": sector["field"],
        "trade": [name for name in sector["field"] if name[:2] != "a "],
        "benefit": phrases["benefit"] + house.benefits,
    }


def write_lines(
    rng: random.Random, deal: Deal, decks: dict[str, list], part: str, size: int
) -> tuple[list[str], bool]:
    """Return a part of an advert as sentences or as bullets."""
    in_bullets = f"{part} items" in decks and rng.random() < 0.5
    deck = decks[f"{part} items" if in_bullets else part]
    if part in MOST_LINES:
        count = rng.randint(part == "apply", MOST_LINES[part][size])
    else:
        count = rng.randint(size, 2 * size - 1)
        count += in_bullets * rng.randint(size, size + 1)
    lines = [draw(rng, deal, decks, deck) for _ in range(count)]
    return [
        re.sub(
            r"^(\[[A-Z]+ )?[a-z]",
            lambda start: start[0][:-1] + start[0][-1].upper(),
            line,
        )
        for line in lines
    ], in_bullets


def draw(rng: random.Random, deal: Deal, decks: dict[str, list], deck: list) -> str:
    """Return a phrase of the deck with its places filled and marked."""
    phrase = deal(deck)

    def fill(place: re.Match) -> str:
        text = draw(rng, deal, decks, decks[place[1]])
        return f"[{LABELS[place[1]]} {text}]" if place[1] in LABELS else text

    phrase = parse_phrase(phrase) if isinstance(phrase, str) else phrase
    return PLACE.sub(fill, say(rng, phrase))


def disturb_sentences(rng: random.Random, template: str) -> str:
    """Return the advert as it is, with some sentences glued, or with double blanks."""
    fault = rng.choice(("glued", "blanks", None, None, None))
    if fault == "glued":
        return BETWEEN_SENTENCES.sub(lambda end: end[rng.randint(0, 1)], template)
    return template.replace(". ", ".  ") if fault else template


def vary_visibly(rng: random.Random, words: dict, draft: Draft) -> Draft:
    """Return a near duplicate; not each town, salary and date stands in the text."""
    varied = draft
    while read_draft(varied)[0] == read_draft(draft)[0]:
        varied = vary(rng, words, draft, make_name(rng, words, "agency"))
    return varied


# ------------------------------------------------------------------------------- spans


def read_draft(draft: Draft) -> tuple[str, list[dict]]:
    """Return the text of an advert and its spans."""
    marked = finish(draft.template, draft.facts, draft.mess)
    text, spans, end = "", [], 0
    for match in MARKED.finditer(marked):
        text += marked[end : match.start()]
        span = {"start": len(text), "end": len(text) + len(match[2]), "label": match[1]}
        spans.append(span)
        text += match[2]
        end = match.end()
    return text + marked[end:], spans


def spoil_spans(
    rng: random.Random, text: str, spans: list[dict], card: str
) -> list[dict]:
    """Return the spans of an advert with what is wrong with one of them."""
    phrases = [s for s in spans if LONG_ENDS.fullmatch(text[s["start"] : s["end"]])]
    if card == "no text":
        return []
    if not phrases:
        return spans
    span = rng.choice(phrases)
    start, end = span["start"], span["end"]
    if card == "overlap":
        last_word = {"start": text.rindex(" ", start, end) + 1, "end": end}
        return [*spans, last_word | {"label": "SKILL"}]
    faults = {
        "inside a word": rng.choice(({"start": start + 2}, {"end": end - 2})),
        "unknown label": {"label": rng.choice(("SKIL", "OTHER"))},
        "past the end": {"start": len(text) + 1, "end": len(text) + 1 + end - start},
        "turned": {"start": end, "end": start},
    }
    span.update(faults.get(card, {}))
    return spans


def main(folder: Path = FOLDER) -> None:
    """Write the sample that the package ships."""
    write_sample(folder / "ner.jsonl.gz", generate_annotations(**SAMPLE_ARGUMENTS))


if __name__ == "__main__":
    main()
