"""What must not leave with a model: texts of the data, personal data, secrets, paths.

Weights, vocabularies and figures are not read: what a checkpoint brought is public, the
hash of its tokens tells that nothing came to them, and figures draw what tables say.
All other text is read: the card with its metadata and its code, where an example is a
text like any other, keys and values of JSON, added tokens, and what safetensors say of
themselves.
"""

import hashlib
import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml

from ojd_daps_language_models.preprocessing.duplicates import (
    WORDS_PER_SHINGLE,
    fingerprint,
    has_near_duplicate,
)
from ojd_daps_language_models.preprocessing.personal_data import (
    replace_names,
    replace_personal_data,
)
from ojd_daps_language_models.preprocessing.sentences import (
    load_sentence_pipeline,
    split_sentences,
)
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.publishing.folder import (
    LOCAL_PATH,
    README,
    TOKENIZER,
    may_leave,
)

if TYPE_CHECKING:
    from spacy import Language

# Shorter sentences, such as "We offer a competitive salary", are nobody's.
MIN_WORDS = 6
# Jaccard similarity of two sentences. With the .8 of whole adverts, one changed word
# would hide every sentence of fewer than 27 words; so it hides those of fewer than 9.
SIMILARITY = 0.5
# What the data says in as many ways, as "We are looking for a … to join our team", is
# nobody's either. Repeated word for word, it may still be one employer's.
STOCK = 5
_BATCH = 4096  # sentences of the data that are in memory
_SHOWN = 4  # words of a sentence, by which it is found in the card
_AROUND = 20  # characters on each side of what is masked

# --- Secrets, as their issuers and the rules of gitleaks and detect-secrets have them -

_SECRETS = {
    "a token of the Hugging Face hub": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    "an AWS key": re.compile(
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"
        r"|(?i:aws_?(?:secret|session)\w{0,20})[\"' ]*[:=][\"' ]*[A-Za-z0-9/+=]{40}"
    ),
    "a GitHub token": re.compile(r"\b(?:gh[opsur]_[A-Za-z0-9]{36}|github_pat_\w{22})"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a web address with a password or token": re.compile(
        r"://[^/\s:@]*:[^/\s:@]+@"
        r"|(?i:\bhttps?://[^\s?]+\?\S*?\b(?:access_?token|api_?key|awsaccesskeyid|key"
        r"|password|secret|sig|signature|token|x-amz-signature)=\w)"
    ),
}

# --- Personal data, and what only looks like it ---------------------------------------

_PERSONAL = {
    "email": "an e-mail address",
    "phone": "a phone number",
    "postcode": "a postcode",
    "national_insurance": "a national insurance number",
}
_URL = re.compile(r"https?://\S+")
# Numbers in web addresses are of papers, jobs and builds; an e-mail address stays one.
_WITHOUT_NUMBERS = str.maketrans("/?&=#:;0123456789", " " * 7 + "x" * 10)
_NO_NUMBER = re.compile(
    r"(?<![\w.])(?:0|[1-9][0-9]*)\.[0-9]+(?!\.?\w)"  # a score
    r"|\b(?=[0-9a-f]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,}\b"  # a hash
    r"|\b[0-9]{16,}\b"  # a run: phone numbers have 15 digits at most (ITU-T E.164)
    r"|\b(?:19|20)[0-9]{2}(?:-[0-9]{2}){2}\b(?:[ T][0-9]{2}(?=:))?"  # a date
    r"|\bgit(?=@)"  # git@github.com
    r"|\\[nrt]"  # a line break in code
)

# --- Markdown -------------------------------------------------------------------------

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---(?:\n|\Z)", re.DOTALL)
_MARKUP = re.compile(
    r"</?(?:a|b|br|code|details|div|em|h[1-6]|i|img|li|mark|ol|p|pre|small|span|strong"
    r"|sub|summary|sup|table|tbody|td|th|thead|tr|u|ul)\b[^<>\n]*>|\\[nrt]"
)
# A line break that goes on with a paragraph, a list item or a text in YAML.
_WRAP = re.compile(r"\n(?!\s*(?:\n|[-*+>#|]|[0-9]+\.\s))\s*")
_PIECE_END = re.compile(r"[\n|\"`\u201c\u201d]|:\s")
# A key that may be shown: it can hold nothing that is looked for.
_KEY = re.compile(r"[A-Za-z_ ]{1,30}(?:[0-9]{1,3}[A-Za-z_ ]{0,30})?|[0-9]{1,3}")
_WORD = re.compile(r"[^\W_]+")  # as in preprocessing.duplicates

Sentence = tuple[int, str]  # number of the text that it is in, and its words


class Breach(ValueError):
    """A folder holds what must not leave; the message lists all of it, masked."""


class Passage(NamedTuple):
    """A text in a file.

    key: of the value, such as `widget[0].text`; empty where lines are counted.
    """

    file: str
    key: str
    text: str

    def place(self, line: int) -> str:
        return f"{self.file}, {self.key or f'line {line}'}"


class Finding(NamedTuple):
    """What must not leave, in words that may be shown."""

    place: str
    what: str
    remedy: str


def inspect(
    folder: Path,
    private_texts: Iterable[str],
    encoder: dict[str, Any],
    phone_regions: Sequence[str],
    nlp: "Language | None" = None,
) -> dict[str, Any]:
    """Look through a folder for what must not leave.

    Args:
        folder: of `publishing.folder.write_folder`.
        private_texts: of the data, cleaned; read once, in their order.
        encoder: of `getters.checkpoints.describe_checkpoint`, for the checkpoint that
            training started from.
        phone_regions: see `personal_data.replace_personal_data`.
        nlp: pipeline that finds names, which are looked for in the examples of the card
            only: elsewhere authors and methods are named.

    Returns:
        files, megabytes; `sentences` of the folder, and the `sentences of the data`
        that they were compared with; verbatim, near, `personal data`, secrets, paths:
        how many were found, which is none; tokenizer: what it is, in words.

    Raises:
        Breach: there is anything of this, or a file that is not to be published.
        FileNotFoundError: there is no card.
        ValueError: a file cannot be read.
    """
    if not (folder / README).is_file():
        raise FileNotFoundError(f"{folder}: no {README}; expected a folder to publish")
    paths = sorted(
        path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    names = [_name(path, folder) for path in paths]
    findings = [
        Finding(name, "not a file of a model or its card", "take it out of the folder")
        for path, name in zip(paths, names, strict=True)
        if path.is_symlink() or not may_leave(name)
    ]
    tokenizer, changed = _compare_vocabulary(folder, encoder)
    passages = list(_read_passages(folder))
    findings += changed
    findings += chain.from_iterable(
        _look_through(passage, phone_regions) for passage in passages
    )
    examples = [
        said for said in _read_metadata(folder) if said.key.startswith("widget")
    ]
    findings += _find_names(examples, nlp) if nlp else []
    seen, sentences, compared = _find_private_sentences(passages, private_texts)
    findings += seen
    if findings:
        listed = [f"- {place}: {what}; {remedy}" for place, what, remedy in findings]
        head = f"{folder}: nothing was published, since this must not leave:"
        raise Breach("\n".join([head, *listed]))
    return {
        "files": len(paths),
        "megabytes": round(sum(path.stat().st_size for path in paths) / 1e6, 1),
        "sentences": sentences,
        "sentences of the data": compared,
        **dict.fromkeys(("verbatim", "near", "personal data", "secrets", "paths"), 0),
        "tokenizer": tokenizer,
    }


def refuse_examples(
    examples: Sequence[str],
    private_texts: Iterable[str],
    name: str,
    phone_regions: Sequence[str],
    nlp: "Language | None" = None,
) -> None:
    """Raise ValueError if an example for the card would keep the model from leaving.

    Known before training, it can still be replaced; a run that is resumed keeps it.

    Args:
        examples: as the configuration has them.
        private_texts: of the data, held out or not.
        name: of their key in the configuration.
        phone_regions: see `inspect`.
        nlp: likewise.
    """
    passages = [
        Passage("the configuration", f"{name}[{number}]", text)
        for number, text in enumerate(examples)
    ]
    found, _, _ = _find_private_sentences(passages, private_texts)
    for passage in passages:
        found += _look_through(passage, phone_regions)
    found += _find_names(passages, nlp) if nlp else []
    _refuse(found)


def refuse_settings(
    settings: dict[str, Any], name: str, phone_regions: Sequence[str]
) -> None:
    """The same of what the configuration says of the model, which its card repeats.

    Args:
        settings: a section of the configuration.
        name: of that section.
        phone_regions: see `inspect`.
    """
    passages = (
        Passage("the configuration", *said) for said in _strings(settings, name)
    )
    _refuse([told for said in passages for told in _look_through(said, phone_regions)])


def _refuse(found: list[Finding]) -> None:
    if found:
        listed = [f"- {place}: {what}; {remedy}" for place, what, remedy in found]
        head = "to publish the model, its card must not hold:"
        raise ValueError("\n".join([head, *listed]))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_passages(folder: Path) -> Iterator[Passage]:
    """All text of a folder but its vocabulary."""
    card = (folder / README).read_text(encoding="utf-8")
    yield Passage(README, "", card)
    # YAML may escape a text, and fold it.
    yield from (said for said in _read_metadata(folder) if said.text not in card)
    for path in sorted(folder.rglob("*.json")):
        name, content = _name(path, folder), _read_json(path)
        if name == TOKENIZER:
            content = {"added_tokens": content.get("added_tokens", [])}
        yield from (Passage(name, *said) for said in _strings(content))
    for path in sorted(folder.rglob("*.safetensors")):
        said = _strings(_read_weights(path))
        yield from (Passage(_name(path, folder), *pair) for pair in said)
    for path in sorted(folder.rglob("*.jinja")):
        yield Passage(_name(path, folder), "", path.read_text(encoding="utf-8"))


def _read_metadata(folder: Path) -> list[Passage]:
    """Texts of the YAML that a card begins with."""
    front = _FRONT_MATTER.match((folder / README).read_text(encoding="utf-8"))
    try:
        return [
            Passage(README, *said)
            for said in _strings(yaml.safe_load(front[1]) if front else {})
        ]
    except yaml.YAMLError as error:
        raise ValueError(f"{folder / README}: no YAML at its top: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def _read_weights(path: Path) -> dict[str, str] | None:
    """What safetensors say of themselves."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as tensors:
            return tensors.metadata()
    except SafetensorError as error:
        raise ValueError(f"{path}: not safetensors ({error})") from error


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a JSON value, each with its key; a key is a text too."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{key}[{number}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            name = str(name)
            yield f"a key of {key or 'all'}", name
            shown = name if _KEY.fullmatch(name) else "…"
            yield from _strings(item, f"{key}.{shown}".removeprefix("."))


def _compare_vocabulary(
    folder: Path, encoder: dict[str, Any]
) -> tuple[str, list[Finding]]:
    """What the tokenizer is, and whether it has tokens that its checkpoint had not.

    The hash is that of `getters.checkpoints.describe_checkpoint`.
    """
    if not (folder / TOKENIZER).is_file():
        return "none", []
    tokenizer = _read_json(folder / TOKENIZER)
    added = tokenizer.get("added_tokens", [])
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):  # Unigram: tokens and scores, in order of ids
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    pairs = {*vocabulary.items(), *((token["content"], token["id"]) for token in added)}
    digest = hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()
    expected = encoder.get("vocabulary_hash")
    if expected is None:
        return "not compared: the run knows no hash of its checkpoint's tokens", []
    if digest == expected:
        return f"that of the checkpoint, token for token ({len(pairs):,})", []
    return "another", [
        Finding(
            TOKENIZER,
            f"its {len(pairs):,} tokens are not those of {encoder['checkpoint']}",
            "train with the tokenizer of the checkpoint: words that are added to it "
            "are published with it",
        )
    ]


def _look_through(passage: Passage, phone_regions: Sequence[str]) -> Iterator[Finding]:
    """Secrets, paths and personal data in a passage, line by line."""
    for number, line in enumerate(html.unescape(passage.text).split("\n"), 1):
        place = passage.place(number)
        for what, pattern in _SECRETS.items():
            if found := pattern.search(line):
                what = f"{what} ({found[0][:3]}…)"
                yield Finding(place, what, "take it out, and revoke it")
                line = pattern.sub(";", line)
        if found := LOCAL_PATH.search(line):
            what = f"a path of a machine, or a bucket ({found[0][:6]}…)"
            yield Finding(place, what, "say what it was, not where")
            line = LOCAL_PATH.sub(";", line)
        line = _URL.sub(lambda url: url[0].translate(_WITHOUT_NUMBERS), line)
        masked, counts = replace_personal_data(_NO_NUMBER.sub(";", line), phone_regions)
        for kind, what in _PERSONAL.items():
            if counts[kind]:
                yield _personal(place, what, masked, f"[{kind.upper()}]")


def _find_names(examples: list[Passage], nlp: "Language") -> Iterator[Finding]:
    """People's names in the examples of a card."""
    texts = replace_names([said.text for said in examples], nlp)
    for said, (masked, count) in zip(examples, texts, strict=True):
        if count:
            yield _personal(said.place(0), "a person's name", masked, "[NAME]")


def _personal(place: str, what: str, masked: str, placeholder: str) -> Finding:
    start = masked.find(placeholder)
    around = masked[max(start - _AROUND, 0) : start + len(placeholder) + _AROUND]
    return Finding(place, f"{what} ({around.strip()})", "take it out")


def _find_private_sentences(
    passages: list[Passage], private_texts: Iterable[str]
) -> tuple[list[Finding], int, int]:
    """Sentences of the data in passages, and how many of both were compared."""
    plain = [_plain(passage.text) for passage in passages]
    nlp = load_sentence_pipeline()
    sentences = _split(passages, plain, nlp)
    verbatim, near, compared = _compare(plain, sentences, private_texts, nlp)

    def tell(what: str, sentence: Sentence) -> list[Finding]:
        number, phrase = sentence
        what = f"{what} ({' '.join(phrase.split()[:_SHOWN])}…)"
        return [
            Finding(passages[number].place(line), what, "write another one")
            for line in _lines_of(phrase, plain[number])
        ]

    found = [
        told
        for sentence in sorted(verbatim)
        for told in tell("a sentence of the data, word for word", sentence)
    ]
    places = {told.place for told in found}
    # Sentences of one place overlap: what is stock in one of them is so in all.
    ways: dict[str, set[int]] = defaultdict(set)
    resembling = {}
    for sentence, alike in near.items():
        for told in tell("nearly a sentence of the data", sentence):
            resembling.setdefault(told.place, told)
            ways[told.place] |= alike
    found += [
        told
        for place, told in resembling.items()
        if place not in places and len(ways[place]) < STOCK
    ]
    return found, len(sentences), compared


def _compare(
    texts: list[str],
    sentences: list[Sentence],
    private_texts: Iterable[str],
    nlp: "Language",
) -> tuple[set[Sentence], dict[Sentence, set[int]], int]:
    """Compare texts, and the sentences in them, with those of private texts.

    Word for word, private sentences are found wherever they stand in a text; only
    those get a signature that have shingles enough in common with all texts together.

    Returns:
        Private sentences in the texts; the sentences that are nearly so, with the
        fingerprints of those that they are like; and the number of private sentences.
    """
    running = [f" {' '.join(_words(text))} " for text in texts]
    known = set().union(*(_shingles(text.split()) for text in running))
    _, signatures = fingerprint(text for _, text in sentences)
    verbatim: set[Sentence] = set()
    near: dict[Sentence, set[int]] = defaultdict(set)
    compared = 0
    bar = progress_bar("comparing with the data", "text", items=private_texts)
    said = chain.from_iterable(split_sentences(bar, nlp))
    while batch := list(islice(said, _BATCH)):
        candidates = []
        for words in map(_words, map(_plain, batch)):
            if len(words) < MIN_WORDS:
                continue
            compared += 1
            own, phrase = _shingles(words), " ".join(words)
            shared = len(own & known)
            if shared == len(own):
                within = (n for n, text in enumerate(running) if f" {phrase} " in text)
                verbatim.update((number, phrase) for number in within)
            # Not counted here are those that a sentence ends in.
            ends = WORDS_PER_SHINGLE - 1
            if shared + ends >= SIMILARITY * (len(own) + ends):
                candidates.append(phrase)
        exact, others = fingerprint(candidates)
        found = has_near_duplicate(signatures, others, SIMILARITY)
        for number in np.flatnonzero(found):
            alike = has_near_duplicate(others, signatures[[number]], SIMILARITY)
            near[sentences[number]].update(exact[alike].tolist())
    return verbatim, near, compared


def _split(
    passages: list[Passage], texts: list[str], nlp: "Language"
) -> list[Sentence]:
    """Sentences of the texts of passages.

    What stands in a cell, in quotes or after a colon counts by itself too.
    """
    sentences = {}
    for number, (passage, text) in enumerate(zip(passages, texts, strict=True)):
        if not passage.key:
            text = _WRAP.sub(" ", text)
        pieces = [*text.split("\n"), *_PIECE_END.split(text)]
        for words in map(_words, chain.from_iterable(split_sentences(pieces, nlp))):
            if len(words) >= MIN_WORDS:
                sentences[number, " ".join(words)] = None
    return list(sentences)


def _lines_of(phrase: str, text: str) -> list[int]:
    """Numbers of the lines in which a phrase of the words of a text begins."""
    folded = text.casefold()
    words = [(word[0], word.start()) for word in _WORD.finditer(folded)]
    running = f" {' '.join(word for word, _ in words)} "
    starts = [
        words[running.count(" ", 0, found.start())][1]
        for found in re.finditer(rf"(?= {re.escape(phrase)} )", running)
    ]
    # There is none where a text without blanks was cut for the sentence pipeline.
    return [folded.count("\n", 0, start) + 1 for start in starts] or [1]


def _plain(text: str) -> str:
    """A text without markup, line by line as it was."""
    return _MARKUP.sub(" ", html.unescape(text))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[n:] for n in range(WORDS_PER_SHINGLE)), strict=False))
