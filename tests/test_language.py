"""The language of an advert, from its first characters."""

import pytest

from ojd_daps_language_models.configs import LANGUAGES, TAKEN_FOR
from ojd_daps_language_models.preprocessing.language import (
    _load_identifier,
    detect_language,
)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "We are looking for a nurse to join our friendly team in Leeds."),
        ("en", "- Python\n- SQL\nYou will build reports and work with our analysts."),
        ("en", "WE ARE HIRING A DRIVER FOR OUR DEPOT. APPLY BY [EMAIL] TODAY."),
        ("cy", "Rydym yn chwilio am athro brwdfrydig i ymuno â'n tîm yng Nghaerdydd."),
        ("de", "Wir suchen eine engagierte Pflegekraft für unser Team in Leipzig."),
        ("fr", "Nous recherchons un comptable pour rejoindre notre équipe à Lyon."),
        ("pl", "Szukamy kierowcy do pracy w Krakowie. Oferujemy stabilną umowę."),
    ],
)
def test_a_sentence_is_enough(language, text):
    assert detect_language(text) == language


def test_the_beginning_counts():
    english = "We are looking for a nurse to join our friendly team in Leeds. " * 5
    assert detect_language(english + "Wir suchen eine Pflegekraft. " * 500) == "en"


@pytest.mark.parametrize("text", ["", " \n ", "12/34 - £56", "!?"])
def test_a_text_without_letters_has_no_language(text):
    assert detect_language(text) == "und"


@pytest.mark.parametrize("text", ["Nurse", "Java", "ok 24/7", "日本語", "Ж"])
def test_even_a_word_gets_a_code_of_two_letters(text):
    assert len(detect_language(text)) == 2


def test_a_configuration_may_name_the_languages_that_can_be_detected():
    known = set(_load_identifier().labels)
    assert set(LANGUAGES.split()) == known
    assert not known & set(TAKEN_FOR) and known.issuperset(TAKEN_FOR.values())
