"""The shipped adverts are what their README says, and the generator can write more."""

import gzip
import itertools
import json
import re
import statistics
from collections import Counter, defaultdict

import py3langid
import pytest
from phonenumbers import PhoneNumberMatcher

from ojd_daps_language_models.sample_data import generate_adverts as generator
from ojd_daps_language_models.sample_data.advert_text import FOLDER, read_words

# Employers and agencies that post many UK adverts.
REAL_EMPLOYER = re.compile(
    r"""\b(Accenture|Adecco|Aldi|Amazon|Argos|Asda|Aviva|Barclays|BBC|Boots|BT|Bupa|Capita
    |Centrica|Compass|Costa|Deloitte|DHL|EY|Google|Greggs|Halfords|Hays|HSBC|IBM|Ikea|KPMG
    |Lidl|Lloyds|Manpower|Marriott|Mencap|Microsoft|Mitie|Morrisons|NatWest|Nestl[eé]|NHS
    |Nuffield|Ocado|PwC|Randstad|Reed|Sainsbury|Santander|Serco|Shell|Siemens|Sodexo
    |Starbucks|Tesco|Unilever|Virgin|Vodafone|Waitrose|Wetherspoon|Whitbread)\b""",
    re.VERBOSE,
)
DRAMA_NUMBERS = re.compile(
    r"20 ?7946 ?0\d{3}|1(13|14|16|17|18|21|31|41|51|61) ?496 ?0\d{3}|191 ?498 ?0\d{3}"
    r"|29 ?2018 ?0\d{3}|28 ?9649 ?6\d{3}|808 ?157 ?0\d{3}"
)


@pytest.fixture(scope="module")
def adverts() -> list[dict]:
    with gzip.open(generator.SAMPLE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def texts(adverts) -> list[str]:
    """Texts of adverts, the tiny ones left out."""
    return [a["text"] for a in adverts if a["text"] and len(a["text"].split()) > 20]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def similarity(left: set, right: set) -> float:
    return len(left & right) / len(left | right)


def occupation_of(title: str) -> str:
    """The first title of the occupation that the title belongs to, or the title."""
    title = re.sub(r" (- \w+|\([\d.]+ hours\))$", "", title)
    for occupation in read_words()["occupations"]:
        if any(known.startswith(title) for known in occupation["titles"]):
            return occupation["titles"][0]
    return title


def test_the_sample_is_what_the_generator_writes(adverts):
    assert adverts == list(generator.generate_adverts(generator.SAMPLE_COUNT))


def test_it_is_small(adverts):
    assert generator.SAMPLE.stat().st_size < 1_000_000
    assert sum(len(json.dumps(advert)) for advert in adverts) < 1_000_000


def test_it_has_many_adverts_employers_and_occupations(adverts, texts):
    assert len(texts) >= 400
    sizes = Counter(advert["employer"] for advert in adverts)
    assert len(sizes) >= 60
    assert max(sizes.values()) >= 20
    assert statistics.median(sizes.values()) <= 5
    known = {occupation["titles"][0] for occupation in read_words()["occupations"]}
    assert len(known & {occupation_of(advert["title"]) for advert in adverts}) >= 25


def test_adverts_are_as_long_as_real_ones(texts):
    lengths = sorted(len(re.sub(r"<[^>]+>", " ", text).split()) for text in texts)
    assert 200 < statistics.median(lengths) < 280
    assert lengths[len(lengths) // 20] > 120
    assert lengths[-len(lengths) // 20] < 350


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        pytest.param(r"</li>.*</p>", 20, id="HTML"),
        pytest.param(r"&amp;|&pound;|&nbsp;", 20, id="entities"),
        pytest.param(r"[a-z]\.[A-Z][a-z]+ ", 20, id="sentences glued, as in year.We"),
        pytest.param(r"[a-z](Be|Able) (able )?to", 3, id="lines glued: skillsBe"),
        pytest.param("\u00a0", 20, id="no-break spaces"),
        pytest.param("â€™", 10, id="mojibake of an apostrophe"),
        pytest.param("Â£", 10, id="mojibake of a pound sign"),
        pytest.param("\u2019", 50, id="curly apostrophes"),
        pytest.param(r"[\w.-]+@[\w.-]+", 200, id="e-mail addresses"),
        pytest.param(r"(https?://|www\.)\S+", 80, id="web addresses"),
        pytest.param(r"\b[A-Z]{1,2}\d[\dA-Z]? \d[A-Z]{2}\b", 40, id="postcodes"),
        pytest.param(r"AB ?12 ?34 ?56 ?C", 20, id="national insurance numbers"),
        pytest.param(r"DBS check", 20, id="small print"),
    ],
)
def test_it_has_each_kind_of_mess(texts, pattern, least):
    assert sum(bool(re.search(pattern, text, re.DOTALL)) for text in texts) >= least


@pytest.mark.parametrize("bullet", ["•", "-", "*", "·", "\u2013", "▪", "✓", "\uf0b7"])
def test_it_has_bullets_of_many_kinds(texts, bullet):
    assert any(re.search(rf"^{re.escape(bullet)}\s\w", t, re.MULTILINE) for t in texts)


def test_it_has_duplicates(texts):
    assert 15 <= len(texts) - len(set(texts)) <= 40
    different = [shingles(text) for text in set(texts)]
    near = [
        pair for pair in itertools.combinations(different, 2) if similarity(*pair) > 0.8
    ]
    assert len(near) >= 25


def test_it_has_rows_that_cannot_be_used(adverts):
    texts = [advert["text"] for advert in adverts]
    assert texts.count(None) >= 1
    assert sum(text is not None and not text.strip() for text in texts) >= 2
    assert sum(text is not None and 0 < len(text.split()) < 8 for text in texts) >= 3
    assert len({advert["id"] for advert in adverts}) < len(adverts)


def test_some_adverts_are_in_another_language(texts):
    languages = Counter(py3langid.classify(text)[0] for text in texts)
    assert set(languages) == {"en", "cy", "fr", "pl"}
    assert languages["en"] > 0.95 * len(texts)


def test_nothing_is_left_unfilled(texts):
    assert not [text for text in texts if re.search(r"[{}|…]|%s", text)]


def test_it_names_no_real_employer(adverts):
    for advert in adverts:
        found = REAL_EMPLOYER.search(f"{advert['employer']}\n{advert['text']}")
        assert not found, (advert["id"], found)


def test_addresses_and_numbers_are_reserved_ones(texts):
    told = "\n".join(texts)
    hosts = re.findall(r"(?:@|://|www\.)(?!www)([\w-]+(?:\.[\w-]+)+)", told, re.ASCII)
    assert len(hosts) > 300
    for host in hosts:
        assert re.fullmatch(r"[\w-]+\.example|example\.(com|org|net)", host), host
    numbers = [match.number for match in PhoneNumberMatcher(told, "GB")]
    assert len(numbers) > 150
    for number in numbers:
        assert DRAMA_NUMBERS.fullmatch(str(number.national_number)), number


def test_only_planted_duplicates_resemble_one_another(monkeypatch):
    monkeypatch.setattr(generator, "DECK", ("fresh",))
    alike = defaultdict(list)
    for advert in generator.generate_adverts(600, seed=1, employers=30):
        alike[occupation_of(advert["title"])].append(shingles(advert["text"]))
    pairs = [pair for s in alike.values() for pair in itertools.combinations(s, 2)]
    assert max(similarity(*pair) for pair in pairs) < 0.5


def test_a_seed_decides_all():
    first = list(generator.generate_adverts(300, seed=3))
    assert first == list(generator.generate_adverts(300, seed=3))
    assert first != list(generator.generate_adverts(300, seed=4))


@pytest.mark.parametrize(("count", "employers"), [(0, 5), (1, 5), (90, 60), (600, 7)])
def test_all_employers_get_their_turn(count, employers):
    adverts = list(generator.generate_adverts(count, employers=employers))
    assert len(adverts) == count
    names = {advert["employer"] for advert in adverts}
    # Agencies, which only repeat the adverts of others, come on top.
    assert len(names) >= min(count, employers)


def test_every_fact_that_phrases_ask_for_is_known():
    words = read_words()
    asked = set(re.findall(r"{(\w+)}", (FOLDER / "phrases.yaml").read_text("utf-8")))
    employer = generator.make_employers(generator.random.Random(0), words, 1)[0]
    facts = generator.draw_facts(
        generator.random.Random(0), words, employer, employer.occupations[0]
    )
    assert asked <= facts.keys() | {"agency", "closing", "home", "size", "year"}
