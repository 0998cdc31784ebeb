"""Cleaning adverts: what goes, what stays, and that doing it twice changes nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing.cleaning import clean_text

PIECES = [
    *("<p>", "</p>", "<br/>", "<li>", "</li>", "<b>", "</b>", "<", ">", "<st", "rong>"),
    *("<script>", "</script>", "<!--", "-->", "<ORGANIZATION>", "x < y", "C++ <3"),
    *("&", ";", "&amp;", "amp;", "&lt;", "lt;", "b", "&gt;", "&#38;", "&nbsp", "&#0;"),
    *(" ", "\n", "\t", "\r\n", "\xa0", "\u200b", "\x00", "\x85", "\u2028", "\ud800"),
    *("•", "- ", "-", "* ", "*", "·", "o ", "---", "\uf0b7", "Sales- Bar- Till- Shop"),
    *("skillsBe", "year.We", "JavaScript", "iOS", "design", "The", "A", "PhD", "SQL"),
    *(".", ":", ")", "…", "'s", "2014", "None", "nan", "ApexApex", "[EMAIL]", "é", "Ж"),
    *(
        "â€™",
        "Ã©",
        "Â ",
        "Â£",
        "\x80",
        "me@firm.com",
        "https://x.com/JobSearch",
        "www.",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text())
@settings(max_examples=1000, deadline=None)
def test_cleaning_twice_changes_nothing(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert "\n\n\n" not in cleaned and "  " not in cleaned
    cleaned.encode()  # no lone surrogates are left for a tokenizer to fail on


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("<ul><li>Python</li><li>SQL</li></ul>", "- Python\n- SQL"),
        ("<li><p>Python</p></li>\n<li>\n<b>SQL</b></li>", "- Python\n- SQL"),
        ("One<br>Two<BR />Three", "One\nTwo\nThree"),
        ("<p>One</p><p class='a > b'>Two</p>", "One\n\nTwo"),
        ("<p>We are\n looking for you</p>", "We are looking for you"),
        ("<td>Salary</td><td>&pound;20k</td>", "Salary £20k"),
        ("<b>B</b>old, H<sub>2</sub>O", "Bold, H2O"),
        ("a<script>if (x < 1) {}</script>b<style>p {}</style>c<!-- d -->", "a b c"),
        ("R&amp;D, R&D, Q&A; fish &amp;amp; chips", "R&D, R&D, Q&A; fish & chips"),
        ("&amp;lt;b&amp;gt;bold&amp;lt;/b&amp;gt;", "bold"),
        ("a&nbsp;b&nbspc &#163;5 &#x2019;", "a b c £5 \u2019"),
        ("see ?a=1&region=2&copy=3", "see ?a=1&region=2&copy=3"),
        ("At <ORGANIZATION>, in <LOCATION> <ADDRESS>", None),
        ("C++ <3, x < y, 5<6 and a <b", None),
        ("<not a tag> </neither> <bold>", None),
    ],
)
def test_markup(text, cleaned):
    assert clean_text(text) == (text if cleaned is None else cleaned)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Itâ€™s Â£30,000", "It\u2019s £30,000"),
        ("Ã‰lan cafÃ©", "Élan café"),
        ("Élan café — “déjà vu”… £5", None),
        ("a\xa0b\u2003c\td", "a b c d"),
        ("zero\u200bwidth\ufeff soft\xadhyphen", "zerowidth softhyphen"),
        ("bell\x07 null\x00 \ud800", "bell null"),
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne"),
        ("  a  b \n\n\n\n c  ", "a b\n\nc"),
        ("None of it is nan", None),
        ("", None),
    ],
)
def test_characters(text, cleaned):
    assert clean_text(text) == (text if cleaned is None else cleaned)


@pytest.mark.parametrize(
    "line",
    [
        *("- Python", "• Python", "•Python", " · Python", "* Python", "*Python"),
        *(
            "\u2013 Python",
            "—Python",
            "-Python",
            "\uf0b7 Python",
            "o Python",
            "§ Python",
        ),
        *(
            "● • Python",
            "-\n\nPython",
            "•\n Python",
            "✓ Python",
            "➢\tPython",
            "» Python",
        ),
    ],
)
def test_bullets_of_all_shapes_become_one(line):
    assert clean_text(f"Skills\n{line}\nEnd") == "Skills\n- Python\nEnd"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Needed:• SQL• R •Go", "Needed:\n- SQL\n- R\n- Go"),
        ("Role:* As a clerk* Works well", "Role:\n- As a clerk\n- Works well"),
        ("skills.- Works well", "skills.\n- Works well"),
        ("Sales- Bar work- Till- Shop", "Sales\n- Bar work\n- Till\n- Shop"),
        ("Hours Mon- Fri, -5 degrees, 2 * 3", None),
        ("well-paid, part-time \u2013 3-5 days", None),
        ("About\n-----\nUs\n=====", "About\n\nUs"),
    ],
)
def test_bullets_within_a_line(text, cleaned):
    assert clean_text(text) == (text if cleaned is None else cleaned)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("strong skillsBe a leader", "strong skills\nBe a leader"),
        ("last year.We are", "last year. We are"),
        ("Apply now!Why us?Because", "Apply now! Why us? Because"),
        ("in 2014.Working ASAP.The pay", "in 2014. Working ASAP. The pay"),
        ("Needed:Python", "Needed: Python"),
        ("a driver (essential)The pay", "a driver (essential)\nThe pay"),
        ("in the teamRequirementsMust drive", "in the team\nRequirements\nMust drive"),
        ("Job OverviewAcme is", "Job Overview\nAcme is"),
        ("good PowerPointKnowledge of R", "good PowerPoint\nKnowledge of R"),
        ("app designiOS knowledge", "app design\niOS knowledge"),
        ("some SQLStrong will", "some SQL\nStrong will"),
        ("About AcmeAcme makes", "About Acme\nAcme makes"),
        ("with usWe pay", "with us\nWe pay"),
        ("ends in 2016Apply", "ends in 2016\nApply"),
    ],
)
def test_glued_words_are_parted(text, cleaned):
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "JavaScript, TypeScript, LinkedIn, PowerPoint, GitHub, PostgreSQL, MySQL",
        "McDonald's, McKinsey and DeVito; HoneyBook, TransferWise, KPMGs, MSc, PhD",
        "iOS, macOS, iPhone, eBay, eCommerce, jQuery, SaaS, CVs, URLs, VMware, IPv4",
        "Node.js, ASP.NET, Asp.Net, VB.NET, Socket.IO, .NET, C#/.NET, Ph.D",
        "e.g. this, i.e. that, U.S. Army, U.S.Army, J.Smith, a.m., 3.5, v2.0, 1,000.50",
        "https://firm.com/JobSearch?a=We.Are and www.Firm.com/AboutUs",
        "First.Last@Firm.com, jobs@firm.co.uk, @TransferWise, #HiringNow",
        "[EMAIL], [PHONE] or [URL]: [NATIONAL_INSURANCE]",
        "1000Mbit, 401k, B2B, 24/7, 9am-5pm, 12:30-13:30, £30,000-£35,000",
    ],
)
def test_names_addresses_and_numbers_stay(text):
    assert clean_text(text) == text


def test_paragraphs_survive():
    text = "Who we are\n\nA firm.\nIn Leeds.\n\nWhat you do\n\n- Sell"
    assert clean_text(text) == text


@pytest.mark.parametrize(
    "unit", ["<b<b>>", "&amp;", "<!--", "<script>", "aB", "• ", "<a '", "Ã©", "x@", " "]
)
def test_long_hostile_texts_end(unit):
    assert len(clean_text(unit * 50_000)) <= 50_000 * len(unit) * 2


def test_markup_nested_too_deep_ends_in_nothing_that_is_a_tag():
    text = "<b" * 30 + ">" * 30
    assert not set("<>") & set(clean_text(text))
