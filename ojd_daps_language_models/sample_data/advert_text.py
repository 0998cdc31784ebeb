"""The wording and the layout of invented adverts: phrases, sections, HTML, mess."""

import random
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent

ORDERS = (
    ("about", "duties", "requirements", "training", "offer"),
    ("about", "duties", "offer", "requirements"),
    ("duties", "requirements", "offer", "about"),
    ("duties", "requirements", "offer"),
    ("offer", "duties", "requirements", "about"),
    ("duties", "training", "requirements", "offer"),
)
BULLETS = ("•", "-", "*", "·", "\u2013", "o", "▪", "✓", "\uf0b7", "1.")
HEADING_STYLES = ("{}", "{}:", "**{}**", "== {} ==", "{} -", None)
CONTRACTIONS = (
    ("You will ", "You'll "),
    ("you will ", "you'll "),
    ("We are ", "We're "),
    ("We have ", "We've "),
    ("You are ", "You're "),
    ("It is ", "It's "),
)

# A phrase is plain text, or a %-template with the options of each of its places.
Phrase = str | tuple[str, tuple[tuple[str, ...], ...]]
Section = tuple[str | None, list[str], bool]  # heading, lines, whether in bullets


# ----------------------------------------------------------------------------- phrases


@cache
def read_words() -> dict:
    """Return both YAML files in one dict, with every text in them as a phrase."""
    words = _take_apart(_read_yaml("phrases.yaml"))
    words["occupations"] = list(_take_apart(_read_yaml("occupations.yaml")).values())
    return words


def _read_yaml(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def _take_apart(value):
    """Return a nested structure with each text in it as a phrase."""
    if isinstance(value, dict):
        return {key: _take_apart(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_take_apart(item) for item in value]
    return parse_phrase(value) if isinstance(value, str) else value


def parse_phrase(text: str) -> Phrase:
    """Return a text with places such as `(good|sound)` as a phrase."""
    parts = re.split(r"\(([^()]*\|[^()]*)\)", text)
    if len(parts) == 1:
        return text
    template = "%s".join(part.replace("%", "%%") for part in parts[::2])
    return template, tuple(tuple(options.split("|")) for options in parts[1::2])


def say(rng: random.Random, phrase: Phrase) -> str:
    """Return the phrase with an option drawn for each of its places."""
    if isinstance(phrase, str):
        return phrase
    template, places = phrase
    draw = rng.random  # many times quicker than rng.choice
    return template % tuple([place[int(draw() * len(place))] for place in places])


def say_one(rng: random.Random, phrases: list[Phrase]) -> str:
    """Return one of the phrases."""
    return say(rng, rng.choice(phrases))


def say_some(
    rng: random.Random, phrases: list[Phrase], least: int, most: int
) -> list[str]:
    """Return least to most of the phrases, in the order in which they are listed."""
    chosen = sorted(rng.sample(range(len(phrases)), rng.randint(least, most)))
    return [say(rng, phrases[index]) for index in chosen]


def fill(frames: list[str], items: list[str], end: str = "") -> list[str]:
    """Return each item in a frame of its own; frames may be left over."""
    return [
        frame.replace("…", item) + end
        for frame, item in zip(frames, items, strict=False)
    ]


def capitalise(text: str) -> str:
    """Return the text with a capital first letter; the others stay."""
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------------------- sections


def write_sections(
    rng: random.Random,
    words: dict,
    occupation: dict,
    about: list[str],
    benefits: list[str],
) -> list[Section]:
    """Return the parts of an advert in the order in which they are read.

    Args:
        rng: source of chance.
        words: what `read_words` returns.
        occupation: one of its occupations.
        about: sentences about the employer.
        benefits: what the employer offers, as noun phrases.
    """
    writers = {
        "about": lambda: (about, False),
        "duties": lambda: write_duties(rng, words, occupation),
        "requirements": lambda: write_requirements(rng, words, occupation),
        "training": lambda: (say_some(rng, words["training"], 1, 2), False),
        "offer": lambda: write_offer(rng, words, occupation, benefits),
    }
    opening = [say_one(rng, words["opening"]), say_one(rng, words["purpose"])]
    sections: list[Section] = [(None, opening, False)]
    for name in rng.choice(ORDERS):
        lines, in_bullets = writers[name]()
        sections.append((rng.choice(words["headings"][name]), lines, in_bullets))
    closing = [
        *say_some(rng, words["apply"], 1, 3),
        *say_some(rng, words["small_print"], 0, 2),
    ]
    sections.append((rng.choice(words["headings"]["apply"]), closing, False))
    return sections


def write_duties(
    rng: random.Random, words: dict, occupation: dict
) -> tuple[list[str], bool]:
    """Return the duties as sentences or as bullets."""
    count = rng.randint(3, 6)
    duties = [say(rng, duty) for duty in rng.sample(occupation["duties"], count)]
    if rng.random() < 0.6:
        return [capitalise(duty) for duty in duties], True
    lead = say_one(rng, words["duties_lead"]) + " …"
    return fill([lead, *say_some(rng, words["duties"], 5, 5)], duties, "."), False


def write_requirements(
    rng: random.Random, words: dict, occupation: dict
) -> tuple[list[str], bool]:
    """Return skills, abilities and qualifications as sentences or as bullets."""
    skills = [
        *say_some(rng, occupation["skills"], 1, 3),
        say_one(rng, words["knowledge"]),
    ]
    abilities = say_some(rng, occupation["abilities"], 1, 2)
    qualification = [say_one(rng, occupation["qualifications"])]
    if rng.random() < 0.6:
        lines = [
            *skills,
            *fill(rng.sample(words["ability_items"], 2), abilities),
            *fill([rng.choice(words["qualification_items"])], qualification),
        ]
        rng.shuffle(lines)
        return [capitalise(line) for line in lines], True
    lines = [
        *fill(say_some(rng, words["skills"], 4, 4), skills, "."),
        *fill(say_some(rng, words["abilities"], 2, 2), abilities, "."),
        *fill([say_one(rng, words["qualifications"])], qualification, "."),
    ]
    return lines, False


def write_offer(
    rng: random.Random, words: dict, occupation: dict, benefits: list[str]
) -> tuple[list[str], bool]:
    """Return pay, hours and benefits as sentences or as bullets."""
    pay = say_one(rng, words["salary"])
    hours = say_one(rng, words["hours"][occupation["hours"]])
    chosen = rng.sample(benefits, rng.randint(2, 4))
    if rng.random() < 0.5:
        return [pay, hours, *(capitalise(benefit) for benefit in chosen)], True
    listed = f"{', '.join(chosen[:-1])} and {chosen[-1]}"
    return [pay, hours, *fill([say_one(rng, words["offer"])], [listed], ".")], False


# ------------------------------------------------------------------------------ layout


def lay_out_plain(
    sections: list[Section], bullet: str, line_end: str, heading_style: str | None
) -> str:
    """Return sections as plain text in the style of one employer."""
    texts = []
    for heading, lines, in_bullets in sections:
        if in_bullets:
            lines = [
                f"{f'{number}.' if bullet == '1.' else bullet} {line.rstrip('.')}"
                f"{line_end}"
                for number, line in enumerate(lines, start=1)
            ]
        text = ("\n" if in_bullets else " ").join(lines)
        if heading and (heading_style or in_bullets):
            text = f"{(heading_style or '{}').format(heading)}\n{text}"
        texts.append(text)
    return "\n\n".join(texts)


def lay_out_html(sections: list[Section]) -> str:
    """Return sections as HTML."""
    texts = []
    for heading, lines, in_bullets in sections:
        if heading:
            texts.append(f"<h3>{heading.replace(' and ', ' &amp; ')}</h3>")
        if in_bullets:
            texts.append(f"<ul>\n<li>{'</li><li>'.join(lines)}</li>\n</ul>")
        else:
            texts.append(f"<p>{'<br />'.join(lines)}</p>")
    return "\n".join(texts)


def lay_out_glued(sections: list[Section], between: str) -> str:
    """Return sections without line breaks, which gives `year.We` and `skillsBe`."""
    return between.join(
        (heading or "") + ("" if in_bullets else " ").join(lines)
        for heading, lines, in_bullets in sections
    )


def finish(template: str, facts: Mapping[str, str], mess: frozenset[str]) -> str:
    """Return the text of an advert with its facts filled in and its mess made."""
    text = template.format_map(facts)
    if "contractions" in mess:
        for long, short in CONTRACTIONS:
            text = text.replace(long, short)
    if "apostrophes" in mess or "mojibake" in mess:
        text = text.replace("'", "\u2019")
    if "html" in mess:
        return text.replace("£", "&pound;").replace(". ", ".&nbsp; ")
    if "spaces" in mess:
        text = text.replace(". ", ".\u00a0 ").replace("• ", "•\u00a0")
    if "mojibake" in mess:
        text = text.encode("utf-8").decode("cp1252")
    return text
