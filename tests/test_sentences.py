"""Sentences keep their order and their words; lines and bullets always end one."""

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.training import Example

from ojd_daps_language_models.preprocessing.sentences import (
    cut_text,
    describe_sentence_pipeline,
    load_sentence_pipeline,
    split_sentences,
)

PIECES = [
    *(
        "We pay.",
        "Apply now!",
        "Why us?",
        " ",
        "\n",
        "\n\n",
        "- ",
        "•",
        "e.g. ",
        "Ltd. ",
    ),
    *("etc. and", "(really!) good", "1. ", "...", "…", "“Yes.”", "no", "a.m. We", "\t"),
    *(
        "\xa0",
        "\u2028",
        "www.firm.com",
        ".",
        "!?",
        "3.5",
        "Ph.D.",
        "Node.js",
        "é",
        "日本。",
    ),
]


@pytest.fixture(scope="module")
def rules():
    return load_sentence_pipeline("auto")


def split(text, nlp):
    return next(split_sentences([text], nlp))


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text())
@settings(max_examples=300, deadline=None)
def test_sentences_are_the_text_up_to_blanks(rules, text):
    sentences = split(text, rules)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
    assert not any("\n" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    "sentences",
    [
        ["We pay £30k p.a.", "We offer etc. and more etc.", "Skills are e.g. Python."],
        ["Apex Ltd. is here.", "We work for Apex Ltd.", "The pay is good."],
        ["1. Manage the team.", "2. Ask Dr. Jones, Prof. Smith or Mr. Brown."],
        ["It takes approx. 30 hrs. a week.", "Tel. 020 is No. 5."],
        ['He (really!) said "Yes!"', "Then we left at 5 p.m.", "You too?", "Yes!"],
        ["We use Node.js 3.5 in the U.S. market.", "See www.firm.com now."],
        ["It is good...", "This is better."],
        ["Apply now!", "[URL] is the place.", "(It is.)", '"Yes?"', "“Yes!”", "Good."],
        ["John F. Smith has a B. A. in Law.", "12. He left."],
    ],
)
def test_rules_know_abbreviations(rules, sentences):
    if rules.meta["name"] != "rules":
        pytest.skip("en_core_web_sm is installed: its own judgement counts")
    assert split(" ".join(sentences), rules) == sentences


def test_lines_and_bullets_are_boundaries(rules):
    text = "Skills\n- Python\n- SQL. Some R\n\nPay: £30k • Car • Phone\r\nEnd"
    assert split(text, rules) == [
        *("Skills", "- Python", "- SQL.", "Some R"),
        *("Pay: £30k", "• Car", "• Phone", "End"),
    ]


def test_each_advert_gets_its_own_sentences_in_order(rules):
    texts = [f"Advert {i}. It is here.\nLine {i}" for i in range(10)]
    texts[3] = texts[7] = " \n "
    for batch_size in (1, 3, 100):
        found = list(split_sentences(iter(texts), rules, batch_size))
        assert found[3] == found[7] == []
        assert found[9] == ["Advert 9.", "It is here.", "Line 9"]
        assert len(found) == 10


@pytest.mark.parametrize("unit", ["word word. ", "(", "!", "a", "- \n"])
def test_texts_longer_than_spacy_takes_are_split(rules, unit):
    text = unit * (1_100_000 // len(unit))
    assert len(text) > rules.max_length
    joined = "".join(split(text, rules))
    assert joined.replace(" ", "") == "".join(text.split())


def test_pieces_are_cut_between_words():
    text = "word " * 5_000
    pieces = cut_text(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 10_000
    assert all(
        piece.strip().split(" ") == ["word"] * piece.count("w") for piece in pieces
    )


@pytest.mark.parametrize("listens", [True, False])
def test_of_a_trained_pipeline_only_the_sentence_part_is_used(tmp_path, listens):
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": {"width": 16, "depth": 1}})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16}
    nlp.add_pipe("senter", config={"model": {"tok2vec": listener}} if listens else {})
    nlp.add_pipe("entity_ruler")
    doc = nlp.make_doc("We pay. You work.")
    starts = [True, False, False, True, False, False]
    words = [token.text for token in doc]
    example = Example.from_dict(doc, {"words": words, "sent_starts": starts})
    nlp.initialize(lambda: [example])
    if not listens:
        nlp.disable_pipe("senter")  # as in spaCy's own pipelines
    nlp.to_disk(tmp_path / "pipeline")

    nlp = load_sentence_pipeline(str(tmp_path / "pipeline"))
    assert nlp.pipe_names == (["tok2vec", "senter"] if listens else ["senter"])
    text = "We pay well. You work.\nGood?"
    assert "".join(split(text, nlp)).replace(" ", "") == "Wepaywell.Youwork.Good?"
    assert describe_sentence_pipeline(nlp).endswith("senter)")


def test_it_can_be_said_what_split_the_sentences(monkeypatch):
    monkeypatch.setattr(spacy.util, "is_package", lambda name: False)
    nlp = load_sentence_pipeline("auto")
    said = f"en_rules {spacy.__version__} (sentencizer, mend_boundaries)"
    assert describe_sentence_pipeline(nlp) == said


def test_a_pipeline_that_is_not_there_or_finds_no_sentences_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no_such_pipeline: no spaCy pipeline"):
        load_sentence_pipeline("no_such_pipeline")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler")
    nlp.to_disk(tmp_path / "pipeline")
    with pytest.raises(ValueError, match=r"senter or .* found entity_ruler"):
        load_sentence_pipeline(str(tmp_path / "pipeline"))
