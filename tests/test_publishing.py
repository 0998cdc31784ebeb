"""What a model is published with, and what must not leave with it."""

import errno
import html
import io
import json
import re
import sys
import tarfile
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import spacy
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ojd_daps_language_models.archive import pack_folder
from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.getters.checkpoints import describe_checkpoint
from ojd_daps_language_models.publishing.folder import may_leave, write_folder
from ojd_daps_language_models.publishing.guard import (
    MIN_WORDS,
    Breach,
    inspect,
    refuse_examples,
)
from ojd_daps_language_models.publishing.publish import (
    check_examples,
    check_publishing,
    publish,
)

CONFIG = {"model_type": "bert", "vocab_size": 4, "id2label": {"0": "OTHER"}}
TOKENS = {
    "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "bake": 1, "##r": 2}},
    "added_tokens": [{"id": 0, "content": "[UNK]"}, {"id": 3, "content": "[MASK]"}],
}
TRAINED_ON = (
    "The bakery on the quay opens at five, long before the first ferry leaves for the "
    "islands."
)
SCORES = """
| measure | tfidf | before | after | change |
| --- | --- | --- | --- | --- |
| average precision | 0.612 (0.580 to 0.645) | 0.31 | 0.874 (0.85\u20130.89) | +0.26 |
| perplexity | 1,234.5 [1,200.1; 1,260.9] | 80.5 | 12.25 | \u221268.25 |

1,795,569 of 2,480,112 sentences, 72.4% (2019 - 2021), 12 of 3 456 789 steps of 0.25 s.
Run MLMFlow/1795569285359784 of 2026-11-25 01:17:51.269, tag MLMFlow-1795569285359784.
Code 0123456789ab-dirty, data 00441234567890abcdef0123456789ab, metaflow 2.19.39, torch
2.13.0+cpu; 22,713,216 weights, learning rate 2.0e-05, seeds 42, 43, 44, 45 and 46.
See https://doi.org/10.1162/089120105774321091, arXiv:2003.10555, pages 4171\u20134186,
git@github.com:owner/name.git; `pip install name==0.1.12`.
"""


def save(folder: Path, **files) -> Path:
    """Write a small model without weights to speak of; torch is not needed for it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.zeros(4, np.float32)}, folder / "model.safetensors")
    given = {"config.json": CONFIG, "tokenizer.json": TOKENS} | files
    for name, content in given.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        path.write_text(text, encoding="utf-8")
    return folder


def make_run(folder: Path, **files) -> dict:
    return {
        "flow": "MLMFlow",
        "run_id": "17",
        "model": pack_folder(save(folder, **files)),
        "encoder": {"checkpoint": "models/mine"},
    }


@pytest.fixture
def card(monkeypatch):
    """A card of one line in the place of the real one."""

    def write_card(run, folder, repository=None):
        (folder / "README.md").write_text(f"# {repository}\n")

    name = "ojd_daps_language_models.publishing.model_card"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(write_card=write_card))


def look(
    folder: Path,
    readme: str = "# Model\n",
    texts=(TRAINED_ON,),
    regions=("GB",),
    **files,
) -> dict:
    """Inspect a folder with this card and these other files."""
    encoder = describe_checkpoint(save(folder / "checkpoint"))
    published = save(folder / "published", **{"README.md": readme}, **files)
    return inspect(published, texts, encoder, regions)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# The folder


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"),
        *("model.safetensors.index.json", "1_Pooling/config.json", "modules.json"),
        *("2_Dense/model.safetensors", "README.md", "figures/scores.png"),
    ],
)
def test_a_model_and_its_card_may_leave(name):
    assert may_leave(name)


REFUSED = [
    *("pytorch_model.bin", "optimizer.pt", "training_args.bin", "rng_state.pth"),
    *("scheduler.pt", "trainer_state.json", "model.pkl", "adverts.csv", ".env"),
    *("analysis.ipynb", ".cache/config.json", "1_Pooling/pytorch_model.bin"),
    *(
        "1_Pooling/adverts.json",
        "modeling_own.py",
        "vocab.txt",
        "checkpoint-9/model.safetensors",
    ),
    *("figures/scores.png", "evaluation.json", "a/README.md", "figures/.png"),
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_should_not_have_packed_is_refused_by_name(name, card, tmp_path):
    run = make_run(tmp_path / "saved", **{name: "{}"})
    with pytest.raises(ValueError, match=rf"^MLMFlow/17.*'model': {re.escape(name)} m"):
        write_folder(run, tmp_path / "out" / "folder")
    assert not list((tmp_path / "out").iterdir())


def test_paths_leave_the_json_files_and_all_else_stays_as_it_was(card, tmp_path):
    config = CONFIG | {
        "_name_or_path": "owner/model",
        "vocab_file": "/home/anna/.cache/vocab.txt",
        "trained_on": ["s3://bucket/adverts", "C:\\data\\adverts.csv", "~/adverts"],
        "nested": {"base": "models/mine", "activation": "gelu/tanh", "é": 1e-12},
        "home": "https://huggingface.co/owner/model",
    }
    untouched = {
        "modules.json": '[ {"path": "1_Pooling", "idx":0} ]',
        "tokenizer.json": '{"model": {"vocab": [["/home/a/b", -1.0]]}}',
    }
    run = make_run(tmp_path / "saved", **{"config.json": config}, **untouched)
    found = contents(write_folder(run, tmp_path / "out", "owner/name"))
    for name, text in untouched.items():
        assert found[name] == text.encode()
    assert json.loads(found["config.json"]) == CONFIG | {
        "trained_on": [],
        "nested": {"activation": "gelu/tanh", "é": 1e-12},
        "home": "https://huggingface.co/owner/model",
    }


def test_a_folder_called_like_its_type_does_not_take_it_out(card, tmp_path):
    run = make_run(tmp_path / "saved")
    run["encoder"] = {**run["encoder"], "checkpoint": "bert"}
    found = contents(write_folder(run, tmp_path / "out", "owner/name"))
    assert json.loads(found["config.json"]) == CONFIG


def test_a_card_of_a_library_makes_way_for_ours(card, tmp_path):
    run = make_run(tmp_path / "saved", **{"README.md": TRAINED_ON})
    found = contents(write_folder(run, tmp_path / "out", "owner/name"))
    assert found["README.md"] == b"# owner/name\n"


def test_a_run_gives_the_same_bytes_each_time(card, tmp_path):
    run = make_run(tmp_path / "saved", **{"config.json": {"_name_or_path": "a"}})
    (tmp_path / "empty").mkdir()
    once = write_folder(run, tmp_path / "once" / "model")
    again = write_folder(run, tmp_path / "empty")
    assert contents(once) == contents(again)
    assert len(contents(once)) == 4
    with pytest.raises(ValueError, match="expected an empty or new folder"):
        write_folder(run, tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/tmp/outside", tarfile.REGTYPE),
        ("config.json", tarfile.SYMTYPE),
    ],
)
def test_nothing_is_written_beside_the_folder(name, kind, card, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    run = make_run(tmp_path / "saved") | {"model": buffer.getvalue()}
    with pytest.raises(ValueError, match="MLMFlow/17, artifact 'model': damaged"):
        write_folder(run, tmp_path / "out" / "folder")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(card, tmp_path, monkeypatch):
    run = make_run(tmp_path / "saved")
    write_bytes = Path.write_bytes

    def write(path, content):
        if path.name == "model.safetensors":
            write_bytes(path, content[:9])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OSError, match="out/folder: the disk is full") as error:
        write_folder(run, tmp_path / "out" / "folder")
    assert re.search(r"needs 1 MB.* [\d,]+ MB are free. Nothing was", str(error.value))
    assert not list((tmp_path / "out").iterdir())


# What is in it: training texts


def in_metadata(text: str, width: int = 40) -> str:
    widget = {"widget": [{"text": text, "example_title": "one"}]}
    return f"---\n{yaml.safe_dump(widget, width=width)}---\n# Model\n"


def lines_with(what: str, error) -> list[int]:
    """Lines of the card in which something was found."""
    found = re.findall(rf"README.md, line (\d+): {what} \(", str(error.value))
    return sorted(map(int, found))


@pytest.mark.parametrize("regions", [("GB",), ("US",), ("DE", "IE")])
def test_a_card_of_numbers_passes_and_what_was_compared_is_counted(regions, tmp_path):
    texts = [TRAINED_ON, "We hire. We bake bread for the whole of the town.", "Baker"]
    readme = in_metadata("Our ferry needs a [MASK] for the summer season.") + SCORES
    evaluation = {"lineage": {"run": "0301795569285359"}, "scores": [0.87415]}
    found = look(tmp_path, readme, texts, regions, **{"evaluation.json": evaluation})
    assert found.pop("sentences") > 5
    assert found == {
        "files": 5,
        "megabytes": 0.0,
        "sentences of the data": 2,
        **dict.fromkeys(("verbatim", "near", "personal data", "secrets", "paths"), 0),
        "tokenizer": "that of the checkpoint, token for token (4)",
    }


FORMS = (
    *("Such as {} and others.", "| 1 | {} | 0.9 |", "- first\n- {}", 'pipe("{}")'),
    *("**{}**", "# {}", "> {}", "<td>{}</td>", 'pipe("Read:\\n{}")'),
)


@pytest.mark.parametrize(
    "change",
    [
        str,
        str.upper,
        lambda text: text.replace(" ", "\n  ").replace(",", " \u2013 "),
        lambda text: text.replace("bakery", "<b>bakery</b>").replace(" ", "&nbsp;"),
    ],
    ids=["as it is", "upper case", "wrapped", "marked up"],
)
def test_a_training_sentence_stops_the_card_wherever_it_stands(change, tmp_path):
    changed = change(TRAINED_ON)
    readme = "\n\n".join(form.format(changed) for form in FORMS)
    with pytest.raises(Breach) as error:
        look(tmp_path, readme, ["We bake.", f"Come and see. {TRAINED_ON}"])
    assert lines_with("a sentence of the data, word for word", error) == [
        readme.count("\n", 0, found.start()) + 1
        for found in re.finditer(re.escape(changed), readme)
    ]


@pytest.mark.parametrize(
    ("word", "other"), [("five", "SIX"), ("The", "our"), ("islands", "mainland")]
)
def test_a_training_sentence_with_another_word_stops_it_too(word, other, tmp_path):
    changed = TRAINED_ON.replace(word, other)
    readme = "\n\n".join(form.format(changed) for form in FORMS)
    with pytest.raises(Breach) as error:
        look(tmp_path, readme)
    assert lines_with("nearly a sentence of the data", error) == [
        number for number, line in enumerate(readme.splitlines(), 1) if changed in line
    ]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("| what it was shown at first, for an example | {} | 0.9 |", "{}"),
        ('so it is called for one of them, as here: pipe("{}")', "{}"),
        ("What it was shown at first, by way of an example: {}", "{}"),
        ("- {}", 'On the "Osprey": {}, as we say "at sea"'),
    ],
)
def test_what_stands_around_or_within_it_does_not_hide_it(form, text, tmp_path):
    text = text.format("our ferry carries the post to all of the islands")
    with pytest.raises(Breach, match="nearly a sentence of the data"):
        look(tmp_path, form.format(text.replace("post", "mail")), [text])


def test_training_sentences_are_found_in_metadata_and_json_and_not_told(tmp_path):
    text = f'He said: "{TRAINED_ON}"'
    evaluation = {"examples": [{"text": text}], text: 1}
    with pytest.raises(Breach) as error:
        look(tmp_path, in_metadata(text), **{"evaluation.json": evaluation})
    for place in (
        *("README.md, widget[0].text", "evaluation.json, examples[0].text"),
        *("README.md, line 4", "evaluation.json, a key of all"),
    ):
        told = f"{place}: a sentence of the data, word for word (the bakery on the…);"
        assert told in str(error.value)
    assert "opens" not in str(error.value)


@pytest.mark.parametrize(
    ("trained_on", "said"),
    [
        ("We offer a competitive salary.", "We offer a competitive salary."),
        (
            "We are looking for a chef to join our kitchen in Whitby.",
            "We are looking for a nurse to join a ward of forty beds.",
        ),
        ("Salary: £20,000 to £25,000 a year", "20,000 to 25,000 sentences a year"),
        (TRAINED_ON, "The bakery on the quay is where the first ferry leaves."),
    ],
)
def test_what_anybody_says_does_not_stop_it(trained_on, said, tmp_path):
    assert look(tmp_path, f"# Model\n\n{said}\n", [trained_on])["verbatim"] == 0


def test_a_stock_phrase_is_what_training_texts_say_in_several_ways(tmp_path):
    phrase = "We are looking for a {} to join our kitchen in the old town of Whitby."
    readme = in_metadata(phrase.format("[MASK]"))
    jobs = ("chef", "baker", "waiter", "porter", "cook")
    ways = [phrase.format(job) for job in jobs]
    assert look(tmp_path, readme, ways)["near"] == 0
    for texts in (ways[1:], ways[1:] * 9):
        with pytest.raises(Breach, match="nearly a sentence of the data"):
            look(tmp_path, readme, texts)


WORDS = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=8)
PLACES = (
    *("# {}", "so {} it is", "| {} | 1 |", "- {}", "print('{}')", "<td>{}</td>"),
    *(in_metadata, html.escape, lambda text: text.replace(" ", "\n> ")),
)


@given(
    st.lists(WORDS, min_size=MIN_WORDS, max_size=20),
    st.sampled_from(PLACES),
    st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_any_training_sentence_is_found_anywhere(words, place, before):
    sentence = " ".join(words)
    put = place.format if isinstance(place, str) else place
    with TemporaryDirectory() as folder:
        readme = put(sentence)
        if place is not in_metadata:
            readme = f"{SCORES}\n{readme}\n{SCORES}"
        with pytest.raises(Breach, match="word for word"):
            look(Path(folder), readme, [*["We bake."] * before, sentence])


@pytest.mark.slow
def test_any_number_of_training_sentences_is_read_in_little_memory(tmp_path):
    def iter_texts():
        random = np.random.default_rng(0)
        for words in random.integers(5000, size=(200_000, 15)):
            yield " ".join(f"w{word}" for word in words)
        yield TRAINED_ON

    tracemalloc.start()
    try:
        with pytest.raises(Breach, match="word for word"):
            look(tmp_path, TRAINED_ON, iter_texts())
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


# What is in it: personal data


PERSONAL = [
    ("an e-mail address", "jane.doe@firm.co.uk"),
    ("an e-mail address", "jane (at) firm dot com"),
    ("a phone number", "020 7946 0958"),
    ("a phone number", "+44 7700 900123"),
    ("a phone number", "07700900123"),
    ("a postcode", "LS1 4AP"),
    ("a national insurance number", "QQ 12 34 56 C"),
]


@pytest.mark.parametrize(
    "form",
    [
        *("Ask {}.", "| jobs | {} | 0.853 |", "[Jo](https://a.org/1) {}", "> {}, 0.5"),
        *('classify("Write:\\n{}")', "- text: '{}'", "<a>{}</a>"),
    ],
)
def test_personal_data_in_a_card_stops_it_and_is_not_told(form, tmp_path):
    readme = "\n".join(form.format(value) for _, value in PERSONAL)
    with pytest.raises(Breach) as error:
        look(tmp_path, readme)
    for line, (kind, value) in enumerate(PERSONAL, 1):
        assert f"README.md, line {line}: {kind} (" in str(error.value)
        assert value not in str(error.value)


@pytest.mark.parametrize(("kind", "value"), PERSONAL)
def test_personal_data_in_metadata_stops_it_although_it_is_folded(
    kind, value, tmp_path
):
    for width in (18, 22, 26):
        with pytest.raises(Breach, match=kind):
            look(tmp_path, in_metadata(f"Ask for {value} about it today.", width))


@pytest.mark.parametrize(("kind", "value"), PERSONAL)
def test_personal_data_in_labels_and_tokens_stops_it(kind, value, tmp_path):
    files = {
        "config.json": CONFIG | {"id2label": {"0": value}, "label2id": {value: 0}},
        "evaluation.json": {"labels": [value], "by label": {value: value}},
        "tokenizer.json": TOKENS | {"added_tokens": [{"id": 3, "content": value}]},
    }
    with pytest.raises(Breach) as error:
        look(tmp_path, **files)
    for place in (
        *("config.json, id2label.0", "config.json, a key of label2id"),
        *("evaluation.json, labels[0]", "evaluation.json, by label.…"),
        *("evaluation.json, a key of by label", "json, added_tokens[0].content"),
    ):
        assert f"{place}: {kind}" in str(error.value)
    assert value not in str(error.value)


@pytest.mark.parametrize(
    "link",
    [
        "mailto:jane@firm.com",
        "https://firm.com/apply?to=jane2@firm.com",
        "jane&#64;firm.com",
    ],
)
def test_an_address_within_a_link_stops_it(link, tmp_path):
    with pytest.raises(Breach, match="an e-mail address"):
        look(tmp_path, f"[Apply]({link})")


def test_names_are_looked_for_in_examples_only(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada"}])
    names = {"model-index": [{"name": "Ada"}]}
    readme = f"---\n{yaml.safe_dump(names)}---\nNamed after Ada."
    folder = save(tmp_path, **{"README.md": readme})
    inspect(folder, [], {}, ["GB"], nlp)
    save(tmp_path, **{"README.md": in_metadata("Ask Ada about the job.")})
    with pytest.raises(
        Breach, match=r"widget\[0\].text: a person's name \(Ask \[NAME\]"
    ):
        inspect(folder, [], {}, ["GB"], nlp)


@pytest.mark.parametrize(
    ("example", "what"),
    [
        ("Call 07700 900123 today.", r"a phone number \(Call \[PHONE\]"),
        ("Ask Ada about the job.", r"a person's name \(Ask \[NAME\]"),
        (TRAINED_ON, "a sentence of the data"),
    ],
)
def test_examples_are_looked_through_before_training(example, what):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada"}])
    given = ("evaluation.examples", ["GB"], nlp)
    refuse_examples(["You need to know about bread."], [TRAINED_ON], *given)
    with pytest.raises(ValueError, match=rf"evaluation.examples\[1\]: {what}"):
        refuse_examples(["You need bread.", example], [TRAINED_ON], *given)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("from jane.doe@example.org", r"an e-mail address \(from \[EMAIL\]\)"),
        ("/data/papers/jobbert.pdf", r"a path of a machine, or a bucket \(/data/…\)"),
        ("https://aclanthology.org/2022.naacl-main.366", None),
    ],
)
def test_what_the_configuration_says_of_a_model_is_looked_through_before_training(
    source, what, hub
):
    reference = {"system": "JobBERT", "score": "SKILL, f1", "value": 0.5}
    reference |= {"test_set": "SkillSpan test", "source": source}
    config = MLMConfig(
        publishing={"test_set": "SkillSpan test", "references": [reference]}
    ).model_dump()
    if what:
        place = r"configuration, publishing.references\[0\].source: "
        with pytest.raises(ValueError, match=place + what):
            check_publishing("tester/model", "mlm", config, "test.csv")
        assert not hub.requests
        check_publishing(None, "mlm", config, "test.csv")
    else:
        check_publishing("tester/model", "mlm", config, "test.csv")


# What is in it: tokens, secrets, paths, files


def test_a_token_that_was_added_stops_it(tmp_path):
    word = {"id": 4, "content": "thistlemere"}
    more = TOKENS | {"added_tokens": [*TOKENS["added_tokens"], word]}
    with pytest.raises(Breach, match=r"its 5 tokens are not those of .*checkpoint"):
        look(tmp_path, **{"tokenizer.json": more})
    renamed = {"model": {"vocab": {**TOKENS["model"]["vocab"], "bake": 2, "##r": 1}}}
    with pytest.raises(Breach, match="tokens are not those of"):
        look(tmp_path, **{"tokenizer.json": TOKENS | renamed})


def test_a_vocabulary_is_hashed_as_that_of_the_checkpoint_was(tmp_path):
    unigram = {"model": {"vocab": [["a", -1.5], ["b", -2.5]]}, "added_tokens": []}
    folder = save(tmp_path, **{"tokenizer.json": unigram, "README.md": "# Model"})
    found = inspect(folder, [], describe_checkpoint(folder), ["GB"])
    assert found["tokenizer"] == "that of the checkpoint, token for token (2)"


def test_of_runs_without_a_hash_the_tokenizer_is_not_compared(tmp_path):
    folder = save(tmp_path, **{"README.md": "# Model"})
    assert inspect(folder, [], {}, ["GB"])["tokenizer"].startswith("not compared")
    (folder / "tokenizer.json").unlink()
    assert inspect(folder, [], {"vocabulary_hash": "0"}, ["GB"])["tokenizer"] == "none"


# In two parts, so that nobody takes them for real ones.
SECRETS = [
    "hf_" + "aB3" * 11,
    "AKIA" + "ABCDEFGH23456789",
    "aws_secret_access_key = " + "aB3/" * 10,
    "ghp_" + "aB3" * 12,
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "https://jane:" + "password1@firm.com/models",
    "https://firm.com/models?token=" + "aB3aB3",
]


def test_a_secret_stops_it_and_is_not_told(tmp_path):
    readme = "\n".join(f"login('{secret}')" for secret in SECRETS)
    with pytest.raises(Breach) as error:
        look(tmp_path, readme, **{"evaluation.json": SECRETS})
    for number, secret in enumerate(SECRETS):
        for place in (
            f"README.md, line {number + 1}:",
            f"evaluation.json, [{number}]:",
        ):
            (told,) = [line for line in str(error.value).splitlines() if place in line]
            assert told.endswith("; take it out, and revoke it")
        assert secret[3:] not in str(error.value)


def test_nothing_is_told_of_a_secret_or_path_beside_what_is_told(tmp_path):
    beside = f"{SECRETS[0]} jane@firm.com /home/anna/adverts.csv"
    with pytest.raises(Breach) as error:
        look(tmp_path, beside)
    for word in ("aB3", "jane", "anna"):
        assert word not in str(error.value)


PATHS = [
    *map("/{}".format, ("home/anna/a.csv", "Users/anna/a", "root/.cache/hub", "tmp/x")),
    *("C:\\Users\\anna", "~/adverts", "s3://bucket/adverts", "file:///adverts"),
    "https://bucket.s3.eu-west-2.amazonaws.com/adverts",
]


def test_a_path_of_a_machine_or_a_bucket_stops_it(tmp_path):
    lines = "\n".join(f"Trained on `{path}`." for path in PATHS)
    folder = save(
        tmp_path,
        **{"README.md": lines, "chat_template.jinja": lines, "evaluation.json": PATHS},
    )
    weights = {"w": np.zeros(4, np.float32)}
    said = {f"from {number}": path for number, path in enumerate(PATHS)}
    save_file(weights, folder / "model.safetensors", said)
    with pytest.raises(Breach) as error:
        inspect(folder, [], {}, ["GB"])
    for number in range(len(PATHS)):
        for place in (
            *(f"README.md, line {number + 1}", f"evaluation.json, [{number}]"),
            f"chat_template.jinja, line {number + 1}",
            f"model.safetensors, from {number}",
        ):
            assert f"{place}: a path of a machine, or a bucket (" in str(error.value)
    assert "anna" not in str(error.value)


def test_what_only_looks_like_a_path_or_a_secret_does_not_stop_it(tmp_path):
    lines = (
        *(
            "https://huggingface.co/owner/name/blob/main/config.json",
            "hf://datasets/a/b",
        ),
        *("precision/recall/F1", "see ../docs/publishing.md", "24/7/365", "</td></tr>"),
        *("hf_hub_download('owner/name')", "https://a.org/?page=2", "run:MLMFlow/17"),
        *("an S3 folder (s3://…)", "a token=True", "[EMAIL] and [PHONE]", "ratio 1:2"),
    )
    assert look(tmp_path, "\n".join(lines))["paths"] == 0


@pytest.mark.parametrize("name", ["optimizer.pt", "adverts.csv", ".cache/config.json"])
def test_a_file_that_is_not_published_stops_it(name, tmp_path):
    with pytest.raises(Breach, match=f"{name}: not a file of a model or its card"):
        look(tmp_path, **{name: "{}"})


def test_a_link_stops_it(tmp_path):
    folder = save(tmp_path / "published")
    (tmp_path / "elsewhere.md").write_text("# Elsewhere")
    (folder / "chat_template.jinja").symlink_to(tmp_path / "elsewhere.md")
    (folder / "figures").symlink_to(tmp_path)
    with pytest.raises(Breach) as error:
        look(tmp_path)
    assert "- chat_template.jinja: not a file of a model" in str(error.value)
    assert "- figures: not a file of a model" in str(error.value)


def test_all_that_is_found_is_listed_at_once(tmp_path):
    with pytest.raises(Breach) as error:
        look(
            tmp_path,
            f"# Model\n\nAsk jane@firm.com.\n\n{TRAINED_ON}\n",
            **{"optimizer.pt": "", "config.json": CONFIG | {"from": "/home/anna/a"}},
        )
    head, *listed = str(error.value).splitlines()
    assert "nothing was published" in head
    assert [line.partition(":")[0] for line in listed] == [
        *("- optimizer.pt", "- README.md, line 3", "- config.json, from"),
        "- README.md, line 5",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"evaluation.json": "{"}, r"evaluation\.json: not JSON"),
        ({"2_Dense/model.safetensors": "x"}, "2_Dense/.*: not safetensors"),
        ({"README.md": "---\na: [\n---\n"}, r"README\.md: no YAML at its top"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        inspect(save(tmp_path, **{"README.md": "# A"} | files), [], {}, ["GB"])


def test_a_folder_without_a_card_was_not_looked_through(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no README\.md"):
        inspect(tmp_path / "nowhere", [], {}, ["GB"])


def test_what_publishes_nothing_reads_no_earlier_run(tmp_path, capsys):
    """Its data may be gone by then, and a trained model must not hang on that."""

    def texts():
        raise FileNotFoundError("the adverts of an earlier run")

    config = {"evaluation": {"examples": ["She wants SQL."]}}
    check_examples(None, config, texts)
    assert publish(make_run(tmp_path) | {"stored_as": "18"}, texts, None) is None
    assert "make publish RUN=MLMFlow/18 TO=OWNER/NAME" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        check_examples("charity/model", config, texts)
