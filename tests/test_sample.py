"""The shipped samples are what their README says, and the generators can write more."""

import gzip
import itertools
import json
import random
import re
import statistics
from collections import Counter, defaultdict

import py3langid
import pytest
import spacy
from phonenumbers import PhoneNumberMatcher
from test_duplicates import cluster_duplicates

from ojd_daps_language_models.preprocessing.cleaning import clean_text
from ojd_daps_language_models.sample_data import generate_adverts as generator
from ojd_daps_language_models.sample_data import (
    generate_company_descriptions as sentence_generator,
)
from ojd_daps_language_models.sample_data import generate_entities as entity_generator
from ojd_daps_language_models.sample_data import generate_skills as skill_generator
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


def read_sample(task: str) -> list[dict]:
    with gzip.open(FOLDER / f"{task}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def adverts() -> list[dict]:
    return read_sample("mlm")


@pytest.fixture(scope="module")
def texts(adverts) -> list[str]:
    """Texts of adverts, the tiny ones left out."""
    return [a["text"] for a in adverts if a["text"] and len(a["text"].split()) > 20]


@pytest.fixture(scope="module")
def nsp_adverts() -> list[dict]:
    return read_sample("nsp")


@pytest.fixture(scope="module")
def sentences() -> list[dict]:
    return read_sample("company_descriptions")


@pytest.fixture(scope="module")
def annotated() -> list[dict]:
    return read_sample("ner")


@pytest.fixture(scope="module", params=["mlm", "nsp", "company_descriptions", "ner"])
def told(request) -> list[tuple[str, str]]:
    """Employer and text of each row of a sample that has some."""
    column = "sentence" if request.param == "company_descriptions" else "text"
    rows = read_sample(request.param)
    return [(row["employer"] or "", row[column]) for row in rows if row[column]]


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


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (generator, {"mlm.jsonl.gz", "nsp.jsonl.gz"}),
        (sentence_generator, {"company_descriptions.jsonl.gz"}),
        (entity_generator, {"ner.jsonl.gz"}),
        (
            skill_generator,
            {"skill_similarity.jsonl.gz", "skill_similarity_sentences.jsonl.gz"},
        ),
    ],
    ids=["adverts", "sentences", "entities", "skills"],
)
def test_the_samples_are_what_the_generators_write(module, names, tmp_path):
    module.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        # Unpacked, because not every zlib packs the same bytes alike.
        written, shipped = (
            gzip.decompress((folder / name).read_bytes())
            for folder in (tmp_path, FOLDER)
        )
        assert written == shipped, name


def test_samples_are_small():
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.gz")}
    assert max(sizes.values()) < 250_000
    assert sizes["nsp.jsonl.gz"] + sizes["company_descriptions.jsonl.gz"] < 300_000
    assert sizes["ner.jsonl.gz"] < 120_000


def test_no_employer_is_in_two_samples(adverts, nsp_adverts, sentences, annotated):
    samples = [
        {row["employer"] for row in rows} - {None}
        for rows in (adverts, nsp_adverts, sentences, annotated)
    ]
    assert min(map(len, samples)) >= 40
    assert len(set().union(*samples)) == sum(map(len, samples))


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


def test_nothing_is_left_unfilled(told):
    assert not [text for _, text in told if re.search(r"[{}|…]|%s", text)]


def test_no_real_employer_is_named(told):
    for employer, text in told:
        found = REAL_EMPLOYER.search(f"{employer}\n{text}")
        assert not found, (text, found)


def test_addresses_and_numbers_are_reserved_ones(told):
    texts = [text for _, text in told]
    joined = "\n".join(texts)
    hosts = re.findall(r"(?:@|://|www\.)(?!www)([\w-]+(?:\.[\w-]+)+)", joined, re.ASCII)
    numbers = [match.number for match in PhoneNumberMatcher(joined, "GB")]
    words = len(joined.split())
    assert len(hosts) > words / 1000
    assert len(numbers) > words / 1000
    for host in hosts:
        assert re.fullmatch(r"[\w-]+\.example|example\.(com|org|net)", host), host
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


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("phrases.yaml", {"agency", "closing", "home", "size", "year"}),
        ("company_phrases.yaml", {"closing", "home"}),
        ("entity_phrases.yaml", {"closing", "home", *entity_generator.PLACES}),
    ],
)
def test_every_fact_that_phrases_ask_for_is_known(name, known):
    words = read_words()
    asked = set(re.findall(r"{(\w+)}", (FOLDER / name).read_text("utf-8")))
    rng = random.Random(0)
    employer = generator.make_employers(rng, words, 1)[0]
    facts = generator.draw_facts(rng, words, employer, employer.occupations[0])
    assert asked <= facts.keys() | known


# ------------------------------------------------------------- next-sentence prediction


def test_nsp_adverts_have_the_columns_of_the_others(adverts, nsp_adverts):
    assert len(nsp_adverts) == 240
    assert {tuple(advert) for advert in nsp_adverts} == {tuple(adverts[0])}


def test_most_nsp_adverts_have_another_of_their_employer(nsp_adverts):
    sizes = Counter(advert["employer"] for advert in nsp_adverts)
    assert len(sizes) == 46
    assert sum(size > 1 for size in sizes.values()) >= 40
    assert sum(size for size in sizes.values() if size > 1) > 0.95 * 240


def test_nsp_adverts_are_none_of_the_others(texts, nsp_adverts):
    others = [advert["text"] or "" for advert in nsp_adverts]
    longer = [text for text in others if len(text.split()) > 20]
    near = cluster_duplicates([*texts, *longer])["near"]
    assert len(longer) >= 220
    assert not set(near[: len(texts)]) & set(near[len(texts) :])


# ----------------------------------------------------------------- company descriptions

# What only the first and the last part of an advert says.
OPENING = re.compile(
    r"recruiting|vacanc|opportunity|[Oo]pening for|growing|expanding|^Are you|^Join"
    r"|This post has|last advertised|^In this (role|post) you"
)
CLOSING = re.compile(
    r"closing date|applications|National Insurance|DBS check|right to (work|live)"
    r"|@|www\.|agencies|[Jj]ob reference|telephone [A-Z]"
)


@pytest.fixture(scope="module")
def labelled(sentences) -> list[dict]:
    """Sentences with words and one of the two labels."""
    return [s for s in sentences if s["label"] in (0, 1) and s["sentence"]]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_a_fifth_of_the_sentences_describe_the_company(labelled):
    assert len(labelled) >= 1450
    share = statistics.mean(sentence["label"] for sentence in labelled)
    assert 0.18 < share < 0.23


def test_employers_of_every_size_have_both_classes(labelled):
    adverts, labels = defaultdict(set), defaultdict(set)
    for sentence in labelled:
        if sentence["employer"]:
            adverts[sentence["employer"]].add(sentence["advert"])
            labels[sentence["employer"]].add(sentence["label"])
    assert {len(ids) for ids in adverts.values()} == {2, 3, 4, 5, 8}
    assert len(labels) == 75
    assert all(classes == {0, 1} for classes in labels.values())


def test_few_sentences_resemble_one_another(labelled):
    texts = [sentence["sentence"] for sentence in labelled]
    assert cluster_duplicates(texts, 0.8)["near"].nunique() >= 1400


def test_sentences_stand_in_the_order_of_their_advert(sentences):
    ids = [sentence["id"] for sentence in sentences]
    assert ids == sorted(set(ids))
    adverts = [s["advert"] for s in sentences if s["advert"]]
    runs = [advert for advert, _ in itertools.groupby(adverts)]
    assert len(runs) == len(set(runs)) == 270
    assert runs == sorted(runs)
    in_order = turned = 0
    for advert in set(runs):
        lines = [s["sentence"] for s in sentences if s["advert"] == advert]
        for first, then in itertools.combinations(lines, 2):
            in_order += bool(OPENING.search(first) and CLOSING.search(then))
            turned += bool(CLOSING.search(first) and OPENING.search(then))
    assert in_order >= 15
    assert not turned


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    ("is_so", "least", "most"),
    [
        pytest.param(lambda s: len(s.split()) > 60, 5, 12, id="very long"),
        pytest.param(lambda s: len(s.split()) == 1, 5, 12, id="one word"),
        pytest.param(lambda s: "Â" in s, 3, 12, id="mojibake"),
        pytest.param(lambda s: bool(re.search(r"&\w+;", s)), 3, 12, id="entities"),
    ],
)
def test_either_class_has_odd_sentences(labelled, label, is_so, least, most):
    found = [s for s in labelled if s["label"] == label and is_so(s["sentence"])]
    assert least <= len(found) <= most


def test_damaged_sentences_can_be_repaired(labelled):
    texts = [clean_text(sentence["sentence"]) for sentence in labelled]
    assert not [text for text in texts if re.search(r"[ÂÃâ€\xa0]|&\w+;", text)]


@pytest.mark.parametrize(
    ("is_so", "least", "most"),
    [
        pytest.param(lambda s: s["label"] == "unsure", 8, 18, id="unsure"),
        pytest.param(lambda s: s["label"] is None, 4, 10, id="no label"),
        pytest.param(lambda s: not s["sentence"].strip(), 4, 10, id="no sentence"),
        pytest.param(
            lambda s: s["advert"] and not s["employer"], 6, 14, id="only an advert"
        ),
        pytest.param(lambda s: not s["advert"], 2, 3, id="no advert, so no employer"),
    ],
)
def test_some_rows_lack_something(sentences, is_so, least, most):
    found = [sentence for sentence in sentences if is_so(sentence)]
    assert least <= len(found) <= most
    assert not [s for s in sentences if s["employer"] and not s["advert"]]


def test_some_sentences_are_labelled_twice_or_thrice(labelled):
    given = defaultdict(list)
    for sentence in labelled:
        given[sentence["sentence"]].append(sentence["label"])
    kinds = Counter(tuple(sorted(labels)) for labels in given.values())
    copies = kinds.pop((0, 0)) + kinds.pop((1, 1))
    assert 0.008 < copies / len(labelled) < 0.012
    assert min(kinds.pop((0, 1)), kinds.pop((0, 0, 1)), kinds.pop((0, 1, 1))) >= 3
    assert set(kinds) == {(0,), (1,)}


def test_no_word_gives_the_class_away(labelled):
    """The best rule of one word, that it says yes or no, is a poor one."""
    of_company = [words_of(s["sentence"]) for s in labelled if s["label"] == 1]
    of_others = [words_of(s["sentence"]) for s in labelled if s["label"] == 0]
    right = Counter(word for words in of_company for word in words)
    wrong = Counter(word for words in of_others for word in words)
    for word in right | wrong:
        yes, no = right[word], wrong[word]
        absent, others = len(of_company) - yes, len(of_others) - no
        assert 2 * yes / (yes + no + len(of_company)) < 0.5, word
        assert 2 * absent / (absent + others + len(of_company)) < 0.5, word


def test_the_classes_borrow_each_others_words(labelled):
    ours = {"we", "our", "us"}
    of_jobs = {"you", "your", "trains", "training", "apprentices", "apply", "salary"}
    of_jobs |= {"pay", "paid", "holiday", "pension", "hours", "experience", "job"}
    company = [words_of(s["sentence"]) for s in labelled if s["label"] == 1]
    others = [words_of(s["sentence"]) for s in labelled if s["label"] == 0]
    assert statistics.mean(bool(words & ours) for words in others) > 0.4
    assert statistics.mean(bool(words & of_jobs) for words in company) > 0.12


def test_there_are_many_phrases_of_either_class():
    phrases = sentence_generator.read_company_phrases()
    for label in ("company", "other"):
        assert len(phrases[label]) >= 6
        assert sum(map(len, phrases[label].values())) >= 90
        sectors = read_words()["sectors"].keys() - {"agency"}
        assert phrases[f"{label} by sector"].keys() == sectors


def test_a_seed_decides_all_sentences():
    first = list(sentence_generator.generate_sentences(20, seed=3))
    assert first == list(sentence_generator.generate_sentences(20, seed=3))
    assert first != list(sentence_generator.generate_sentences(20, seed=4))


@pytest.mark.parametrize("employers", [0, 1, 300])
def test_sentences_of_any_number_of_employers(employers):
    sentences = list(sentence_generator.generate_sentences(employers))
    assert len({s["employer"] for s in sentences} - {None}) == employers
    assert len({s["id"] for s in sentences}) == len(sentences)


# ----------------------------------------------------------------------- named entities

GOOD_LABELS = {"SKILL", "MULTISKILL", "EXPERIENCE", "BENEFIT"}


@pytest.fixture(scope="module")
def entities(annotated) -> list[dict]:
    """Each span with what is wrong with it, alone (None: nothing), and its advert."""
    tokenizer = spacy.blank("en")
    found = []
    for advert in annotated:
        text = advert["text"] or ""
        tokens = tokenizer.make_doc(text)
        for span in advert["spans"]:
            fault = None
            if span["label"] not in GOOD_LABELS:
                fault = "label"
            elif span["end"] > len(text):
                fault = "past the end"
            elif span["end"] <= span["start"]:
                fault = "turned"
            elif tokens.char_span(span["start"], span["end"]) is None:
                fault = "inside a word"
            phrase = text[span["start"] : span["end"]]
            found.append(span | {"fault": fault, "advert": advert, "phrase": phrase})
    return found


def overlapping(spans: list[dict]) -> list[tuple[dict, dict]]:
    pairs = itertools.combinations(sorted(spans, key=lambda s: s["start"]), 2)
    return [(left, right) for left, right in pairs if right["start"] < left["end"]]


def test_annotated_adverts_have_the_columns_of_prodigy(annotated):
    columns = ("id", "text", "employer", "advert", "spans", "answer")
    assert {tuple(advert) for advert in annotated} == {columns}
    assert len(annotated) == 216
    assert len({advert["employer"] for advert in annotated}) == 63
    assert all(advert["advert"] == advert["id"] for advert in annotated)


@pytest.mark.parametrize(
    ("is_so", "count"),
    [
        pytest.param(lambda a: a["answer"] == "reject", 4, id="reject"),
        pytest.param(lambda a: a["answer"] == "ignore", 2, id="ignore"),
        pytest.param(lambda a: not a["text"], 2, id="no text"),
        pytest.param(lambda a: a["text"] and not a["spans"], 4, id="no span"),
    ],
)
def test_some_annotated_adverts_are_of_no_use(annotated, is_so, count):
    assert sum(bool(is_so(advert)) for advert in annotated) == count


def test_annotated_adverts_have_planted_duplicates_only(annotated):
    texts = [advert["text"] for advert in annotated if advert["text"]]
    assert len(texts) - len(set(texts)) == 6
    assert len(texts) - cluster_duplicates(texts)["near"].nunique() == 6 + 6
    assert len(annotated) - len({advert["id"] for advert in annotated}) == 1


def test_annotated_spans_are_wrong_as_often_as_the_readme_says(entities):
    faults = Counter(span["fault"] for span in entities)
    assert faults.pop(None) > 1500
    assert faults == {"inside a word": 12, "label": 6, "past the end": 3, "turned": 2}
    assert {s["label"] for s in entities if s["fault"] == "label"} == {"SKIL", "OTHER"}


def test_other_spans_are_tokens_that_overlap_in_eight_adverts(entities):
    spans = defaultdict(list)
    for span in entities:
        if span["fault"] not in ("past the end", "turned"):
            spans[id(span["advert"])].append(span)
    pairs = [pair for listed in spans.values() for pair in overlapping(listed)]
    assert len(pairs) == 8
    assert all(right["end"] == left["end"] for left, right in pairs)
    assert all(right["label"] == "SKILL" for _, right in pairs)


def test_annotated_adverts_are_short_and_long(annotated, entities):
    lengths = [len(a["text"].split()) for a in annotated if a["text"]]
    assert min(lengths) >= 60
    assert max(lengths) <= 260
    # With 1.5 WordPiece tokens a word: longer than 128 and than 256.
    assert 0.3 < statistics.mean(length > 86 for length in lengths) < 0.45
    assert sum(length > 172 for length in lengths) >= 12
    spans = Counter(id(span["advert"]) for span in entities)
    assert min(spans.values()) >= 6
    assert max(spans.values()) <= 15


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        pytest.param(r"[a-z]\.[A-Z][a-z]", 15, id="sentences glued, as in year.We"),
        pytest.param(r"\.  ", 10, id="double blanks"),
        pytest.param("\u00a0", 5, id="no-break spaces"),
        pytest.param("\u2019", 30, id="curly apostrophes"),
        pytest.param(r"^[•*·\u2013▪✓\uf0b7-] ?\w", 80, id="bullets"),
        pytest.param(r"[\w.-]+@[\w.-]+", 20, id="e-mail addresses"),
        pytest.param(r"\d{3,4}\)?[ -]\d{3}", 30, id="telephone numbers"),
    ],
)
def test_annotated_adverts_have_each_kind_of_mess(annotated, pattern, least):
    texts = [advert["text"] or "" for advert in annotated]
    assert sum(bool(re.search(pattern, t, re.MULTILINE)) for t in texts) >= least
    assert not [text for text in texts if re.search(r"</?\w+|&\w+;|[\[\]]", text)]


def test_every_label_is_frequent(entities):
    labels = Counter(span["label"] for span in entities)
    assert all(labels[label] >= 100 for label in GOOD_LABELS)


def test_a_list_of_known_phrases_is_not_enough(entities, annotated):
    """Many phrases of an employer are new, and known ones stand outside of spans."""
    sound = [span for span in entities if span["fault"] is None]
    employers = defaultdict(set)
    for span in sound:
        key = (span["phrase"].lower(), span["label"])
        employers[key].add(span["advert"]["employer"])
    known = [
        len(employers[span["phrase"].lower(), span["label"]]) > 1 for span in sound
    ]
    assert 0.35 < statistics.mean(known) < 0.65
    for word in ("retail", "training", "experience", "pension"):
        inside = sum(word in span["phrase"].lower() for span in sound)
        everywhere = sum((a["text"] or "").lower().count(word) for a in annotated)
        assert inside >= 2, word
        assert everywhere - inside >= 2, word


def test_a_seed_decides_all_annotations():
    first = list(entity_generator.generate_annotations(8, seed=3))
    assert first == list(entity_generator.generate_annotations(8, seed=3))
    assert first != list(entity_generator.generate_annotations(8, seed=4))


@pytest.mark.parametrize("employers", [0, 1, 90])
def test_annotations_of_any_number_of_employers(employers):
    rows = list(entity_generator.generate_annotations(employers))
    names = {row["employer"] for row in rows}
    assert employers <= len(names) <= 1.2 * employers + 1


# ------------------------------------------------------------------------------ skills


@pytest.fixture(scope="module")
def skill_pairs() -> list[dict]:
    return read_sample("skill_similarity")


def test_every_skill_has_three_to_six_other_labels_some_of_them_shared(skill_pairs):
    usable = [
        pair
        for pair in skill_pairs
        if pair["skill"] and pair["other"] and not pair["other"].endswith("(copy)")
    ]
    labels, owners = defaultdict(set), defaultdict(set)
    for pair in usable:
        if pair["skill"].casefold() != pair["other"].casefold():
            labels[pair["skill"]].add(pair["other"])
            owners[pair["other"]].add(pair["skill"])
    assert len(labels) == 300
    assert {len(others) for others in labels.values()} <= {3, 4, 5, 6}
    assert sum(len(skills) > 1 for skills in owners.values()) == 13
    assert not set(owners) & set(labels)


def test_a_few_pairs_cannot_be_used(skill_pairs):
    assert len(skill_pairs) == 1229
    assert sum(pair["skill"] is None for pair in skill_pairs) == 5
    assert sum(pair["other"] == "" for pair in skill_pairs) == 5
    assert len(skill_pairs) - len({pair["id"] for pair in skill_pairs}) == 5
    named = [(pair["skill"] or "", pair["other"]) for pair in skill_pairs]
    assert sum(one.casefold() == other.casefold() for one, other in named) == 5


def test_advert_sentences_name_the_skill_by_one_of_its_labels(skill_pairs):
    labels = defaultdict(set)
    for pair in skill_pairs:
        labels[pair["skill"]] |= {pair["skill"], pair["other"]}
    mentions = read_sample("skill_similarity_sentences")
    known = [mention for mention in mentions if mention["label"] in labels]
    assert (len(mentions), len(known)) == (200, 186)
    for mention in known:
        assert any(
            label and label in mention["sentence"] for label in labels[mention["label"]]
        )
    assert sum(row["label"] == "LABEL NOT PRESENT" for row in mentions) == 10


def test_cv_jargon_follows_rules_but_shares_no_long_word_with_the_name():
    """A lookup of whole words must not solve it."""
    words = skill_generator.read_skill_words()
    short = [object_[2] for object_ in words["objects"]]
    assert len(short) == len(set(short)) == 50
    for name, _, brief, verbs in words["objects"]:
        assert set(verbs) <= set(words["actions"]) and len(verbs) == 6
        long = {word for word in name.split() if len(word) > 5}
        assert not long & set(brief.split())
