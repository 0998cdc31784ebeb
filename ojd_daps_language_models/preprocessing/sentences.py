"""Adverts split into sentences, in order, by the lightest part of a spaCy pipeline."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy import Language
    from spacy.tokens import Doc

DEFAULT_PIPELINE = "en_core_web_sm"

# A list item begins with one of the bullets where the text was not cleaned.
_LINE_END = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+|(?=[•●▪■◦])")
# A line without this inside is one sentence.
_STOP_WITHIN = re.compile(r"[.!?…。\uff01\uff1f][^\s\w]{0,10}\s+\S")
# What spaCy reads at once, in characters: far below its limit, and light on memory.
_LONGEST = 10_000
_PIECE = re.compile(rf"(?s).{{1,{_LONGEST}}}(?=\s|\Z)|.{{{_LONGEST}}}")

_MANY_WORDS = 100_000

# --- Rules for where no trained pipeline is installed ---------------------------------

# spaCy's tokenizer knows those after which a sentence goes on (Dr., e.g.); after
# these, it goes on if no capital follows.
_MAY_END = """
    approx cert dept est etc excl exp ext fig hr hrs incl max min misc no nos perm ref
    req tel temp vol wk yr yrs"""
_NEVER_END = "dr. e.g. i.e. mr. mrs. ms. prof. st. vs."
_ABBREVIATIONS = frozenset(_MAY_END.split())
_TITLES = frozenset(_NEVER_END.split())
_OPENING = "([{\u201c\u2018«"
# "Ltd. We", "5 p.m. The": what begins a sentence even after an abbreviation.
_STARTER = re.compile(
    r"\. +(All|An|Applicants|As|At|Candidates|Experience|For|Hours|How|If|In|It|Must"
    r"|Our|Please|Salary|The|There|They|This|To|We|What|When|With|Working|You|Your)\b"
)


def load_sentence_pipeline(name: str = "auto") -> "Language":
    """Load the spaCy pipeline that finds sentences, with nothing else in it.

    Args:
        name: installed package or folder; `auto` means en_core_web_sm where it is
            installed, and rules for English where it is not.

    Raises:
        ValueError: there is no such pipeline, or it finds no sentences.
    """
    spacy = import_spacy(with_torch=name != "auto")
    if name != "auto":
        return load_pipeline(name, ("senter",), ("sentencizer",), ("parser",))
    if spacy.util.is_package(DEFAULT_PIPELINE):
        return load_pipeline(DEFAULT_PIPELINE, ("senter",))
    spacy.Language.component("mend_boundaries", func=_mend_boundaries)
    nlp = spacy.blank("en", meta={"name": "rules", "version": spacy.__version__})
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("mend_boundaries")
    return nlp


def import_spacy(with_torch: bool):
    """Import spaCy, if need be without torch.

    thinc, below spaCy, imports torch wherever it is installed, which takes seconds and
    hundreds of megabytes that neither rules nor en_core_web_sm have a use for.
    """
    absent = not with_torch and "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None
    try:
        import spacy
    finally:
        if absent:
            del sys.modules["torch"]
    return spacy


def load_pipeline(name: str, *choices: Sequence[str]) -> "Language":
    """Load a spaCy pipeline without the components that nobody asked for.

    Args:
        name: installed package or folder.
        choices: kinds (factories) of components. The components of the first choice
            that the pipeline has are kept, with those that they listen to.

    Raises:
        ValueError: there is no such pipeline, or it has no such component.
    """
    import spacy

    if not (spacy.util.is_package(name) or Path(name, "meta.json").is_file()):
        raise ValueError(
            f"{name}: no spaCy pipeline; expected 'auto', an installed package or a "
            "folder that spaCy saved"
        )
    nlp = spacy.load(name)
    kinds = {pipe: nlp.get_pipe_meta(pipe).factory for pipe in nlp.component_names}
    matches = ([pipe for pipe in kinds if kinds[pipe] in kind] for kind in choices)
    wanted = next(filter(None, matches), None)
    if wanted is None:
        expected = " or ".join(kind for choice in choices for kind in choice)
        found = ", ".join(kinds) or "none"
        raise ValueError(f"{name}: expected a component {expected}; found {found}")
    for pipe in set(wanted) & set(nlp.disabled):  # as en_core_web_sm's senter is
        nlp.enable_pipe(pipe)
    for pipe in kinds:
        listeners = getattr(nlp.get_pipe(pipe), "listening_components", [])
        needed = pipe in wanted or kinds[pipe].endswith("transformer")
        if not needed and not set(wanted) & set(listeners):
            nlp.remove_pipe(pipe)
    return nlp


def describe_sentence_pipeline(nlp: "Language") -> str:
    """Name, version and components of a spaCy pipeline, for log and model card."""
    meta, pipes = nlp.meta, ", ".join(nlp.pipe_names)
    return f"{meta['lang']}_{meta['name']} {meta['version']} ({pipes})"


def split_sentences(
    texts: Iterable[str], nlp: "Language", batch_size: int = 256
) -> Iterator[list[str]]:
    """Split adverts into sentences, in order and word for word.

    A line break is always a boundary, and so is a bullet. Only lines with a full stop,
    question or exclamation mark inside are given to the pipeline, in pieces of at most
    10,000 characters.

    Args:
        texts: cleaned adverts.
        nlp: pipeline from `load_sentence_pipeline`.
        batch_size: adverts that are given to the pipeline together.

    Yields:
        For each advert its sentences, without blanks around them, none empty.
    """
    texts = iter(texts)
    while batch := list(islice(texts, batch_size)):
        lines = [
            [piece for line in _LINE_END.split(text) for piece in cut_text(line)]
            for text in batch
        ]
        unclear = filter(_STOP_WITHIN.search, chain.from_iterable(lines))
        with forget_rare_words(nlp):
            sentences = iter([_cut_sentences(doc) for doc in nlp.pipe(unclear)])
        for pieces in lines:
            advert = chain.from_iterable(
                next(sentences) if _STOP_WITHIN.search(piece) else [piece]
                for piece in pieces
            )
            yield list(filter(None, map(str.strip, advert)))


def _cut_sentences(doc: "Doc") -> list[str]:
    text, starts = doc.text, [span.start_char for span in doc.sents]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def forget_rare_words(nlp: "Language") -> AbstractContextManager:
    """Keep what spaCy remembers of words from growing with every advert.

    The first words stay, so that the frequent ones need no tokenizing again; once
    there are many, new ones are forgotten where this context ends.
    """
    return nlp.memory_zone() if len(nlp.vocab) > _MANY_WORDS else nullcontext()


def cut_text(text: str) -> list[str]:
    """Cut a text into pieces that spaCy can read, between words where it can be."""
    return [text] if len(text) <= _LONGEST else _PIECE.findall(text)


def _mend_boundaries(doc: "Doc") -> "Doc":
    """Mend what the sentencizer gets wrong: brackets, abbreviations, numbers."""
    for sentence in list(doc.sents)[1:]:
        first, stop = sentence[0], doc[sentence.start - 1]
        before = doc[sentence.start - 2] if sentence.start > 1 else stop
        goes_on = not first.text[0].isupper()
        if stop.text[0] in _OPENING or (stop.text == '"' and not stop.whitespace_):
            first.is_sent_start = False  # "Apply! (Now.)"
            stop.is_sent_start = True
        elif stop.text != ".":  # "(really!) good"
            first.is_sent_start = not (goes_on and stop.text not in ("!", "?"))
        elif before.is_sent_start and (before.is_digit or len(before) == 1):
            first.is_sent_start = False  # "1. Manage the team", "a. Lead it"
        elif len(before) == 1 and before.is_upper:
            first.is_sent_start = False  # "John F. Smith"
        elif goes_on and (before.lower_ in _ABBREVIATIONS or "." in before.text):
            first.is_sent_start = False  # "approx. 30", "p.a. plus"
    for match in _STARTER.finditer(doc.text):
        starter = doc.char_span(*match.span(1))
        if starter and doc[starter.start - 1].lower_ not in _TITLES:
            starter[0].is_sent_start = True
    return doc
