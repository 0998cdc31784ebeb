"""In which language an advert is written."""

from functools import cache

_CHARACTERS = 300


def detect_language(text: str) -> str:
    """Guess the language of an advert from its first 300 characters.

    By py3langid: a small model inside the package, no download, and the same answer
    every time. On English adverts and on sentences from adverts in eleven other
    languages it was as often right as langdetect and lingua, which take ten times as
    long (lingua also brings 100 MB); CLD2, faster still, was left by its authors.

    A short text is judged as it is: one sentence is enough for the languages of Europe,
    a job title is not.

    Args:
        text: cleaned advert.

    Returns:
        ISO 639-1 code, such as `en`; `und` (undetermined) for a text without letters.
    """
    text = text[:_CHARACTERS]
    if not any(map(str.isalpha, text)):
        return "und"
    return _load_identifier().classify(text)[0]


@cache
def _load_identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    # The others are ISO 639-3 (Pidgin, Cantonese, "no linguistic content").
    identifier.set_languages([code for code in identifier.labels if len(code) == 2])
    return identifier
