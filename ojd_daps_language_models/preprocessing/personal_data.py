"""Personal data in job adverts, replaced by placeholders and counted by kind.

What is known by its shape (e-mail, phone, web address, postcode, national insurance
number) needs no model; people's names need a spaCy pipeline that recognises them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING

from phonenumbers import Leniency, PhoneNumberMatcher

from ojd_daps_language_models.preprocessing.sentences import (
    DEFAULT_PIPELINE,
    cut_text,
    forget_rare_words,
    import_spacy,
    load_pipeline,
)

if TYPE_CHECKING:
    from spacy import Language
    from spacy.tokens import Doc

_PLACEHOLDERS = {
    "email": "[EMAIL]",
    "phone": "[PHONE]",
    "url": "[URL]",
    "postcode": "[POSTCODE]",
    "national_insurance": "[NATIONAL_INSURANCE]",
}
KINDS = (*_PLACEHOLDERS, "name")  # of what is counted
_PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")
_REPLACED = re.compile("|".join(map(re.escape, _PLACEHOLDERS.values())))

# --- E-mail and web addresses ---------------------------------------------------------

# Top-level domains that adverts have, without those that are words (in, it).
_TOP = "com|org|net|edu|gov|info|biz|jobs|careers|co|io|ai|eu|uk|ie|de|fr|nl|ca|au|nz"
_LABEL = r"[^\W_][\w-]{0,62}"
_LOCAL = r"(?<![A-Za-z0-9])[A-Za-z0-9][\w.+'-]{0,63}+"
_EMAIL = re.compile(
    # A capital ends the domain: `jobs@firm.comAbout us` lost a line break.
    rf"{_LOCAL}@(?:{_LABEL}\.){{1,8}}"
    rf"(?:[a-z]{{2,24}}|[A-Z]{{2,24}}|(?:{_TOP.title()})(?![a-z]))"
)
_DISGUISE = re.compile(r"[(\[{<] ?(?:at|dot) ?[)\]}>]", re.IGNORECASE)
_AT = r"(?:@| ?[(\[{<] ?at ?[)\]}>] ?)"
_DOT = r"(?:\.| ?[(\[{<] ?dot ?[)\]}>] ?| dot )"
_DISGUISED_EMAIL = re.compile(
    rf"{_LOCAL}(?:{_AT}{_LABEL}(?:{_DOT}{_LABEL}){{0,4}}{_DOT}"
    rf"| at {_LABEL}(?: dot {_LABEL}){{0,4}} dot )(?:{_TOP})\b",
    re.IGNORECASE,
)
# What goes on in an address, but no placeholder of what stood in it.
_GOES_ON = r"(?:(?!\[(?-i:[A-Z_]+)\])[^\s<>\"])*"
_URL = re.compile(
    r"(?:(?:https?|ftp)://|\bwww\.[\w-]+\.)"
    rf"{_GOES_ON}[^\s<>\".,;:!?()\[\]{{}}'\u2019\u201d]",
    re.IGNORECASE,
)
_DOMAIN = r"(?:[a-z0-9][a-z0-9-]{0,62}\.){1,8}"
# `jane @ firm.org`; but in `Engineer @ Booking.com` that is a name.
_SPACED_EMAIL = re.compile(rf"{_LOCAL} ?@ ?{_DOMAIN}(?:{_TOP})\b")
_TOP_DOMAIN = re.compile(rf"\.(?:{_TOP})\b", re.IGNORECASE)
# `firm.co.uk` and `Firm.com/jobs`; but `Amazon.com` is a name, `asp.net` a tool.
_BARE_URL = re.compile(
    r"(?<![\w@.-])(?!(?i:ado|asp|draw|socket|vb)\.)"
    rf"(?:{_DOMAIN}(?:{_TOP})\b|(?i:{_DOMAIN}(?:{_TOP}))(?=/\w))(?![@-])"
    rf"(?:/{_GOES_ON}[\w/])?"
)
# What some publishers of adverts put in the place of personal data.
_PSEUDONYMS = {
    kind: re.compile(rf"#{kind.upper()}_[0-9a-f]{{32,64}}#")
    for kind in ("email", "phone", "url")
}

# --- Numbers --------------------------------------------------------------------------

_AREAS = """
    AB AL B BA BB BD BF BH BL BN BR BS BT BX CA CB CF CH CM CO CR CT CV CW DA DD DE
    DG DH DL DN DT DY E EC EH EN EX FK FY G GL GU GY HA HD HG HP HR HS HU HX IG IM
    IP IV JE KA KT KW KY L LA LD LE LL LN LS LU M ME MK ML N NE NG NN NP NR NW OL OX
    PA PE PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP SR SS ST SW SY TA TD TF
    TN TQ TR TS TW UB W WA WC WD WF WN WR WS WV YO ZE"""
_LONG_AREAS = [area for area in _AREAS.split() if len(area) == 2]
_POSTCODE_END = re.compile(r"[0-9][ABD-HJLNP-UW-Zabd-hjlnp-uw-z]{2}\b")
_INWARD = "[0-9][ABD-HJLNP-UW-Z]{2}"
_POSTCODE = re.compile(
    r"\b(?=[A-Za-z]{1,2}[0-9])(?:"
    rf"(?:{'|'.join(_AREAS.split())})[0-9][0-9A-Z]? ?{_INWARD}"
    # In small letters, "b2 3rd" is none.
    rf"|(?i:(?:{'|'.join(_LONG_AREAS)})[0-9][0-9A-Z]? (?!.(?:nd|rd|st|th)){_INWARD})"
    r")\b"
)
_NATIONAL_INSURANCE_END = re.compile(r"[0-9][ -]?[A-D]\b")
_NATIONAL_INSURANCE = re.compile(
    # QQ, which nobody has, stands in examples.
    r"\b(?:QQ|(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z])"
    r"(?:[ -]?[0-9]{2}){3}[ -]?[A-D]\b"
)
_DASHES = r"\u2010-\u2015-"
# Digits and what stands between those of a phone number: only these runs are given to
# the phonenumbers library, which is too slow to search whole adverts.
_DIGITS = re.compile(
    r"[+(0-9](?<![\w£$€#+].)(?<![0-9][.,].)"
    # Behind a dash or a slash as in `Tel:-0161 496 0000`, `Mobile/07700 900123`.
    r"(?:(?<![\w£$€#+][/-].)|(?<=(?i:tel|one|all|ile|mob|fax)[/-].))"
    rf"[0-9 ().+/{_DASHES}]{{5,40}}[0-9]"
    r"(?:,? ?(?:ext|extn|extension|x)\b\.? ?[0-9]{1,5})?"
)
_REFERENCE = re.compile(
    r"\b(?:(?:isbn|ref|reference|req|requisition|vat)(?: (?:code|id|no|number))?"
    r"|(?:account|charity|company|job|staff|vacancy) (?:code|id|no|number))\b[ .:#]*$",
    re.IGNORECASE,
)
# These too are replaced where the library knows that nobody can have the number, as
# with 07700 900123: it is one digit off, or an example.
_LIKELY_PHONE = re.compile(r"\+|\(?0[1-9]")
_DATES = re.compile(
    r"\b[0-9]{1,2}([/.-])[0-9]{1,2}\1(?:[0-9]{4}|[0-9]{2})\b"
    rf"|\b(?:19|20)[0-9]{{2}}\b[ /{_DASHES}]+(?:19|20)[0-9]{{2}}\b"
)
_DATE_BEFORE = re.compile(
    r"\b(?:[0-9]{1,2}[/.-][0-9]{1,2}[/.-])?(?:19|20)[0-9]{2}\b"
    rf"[ ./{_DASHES}]*"
)


def replace_personal_data(
    text: str, phone_regions: Sequence[str] = ("GB",)
) -> tuple[str, dict[str, int]]:
    """Replace addresses and numbers by placeholders; a second time changes nothing.

    Args:
        text: cleaned advert.
        phone_regions: ISO 3166 codes of the countries whose national phone numbers are
            known; numbers with a country code (`+49 ...`) are found anyway.

    Returns:
        The text, and how often each of `email`, `phone`, `url`, `postcode` and
        `national_insurance` was replaced.
    """
    counts = dict.fromkeys(_PLACEHOLDERS, 0)
    before = None
    while text != before:  # a replacement can lay bare another number beside it
        before = text
        for kind, pattern in _find_patterns(text):
            text, number = pattern.subn(_PLACEHOLDERS[kind], text)
            counts[kind] += number
        text, number = _replace_phones(text, phone_regions)
        counts["phone"] += number
        if text != before:
            text = _REPLACED.sub(_part_from_words, text)
    return text, counts


def _find_patterns(text: str) -> Iterator[tuple[str, re.Pattern]]:
    """Yield kind and pattern of what a cheap look says may be in the text."""
    lower = text.lower()
    if "#" in text:
        yield from _PSEUDONYMS.items()
    if "://" in text or "www." in lower:
        yield "url", _URL
    if "@" in text:
        yield "email", _EMAIL
        yield "email", _SPACED_EMAIL
    if " dot " in lower or _DISGUISE.search(text):
        yield "email", _DISGUISED_EMAIL
    if _TOP_DOMAIN.search(text):
        yield "url", _BARE_URL
    if _NATIONAL_INSURANCE_END.search(text):
        yield "national_insurance", _NATIONAL_INSURANCE
    if _POSTCODE_END.search(text):
        yield "postcode", _POSTCODE


def _part_from_words(match: re.Match) -> str:
    """Set a placeholder off from words glued to it; a capital begins a new line."""
    before = match.string[max(match.start() - 1, 0) : match.start()]
    after = match.string[match.end() : match.end() + 1]
    space = "\n" if after.isupper() else " " if after.isalnum() else ""
    return (" " if before.isalnum() else "") + match[0] + space


def _replace_phones(text: str, regions: Sequence[str]) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match) -> str:
        nonlocal count
        digits, start = match[0], match.start()
        if _REFERENCE.search(text, max(start - 40, 0), start):
            return digits
        for number in _find_phones(digits, tuple(regions)):
            count += digits.count(number)
            digits = digits.replace(number, _PLACEHOLDERS["phone"])
        return digits

    return _DIGITS.sub(replace, text), count


@lru_cache(4096)  # one employer's adverts share a number
def _find_phones(digits: str, regions: tuple[str, ...]) -> list[str]:
    """Phone numbers in a run of digits, as they are written, the longest first."""

    def match(leniency: int) -> set[str]:
        return {
            found.raw_string
            for region in regions
            for found in PhoneNumberMatcher(digits, region, leniency)
        }

    if _count_digits(digits) < 7:
        return []
    numbers = match(Leniency.VALID)
    if not numbers and _LIKELY_PHONE.match(digits) and not _DATES.search(digits):
        numbers = {
            number for number in match(Leniency.POSSIBLE) if _count_digits(number) >= 10
        }
    pieces = _DATE_BEFORE.split(digits)
    if not numbers and len(pieces) > 1:  # `28/11/2023 - 0161 496 0000`
        found = (_find_phones(piece, regions) for piece in pieces)
        numbers = set(chain.from_iterable(found))
    return sorted(numbers, key=len, reverse=True)


def _count_digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def load_name_pipeline(name: str | None) -> "Language | None":
    """Load the spaCy pipeline that finds people's names, with nothing else in it.

    Args:
        name: installed package or folder; `auto` means en_core_web_sm, None that names
            stay.

    Returns:
        The pipeline; None where names stay, and for `auto` where en_core_web_sm is not
        installed.

    Raises:
        ValueError: there is no such pipeline, or it finds no entities.
    """
    if not name:
        return None
    spacy = import_spacy(with_torch=name != "auto")
    if name == "auto":
        if not spacy.util.is_package(DEFAULT_PIPELINE):
            return None
        name = DEFAULT_PIPELINE
    return load_pipeline(name, ("ner", "entity_ruler"))


def replace_names(
    texts: Iterable[str], nlp: "Language", batch_size: int = 64
) -> Iterator[tuple[str, int]]:
    """Replace people's names by `[NAME]`.

    Args:
        texts: cleaned adverts.
        nlp: pipeline from `load_name_pipeline`.
        batch_size: adverts that are given to the pipeline together.

    Yields:
        For each advert its text, and how many names were replaced.
    """
    texts = iter(texts)
    while batch := list(islice(texts, batch_size)):
        pieces = [
            (piece, i) for i, text in enumerate(batch) for piece in cut_text(text)
        ]
        replaced, counts = [""] * len(batch), [0] * len(batch)
        with forget_rare_words(nlp):
            for doc, i in nlp.pipe(pieces, as_tuples=True):
                text, count = _replace_people(doc)
                replaced[i] += text
                counts[i] += count
        yield from zip(replaced, counts, strict=True)


def _replace_people(doc: "Doc") -> tuple[str, int]:
    text, parts, end = doc.text, [], 0
    placeholders = [match.span() for match in _PLACEHOLDER.finditer(text)]
    for entity in doc.ents:
        start, stop = entity.start_char, entity.end_char
        within = any(start < last and first < stop for first, last in placeholders)
        if entity.label_ in ("PERSON", "PER") and not within:
            parts += text[end:start], "[NAME]"
            end = stop
    return "".join(parts) + text[end:], len(parts) // 2
