"""Invented UK job adverts, in the state in which real ones arrive.

`occupations.yaml` and `phrases.yaml` hold the words; this module draws from them. The
shipped samples are written anew, with the same content each time, by

    python -m ojd_daps_language_models.sample_data.generate_adverts
"""

import gzip
import json
import random
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path

from ojd_daps_language_models.sample_data.advert_text import (
    BULLETS,
    FOLDER,
    HEADING_STYLES,
    finish,
    lay_out_glued,
    lay_out_html,
    lay_out_plain,
    read_words,
    say_one,
    say_some,
    write_sections,
)

# What `generate_adverts` is given for each sample of whole adverts. No employer is in
# both: a model that was adapted on the first has not seen those of the second.
SAMPLES = {"mlm": {"count": 480, "seed": 0}, "nsp": {"count": 240, "seed": 1}}

# One deck is dealt for every 240 adverts, so that these rates hold at any size.
DECK = (
    ("exact duplicate",) * 10
    + ("near duplicate",) * 19
    + ("welsh", "welsh", "french", "polish")
    + ("tiny",) * 3
    + ("empty",) * 2
    + ("null",)
    + ("repeated id",)
    + ("fresh",) * 200
)
MESS_RATES = {"contractions": 0.3, "apostrophes": 0.4, "spaces": 0.12, "mojibake": 0.1}
HOURS = {
    "shifts": ("16", "20", "24", "30", "36", "40", "42"),
    "days": ("22.5", "30", "35", "37.5", "39", "40"),
    "desk": ("22.5", "30", "35", "37", "37.5"),
}
FIRST_DAY = date(2023, 1, 9)


@dataclass(frozen=True, slots=True)
class Employer:
    """What all adverts of one employer have in common."""

    name: str
    occupations: list[dict]
    towns: list[str]
    about: list[str]
    benefits: list[str]
    email: str
    site: str
    html: bool
    bullet: str
    line_end: str
    heading_style: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """An advert before its facts (town, salary, telephone ...) are filled in."""

    template: str
    facts: dict[str, str]
    employer: str
    title: str
    day: date
    mess: frozenset[str]


def generate_adverts(
    count: int, seed: int = 0, employers: int | None = None
) -> Iterator[dict]:
    """Yield adverts: dicts of id, text (None in a few), employer, title and date.

    Args:
        count: number of adverts, duplicates and unusable ones included.
        seed: the same seed, count and employers give the same adverts.
        employers: number of employers; by default it grows as count ** 0.69.
    """
    rng = random.Random(seed)
    words = read_words()
    total = employers or max(1, round(count**0.69))
    houses = make_employers(rng, words, total)
    agencies = [make_name(rng, words, "agency") for _ in range(1 + total // 30)]
    sizes = list(accumulate((rank + 1) ** -0.75 for rank in range(total)))
    recent: deque[Draft] = deque(maxlen=200)
    deck: list[str] = []
    introduced = 0

    for number in range(count):
        if not deck:
            deck = rng.sample(DECK, len(DECK))
        kind = deck.pop()
        if kind != "repeated id" or number == 0:
            identifier = f"ad{number:07d}"

        if recent and kind in ("exact duplicate", "near duplicate"):
            draft = replace(rng.choice(recent), day=draw_day(rng))
            if kind == "near duplicate":
                draft = vary(rng, words, draft, rng.choice(agencies))
        else:
            # Each employer has its turn, spread over the file; big ones come again.
            if introduced * count <= number * total:
                employer = houses[introduced]
                introduced += 1
            else:
                employer = rng.choices(houses, cum_weights=sizes)[0]
            draft = write_draft(rng, words, employer, kind)
            if kind in ("fresh", "repeated id"):
                recent.append(draft)

        text = finish(draft.template, draft.facts, draft.mess)
        yield {
            "id": identifier,
            "text": None if kind == "null" else text,
            "employer": draft.employer,
            "title": draft.title,
            "date": draft.day.isoformat(),
        }


# --------------------------------------------------------------------------- employers


def make_employers(rng: random.Random, words: dict, total: int) -> list[Employer]:
    """Return employers of different names."""
    sectors = [occupation["sector"] for occupation in words["occupations"]]
    sectors = [sector for sector in sectors if sector != "office"]
    employers: dict[str, Employer] = {}
    while len(employers) < total:
        # Sectors take turns: a few big employers would crowd out occupations.
        sector = sectors[len(employers) * 7 % len(sectors)]
        name = make_name(rng, words, sector)
        if name not in employers:
            employers[name] = make_employer(rng, words, name, sector)
    return list(employers.values())


def make_name(rng: random.Random, words: dict, sector: str) -> str:
    """Return a name such as Brackenfold Care."""
    suffix = rng.choice(words["sectors"][sector]["suffixes"])
    return f"{rng.choice(words['fronts'])}{rng.choice(words['backs'])} {suffix}"


def make_slug(name: str) -> str:
    """Return a name as it stands in web addresses."""
    return name.lower().replace(" ", "-")


def make_employer(rng: random.Random, words: dict, name: str, sector: str) -> Employer:
    """Return an employer with its boilerplate and its habits of layout."""
    by_sector = [o for o in words["occupations"] if o["sector"] == sector]
    office = [o for o in words["occupations"] if o["sector"] == "office"]
    towns = rng.sample(list(words["towns"]), rng.randint(1, 4))
    facts = {
        "employer": name,
        "home": towns[0],
        "year": str(rng.randint(1897, 2018)),
        "size": rng.choice(("45", "60", "80", "120", "150", "240", "350", "600")),
    }
    about = [
        say_one(rng, words["history"]),
        say_one(rng, words["sectors"][sector]["about"]),
        say_one(rng, words["values"]),
    ]
    slug = make_slug(name)
    emails = (
        f"jobs@{slug}.example",
        f"recruitment@{slug}.example",
        f"{slug}@example.com",
        f"{slug}.hr@example.org",
    )
    sites = (
        f"https://www.{slug}.example/jobs",
        f"www.{slug}.example/careers",
        f"http://example.com/{slug}",
    )
    return Employer(
        name=name,
        occupations=[*by_sector, rng.choice(office)],
        towns=towns,
        about=[sentence.format_map(facts) for sentence in about],
        benefits=say_some(rng, words["benefits"], 6, 8),
        email=rng.choice(emails),
        site=rng.choice(sites),
        html=rng.random() < 0.2,
        bullet=rng.choice(BULLETS),
        line_end=rng.choice(("", "", ".", ";")),
        heading_style=rng.choice(HEADING_STYLES),
    )


# ----------------------------------------------------------------------------- adverts


def write_draft(
    rng: random.Random, words: dict, employer: Employer, kind: str
) -> Draft:
    """Return a new advert of the employer."""
    occupation = rng.choice(employer.occupations)
    day = draw_day(rng)
    facts = draw_facts(rng, words, employer, occupation)
    facts["closing"] = write_day(rng, words, day + timedelta(rng.randint(10, 35)))
    mess = draw_mess(rng, employer)

    if kind == "empty":
        template = rng.choice(("", " ", "\n\n"))
    elif kind == "tiny":
        template = say_one(rng, words["tiny"])
    elif kind in words["languages"]:
        language = words["languages"][kind]
        facts["title"] = rng.choice(language["titles"])
        facts["salary"] = facts["salary"].split()[0]
        facts["closing"] = f"{day + timedelta(28):%d/%m/%Y}"
        mess = frozenset()
        sentences = say_some(rng, language["sentences"], 8, 10)
        template = rng.choice((" ", "\n")).join(sentences)
    else:
        sections = write_sections(
            rng, words, occupation, employer.about, employer.benefits
        )
        if "html" in mess:
            template = lay_out_html(sections)
        elif "glued" in mess:
            template = lay_out_glued(sections, rng.choice(("", "\n")))
        else:
            template = lay_out_plain(
                sections, employer.bullet, employer.line_end, employer.heading_style
            )

    title = facts["title"]
    if rng.random() < 0.2:
        title += rng.choice((f" - {facts['town']}", f" ({facts['hours']} hours)"))
    return Draft(template, facts, employer.name, title, day, mess)


def vary(rng: random.Random, words: dict, draft: Draft, agency: str) -> Draft:
    """Return a near duplicate: another town, salary or date, or posted by an agency."""
    change = rng.choice(("town", "salary", "date", "agency"))
    if change == "agency":
        lead = say_one(rng, words["agency_leads"]).replace("{agency}", agency)
        lead = f"<p>{lead}</p>\n" if "html" in draft.mess else f"{lead} "
        return replace(
            draft,
            template=lead + draft.template,
            facts=draft.facts | {"email": f"cv@{make_slug(agency)}.example"},
            employer=agency,
        )
    if change == "town":
        town = rng.choice(list(words["towns"]))
        facts = {"town": town, "postcode": draw_postcode(rng, words, town)}
    elif change == "salary":
        facts = {"salary": draft.facts["other_salary"]}
    else:
        facts = {
            "closing": write_day(rng, words, draft.day + timedelta(21)),
            "ref": f"REF{rng.randint(1000, 99999)}",
        }
    return replace(draft, facts=draft.facts | facts)


def draw_mess(rng: random.Random, employer: Employer) -> frozenset[str]:
    """Return what is wrong with the text of an advert."""
    mess = {name for name, rate in MESS_RATES.items() if rng.random() < rate}
    if employer.html:
        mess.add("html")
    elif rng.random() < 0.14:
        mess.add("glued")
    return frozenset(mess)


# ------------------------------------------------------------------------------- facts


def draw_facts(
    rng: random.Random, words: dict, employer: Employer, occupation: dict
) -> dict[str, str]:
    """Return what is filled in for the names in braces of an advert."""
    title = rng.choice(occupation["titles"]).partition(" - ")[0]
    article = "an" if re.match("[AEIO]|HR|HGV|LGV|RGN", title) else "a"
    town = rng.choice(employer.towns)
    tool1, tool2 = rng.sample(occupation["tools"], 2)
    topic1, topic2, topic3 = rng.sample(occupation["topics"], 3)
    first, last = rng.choice(words["first_names"]), rng.choice(words["last_names"])
    own_email = f"{first}.{last}@example.net".lower()
    return {
        "employer": employer.name,
        "title": title,
        "a_title": f"{article} {title}",
        "team": occupation["team"],
        "people": occupation["people"],
        "purpose": say_one(rng, occupation["purpose"]),
        "tool1": tool1,
        "tool2": tool2,
        "topic1": topic1,
        "topic2": topic2,
        "topic3": topic3,
        "hours": rng.choice(HOURS[occupation["hours"]]),
        "salary": draw_salary(rng, *occupation["pay"]),
        "other_salary": draw_salary(rng, *occupation["pay"]),
        "town": town,
        "postcode": draw_postcode(rng, words, town),
        "street": rng.choice(words["streets"]),
        "number": str(rng.randint(1, 180)),
        "contact": f"{first} {last}",
        "phone": draw_phone(rng, words, town),
        "email": rng.choice((employer.email, employer.email, own_email)),
        "url": employer.site,
        "ref": f"{title[:2].upper()}{rng.randint(1000, 99999)}",
        "year": str(rng.randint(1950, 2018)),
    }


def draw_day(rng: random.Random) -> date:
    """Return a day of about two and a half years."""
    return FIRST_DAY + timedelta(rng.randrange(900))


def write_day(rng: random.Random, words: dict, day: date) -> str:
    """Return the day as British adverts write it."""
    day_and_month = f"{day.day} {words['months'][day.month - 1]}"
    return rng.choice((day_and_month, f"{day_and_month} {day.year}", f"{day:%d/%m/%Y}"))


def draw_postcode(rng: random.Random, words: dict, town: str) -> str:
    """Return a postcode of the right shape for the town; it need not exist."""
    letters = "".join(rng.choices("ABDEFGHJLNPQRSTUWXYZ", k=2))
    outward = rng.choice(words["towns"][town]["postcodes"])
    return f"{outward} {rng.randint(1, 9)}{letters}"


def draw_phone(rng: random.Random, words: dict, town: str) -> str:
    """Return a telephone number that Ofcom keeps free for drama."""
    number = f"{words['towns'][town]['phone']}{rng.randrange(1000):03d}"
    area, middle, last = number.split()
    layouts = (
        number,
        f"({area}) {middle} {last}",
        f"{area} {middle}{last}",
        f"{area}-{middle}-{last}",
        f"+44 {area[1:]} {middle} {last}",
    )
    return rng.choice(layouts)


def draw_salary(rng: random.Random, low: float, high: float) -> str:
    """Return pay per hour (of a range below 100) or per year, in pounds."""
    start = rng.uniform(low, high)
    if high < 100:
        unit = rng.choice((" an hour", " per hour", "ph"))
        return f"£{round(start * 20) / 20:.2f}{unit}"
    start = round(start / 500) * 500
    end = start + rng.choice((1500, 2000, 3000, 4500))
    layouts = (
        f"£{start:,} a year",
        f"£{start:,} per annum",
        f"£{start:,} - £{end:,} per annum",
        f"£{start:,} to £{end:,}",
        f"£{start / 1000:g}k",
    )
    return rng.choice(layouts)


# ------------------------------------------------------------------------------ sample


def write_sample(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as gzipped JSON Lines."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    # Without a time stamp the same rows give the same bytes.
    path.write_bytes(gzip.compress("".join(lines).encode("utf-8"), 9, mtime=0))
    print(f"{path.name}: {len(lines):,} rows, {path.stat().st_size:,} bytes")


def main(folder: Path = FOLDER) -> None:
    """Write the samples of whole adverts that the package ships."""
    for task, arguments in SAMPLES.items():
        write_sample(folder / f"{task}.jsonl.gz", generate_adverts(**arguments))


if __name__ == "__main__":
    main()
