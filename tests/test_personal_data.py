"""Personal data goes, with a count; salaries, dates and references stay."""

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing.personal_data import (
    load_name_pipeline,
    replace_names,
    replace_personal_data,
)

PIECES = [
    *("a", " ", "\n", ".", "@", "/", "-", "(", ")", "+", "0", "7", "44", "1", "x", "A"),
    *(
        "john@firm.com",
        " at ",
        " dot ",
        "(at)",
        "[dot]",
        "firm",
        ".com",
        ".co.uk",
        "The",
    ),
    *("https://", "www.", "020 7946 0958", "07700 900123", "0161-496-0000", "2014"),
    *(
        "SW1A",
        " 1AA",
        "AB",
        "12",
        "34",
        "56",
        "C",
        "[EMAIL]",
        "[PHONE]",
        "[URL]",
        "#URL_",
    ),
    *("£25,000", "0" * 32, "#", "ext 1", "ref "),
]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join) | st.text())
@settings(max_examples=500, deadline=None)
def test_replacing_twice_changes_nothing(text):
    replaced, counts = replace_personal_data(text)
    assert replace_personal_data(replaced) == (replaced, dict.fromkeys(counts, 0))
    assert any(counts.values()) or replaced == text


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("Mail jane.o'neil+jobs@firm.co.uk.", "Mail [EMAIL]."),
        ("jobs@firm.comAbout us", "[EMAIL]\nAbout us"),
        ("JOBS@FIRM.CO.UK or Jobs@Firm.Com", "[EMAIL] or [EMAIL]"),
        ("Jane.Smith@Firm.Co.Uk, jane@Nhs.Net", "[EMAIL], [EMAIL]"),
        ("jane.smith @ nhs.net, jobs@ firm.co.uk.", "[EMAIL], [EMAIL]."),
        ("Mail jobs@firm.com.Candidates must", "Mail [EMAIL].Candidates must"),
        ("jane@firm.co.uk.Contact us", "[EMAIL].Contact us"),
        ("jane (at) firm dot com", "[EMAIL]"),
        ("jane[at]firm.com, jane at firm dot co dot uk", "[EMAIL], [EMAIL]"),
    ],
)
def test_emails(text, replaced):
    text, counts = replace_personal_data(text)
    assert text == replaced
    assert counts["email"] == sum(counts.values()) == replaced.count("[EMAIL]")


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("see https://firm.com/a?b=c#d.", "see [URL]."),
        ("(www.Firm.com), HTTP://FIRM.COM", "([URL]), [URL]"),
        (
            "firm.co.uk, careers.firm.org/jobs/1 and Firm.com/jobs",
            "[URL], [URL] and [URL]",
        ),
        (f"today!#URL_{'0af1' * 16}#About", "today![URL]\nAbout"),
    ],
)
def test_web_addresses(text, replaced):
    text, counts = replace_personal_data(text)
    assert text == replaced
    assert counts["url"] == sum(counts.values()) == replaced.count("[URL]")


@pytest.mark.parametrize(
    "phone",
    [
        *("020 7946 0958", "(020) 7946 0958", "020-7946-0958", "02079460958"),
        *("07700 900123", "07700900123", "+44 7700 900 123", "+44 (0)20 7946 0958"),
        *(
            "0044 20 7946 0958",
            "0808 157 0123",
            "01632 960 001 ext 12",
            "0161-496-0000",
        ),
        *("+49 30 901820", "+353 1 234 5678", "+1 (361) 400-2907"),
        *("0161\u2011496\u20110000", "0161 \u2014 496 0000", "07700\u2010900123"),
    ],
)
def test_phones(phone):
    text, counts = replace_personal_data(f"Call Jo on {phone}, or on {phone}.")
    assert text == "Call Jo on [PHONE], or on [PHONE]."
    assert counts["phone"] == sum(counts.values()) == 2


@pytest.mark.parametrize("before", ["Tel:-", "Tel -", "Tel/", "phone-", "\n-"])
def test_a_dash_or_slash_may_stand_before_a_phone(before):
    for phone in ("07700 900123", "+44 7700 900123", "0161 496 0000"):
        assert replace_personal_data(f"{before}{phone}")[0] == f"{before}[PHONE]"


@pytest.mark.parametrize(
    "before",
    ["28/11/2023 - ", "28/11/2023 \u2014 ", "28.11.2023 ", "2024 ", "2019-2021 "],
)
def test_a_phone_may_follow_a_date(before):
    for phone in ("0161 496 0000", "020 7946 0958", "+44 7700 900123"):
        assert replace_personal_data(before + phone)[0] == f"{before}[PHONE]"


def test_national_phones_are_those_of_the_regions_asked_for():
    assert replace_personal_data("(361) 400-2907To")[0] == "(361) 400-2907To"
    assert replace_personal_data("(361) 400-2907To", ("GB", "US"))[0] == "[PHONE]\nTo"


@pytest.mark.parametrize(
    "text",
    [
        *("£25,000 - £30,000", "25000 - 30000 p.a.", "£25000-30000", "up to 1,500,000"),
        *(
            "01/02/2024 - 03/04/2024",
            "2019 - 2021",
            "2008/2012",
            "since 2014",
            "24/7 365",
        ),
        *(
            "0900 - 1730",
            "09:00-17:30",
            "37.5 hours, 20-30 hours",
            "9am-5pm",
            "v7.1/6.2/5.1",
        ),
        *(
            "Ref: 0207946095",
            "job number 02079460958",
            "ISBN 9780306406157",
            "No. 12345678",
        ),
        *(
            "Amazon.com and Booking.com",
            "ASP.net, asp.net, Node.js",
            "look at this dot",
        ),
        *(
            "our team@ the office",
            "@firm on Twitter",
            "Software Engineer @ Booking.com",
            "e.g.this",
            "B2B, 1st, 2nd of B2 3rd",
        ),
        *("GCSE A1 level", "level 3 NVQ", "ISO 27001", "£20k pa + 10% OTE", "AB12"),
    ],
)
@pytest.mark.parametrize("regions", [("GB",), ("GB", "US")])
def test_what_only_looks_like_personal_data_stays(text, regions):
    assert replace_personal_data(text, regions)[0] == text


def test_postcodes_and_national_insurance_numbers():
    text, counts = replace_personal_data(
        "Leeds LS1 4AP, sw1a 1aa, M11AE; AB123456C, ab 12, QQ 12 34 56 C"
    )
    assert text == (
        "Leeds [POSTCODE], [POSTCODE], [POSTCODE]; [NATIONAL_INSURANCE], ab 12, "
        "[NATIONAL_INSURANCE]"
    )
    assert counts == {
        **{"email": 0, "phone": 0, "url": 0},
        **{"postcode": 3, "national_insurance": 2},
    }


@pytest.mark.parametrize(
    "unit", ["a@", "a.", "1-", "0", "www.a", " dot ", "AB12", "a.com"]
)
def test_long_hostile_texts_end(unit):
    replace_personal_data(unit * 20_000)


@pytest.fixture(scope="module")
def name_pipeline(tmp_path_factory):
    """A saved pipeline that knows two people, and a component that nobody needs."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "PERSON", "pattern": "Ada Lovelace"},
            {"label": "PERSON", "pattern": "Grace"},
            {"label": "PERSON", "pattern": "EMAIL"},
            {"label": "ORG", "pattern": "Acme"},
        ]
    )
    folder = tmp_path_factory.mktemp("names") / "pipeline"
    nlp.to_disk(folder)
    return load_name_pipeline(str(folder))


def test_names_of_people_are_replaced_and_counted(name_pipeline):
    assert name_pipeline.pipe_names == ["entity_ruler"]
    texts = ["Ask Ada Lovelace, or Grace's team at Acme.", "", "[EMAIL] \n Ask  us"] * 3
    assert (
        list(replace_names(iter(texts), name_pipeline, batch_size=2))
        == [
            ("Ask [NAME], or [NAME]'s team at Acme.", 2),
            ("", 0),
            ("[EMAIL] \n Ask  us", 0),
        ]
        * 3
    )


def test_names_are_found_in_texts_longer_than_spacy_takes(name_pipeline):
    text = "Ask Grace about it. " * 60_000
    replaced, count = next(replace_names([text], name_pipeline))
    assert len(text) > name_pipeline.max_length
    assert count == 60_000 and replaced == text.replace("Grace", "[NAME]")


def test_a_pipeline_that_is_not_there_or_finds_no_names_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no_such_pipeline: no spaCy pipeline"):
        load_name_pipeline("no_such_pipeline")
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "pipeline")
    with pytest.raises(ValueError, match="ner or entity_ruler; found sentencizer"):
        load_name_pipeline(str(tmp_path / "pipeline"))


def test_auto_means_no_names_where_no_pipeline_is_installed(monkeypatch):
    monkeypatch.setattr(spacy.util, "is_package", lambda name: False)
    assert load_name_pipeline("auto") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See https://firm.com/apply?to=jobs@firm.com now", "See [URL] now"),
        ("See firm.co.uk/jobs@firm.com now", "See [URL]/[EMAIL] now"),
    ],
)
def test_an_address_in_an_address_leaves_nothing_behind(text, expected):
    assert replace_personal_data(text)[0] == expected
