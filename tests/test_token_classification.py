"""A tagger learns whole words, in windows, and a pipeline finds what was scored."""

import numpy as np
import pytest
from conftest import sample_texts

from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.configs import NERTraining
from ojd_daps_language_models.preprocessing.packing import load_tokenizer
from ojd_daps_language_models.preprocessing.spans import (
    find_words,
    load_word_tokenizer,
    tag_names,
)
from ojd_daps_language_models.preprocessing.windows import encode_windows

LABELS = ["SKILL", "BENEFIT"]
TEXTS = [
    f"{opening} Skills: {skill} today. Benefits: {benefit} soon. {closing}"
    for number, text in enumerate(sample_texts()[:12])
    for opening, closing in [
        (" ".join(text.split()[2:40]), " ".join(text.split()[-20:]))
    ]
    for skill, benefit in [
        [
            ("unbelievable spreadsheets", "subsidised gymnasium"),
            ("forklift trucks", "free parking"),
        ][number % 2]
    ]
]


@pytest.fixture(scope="module")
def made(tiny_bert):
    """Windows of texts whose skills and benefits stand behind a heading."""
    from ojd_daps_language_models.training.token_classification import TaggedWindows

    nlp = load_word_tokenizer()
    words = [find_words(text, nlp) for text in TEXTS]
    spans = []
    for text, places in zip(TEXTS, words, strict=True):
        said = [text[start:end] for start, end in places]
        found = [
            (said.index(heading, 20) + 2, label)
            for heading, label in (("Skills", "SKILL"), ("Benefits", "BENEFIT"))
        ]
        spans.append([(first, first + 2, label) for first, label in found])
    windows = encode_windows(TEXTS, words, load_tokenizer(tiny_bert), 64, 16)
    return words, spans, TaggedWindows(windows, [(LABELS, spans)], tiny_bert)


def test_each_token_of_a_word_is_tagged_once(made):
    """Read back from the batches: each span begins once and goes on from there."""
    _, spans, tagged = made
    names = tag_names(LABELS)
    said = []
    for start in range(0, len(tagged), 7):
        batch = tagged.__getitems__(range(start, min(start + 7, len(tagged))))
        labels, ids = batch["labels"][..., 0].numpy(), batch["input_ids"].numpy()
        assert (labels[batch["attention_mask"].numpy() == 0] == -100).all()
        assert labels.shape == ids.shape
        said += [names[tag] for tag in labels[labels >= 0]]
    begins = [tag for tag in said if tag.startswith("B-")]
    assert len(begins) == sum(map(len, spans))
    assert len([tag for tag in said if tag.startswith("I-")]) >= len(begins)
    for before, tag in zip(["O", *said], said, strict=False):
        assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_what_the_tags_say_is_read_back_from_windows(made):
    from ojd_daps_language_models.training.token_classification import read_entities

    _, spans, tagged = made
    longest = tagged.inputs.lengths.max()
    logits = np.zeros((len(tagged), longest, len(tag_names(LABELS))), np.float32)
    for number in range(len(tagged)):
        labels = tagged.__getitems__([number])["labels"][0, :, 0].numpy()
        for place, tag in enumerate(labels):
            # What no loss counts says nonsense, which must not matter.
            logits[number, place, tag if tag >= 0 else 3] = 9
    assert read_entities(logits, tagged.windows, LABELS) == spans


@pytest.fixture(scope="module")
def trained(made, tiny_bert, tmp_path_factory):
    """Folder of a tagger that was trained on the texts."""
    from ojd_daps_language_models.training.classification import (
        fit_classifier,
        pack_model,
    )
    from ojd_daps_language_models.training.fit import TrainingLog
    from ojd_daps_language_models.training.token_classification import load_tagger

    config = NERTraining(
        learning_rate=1e-3,
        batch_size=4,
        max_length=64,
        overlap=16,
        precision="fp32",
        freeze_word_embeddings=False,
    )
    model, new = load_tagger(tiny_bert, LABELS, 0)
    assert new
    fit_classifier(model, made[2], made[2], config, 30, 0, TrainingLog())
    folder = tmp_path_factory.mktemp("tagger")
    return unpack_folder(pack_model(model, tiny_bert, 64), folder)


def test_a_batch_of_which_no_token_is_scored_does_not_end_the_training(tiny_bert):
    """Such as a text of one control character, of which no token is left."""
    from ojd_daps_language_models.training.classification import fit_classifier
    from ojd_daps_language_models.training.fit import TrainingLog
    from ojd_daps_language_models.training.token_classification import (
        TaggedWindows,
        load_tagger,
    )

    texts = ["Skills: forklift trucks", "\x07"]
    words = [find_words(text, load_word_tokenizer()) for text in texts]
    windows = encode_windows(texts, words, load_tokenizer(tiny_bert), 64, 16)
    tagged = TaggedWindows(windows, [(LABELS, [[], []])], tiny_bert)
    model, _ = load_tagger(tiny_bert, LABELS, 0)
    config, log = NERTraining(batch_size=1, precision="fp32"), TrainingLog()
    fit_classifier(model, tagged, tagged, config, 1, 0, log, r_drop=1.0)
    assert {row["step"] for row in log.rows} == {1, 2}


def in_characters(made):
    return [
        [
            {
                "label": label,
                "start": places[first][0],
                "end": places[stop - 1][1],
                "text": text[places[first][0] : places[stop - 1][1]],
            }
            for first, stop, label in spans
        ]
        for text, places, spans in zip(TEXTS, made[0], made[1], strict=True)
    ]


def test_it_finds_entities_beyond_its_window(made, trained):
    from ojd_daps_language_models.training.token_classification import find_entities

    assert (made[2].windows.token_counts > 62).all()
    assert find_entities(TEXTS, trained, overlap=16) == in_characters(made)
    assert find_entities([], trained) == []
    assert find_entities([""], trained) == [[]]


def test_a_pipeline_with_a_stride_finds_most_of_it_in_a_whole_advert(made, trained):
    """It knows nothing of words, and puts its chunks together in another way."""
    from transformers import pipeline

    find = pipeline(
        "token-classification",
        model=str(trained),
        aggregation_strategy="simple",
        stride=16,
    )
    right = 0
    for text, expected in zip(TEXTS, in_characters(made), strict=True):
        found = {
            (entity["entity_group"], entity["start"], entity["end"])
            for entity in find(text)
        }
        right += len(found & {(e["label"], e["start"], e["end"]) for e in expected})
    assert right >= 0.75 * sum(map(len, made[1]))


def test_a_head_for_other_labels_is_not_taken_over(trained, tiny_bert):
    from ojd_daps_language_models.training.token_classification import load_tagger

    own, new = load_tagger(trained, LABELS, 0)
    assert not new
    for labels in (["BENEFIT", "SKILL"], ["SKILL"]):
        other, new = load_tagger(trained, labels, 0)
        assert new
        rows = min(len(own.classifier.weight), len(other.classifier.weight))
        assert not np.allclose(
            own.classifier.weight[:rows].detach(),
            other.classifier.weight[:rows].detach(),
        )


def test_label_sets_learn_together_what_each_has_to_say(made, tiny_bert):
    """Of one encoder with a head for each, though they have other numbers of labels."""
    from ojd_daps_language_models.training.classification import fit_classifier
    from ojd_daps_language_models.training.fit import TrainingLog
    from ojd_daps_language_models.training.token_classification import (
        TaggedWindows,
        learning_together,
        load_tagger,
        read_entities,
        score_windows,
    )

    _, spans, tagged = made
    sets = [["BENEFIT"], LABELS]
    windows = TaggedWindows(
        tagged.windows, [(labels, spans) for labels in sets], tiny_bert
    )
    models = [load_tagger(tiny_bert, labels, 0)[0] for labels in sets]
    config = NERTraining(
        learning_rate=1e-3,
        batch_size=4,
        precision="fp32",
        freeze_word_embeddings=False,
    )
    with learning_together(models) as model:
        fit_classifier(model, windows, windows, config, 30, 0, TrainingLog())
    for labels, model in zip(sets, models, strict=True):
        assert model.classifier.out_features == len(tag_names(labels))
        found = read_entities(
            score_windows(model, windows, 8, "fp32"), windows.windows, labels
        )
        gold = [[span for span in own if span[2] in labels] for own in spans]
        right = sum(len({*a} & {*b}) for a, b in zip(found, gold, strict=True))
        assert right >= 0.75 * sum(map(len, gold))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_what_learnt_together_answers_alike_apart(kind, tiny_bert):
    """Also where a layer of its own stands between encoder and classifier."""
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    from ojd_daps_language_models.training.token_classification import learning_together

    special = ("pad", "bos", "eos", "cls", "sep")
    config = AutoConfig.for_model(
        kind,
        **{"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3},
        **{f"{name}_token_id": number for number, name in enumerate(special)},
    )
    models = [
        AutoModelForTokenClassification.from_config(config).eval() for _ in range(2)
    ]
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        with learning_together(models) as model:
            together = model(ids).logits
        for number, model in enumerate(models):
            torch.testing.assert_close(model(ids).logits, together[:, :, number])
