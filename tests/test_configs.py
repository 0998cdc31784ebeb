"""A configuration says what is wrong with it, and means what it says."""

import pytest
import yaml

from ojd_daps_language_models import PROJECT_DIR, configs
from ojd_daps_language_models.configs import (
    MLMConfig,
    NERConfig,
    NSPConfig,
    PrepareAdvertsConfig,
    Section,
    parse_config,
)

FILES = sorted((PROJECT_DIR / "configs").rglob("*.yaml"))
MODELS = {  # NSPConfig is that of nsp.yaml
    name.removesuffix("Config").lower(): model
    for name, model in vars(configs).items()
    if name.endswith("Config")
}


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_shipped_files_name_every_key_and_comment_it(path):
    text, config_model = path.read_text(), MODELS[path.stem.replace("_", "")]
    config = parse_config(text, config_model)

    def keys(values, model):
        assert set(values) == set(model.model_fields)
        for name, value in values.items():
            inner = model.model_fields[name].annotation
            if isinstance(inner, type) and issubclass(inner, Section):
                keys(value, inner)

    keys(yaml.safe_load(text), config_model)
    assert config == parse_config(yaml.safe_dump(config.model_dump()), config_model)
    leaves = [line for line in text.splitlines() if line.startswith("  ")]
    bare = [line for line in leaves if ": " in line and "#" not in line]
    assert not bare, "a value without a word on its unit or range"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {paths: x}", "data.paths: no such key; did you mean 'path'?"),
        ("trainning: {}", "trainning: no such key; did you mean 'training'?"),
        ("data: {columns: {txt: a}}", "did you mean 'text'?"),
        ("data: {zzz: 1}", "data.zzz: no such key; known: path, columns"),
        ("training: {epochs: 1.5}", "training.epochs: .*integer.* found 1.5"),
        ("training: {epochs: -1}", "training.epochs: .*greater than or equal to 0"),
        ("masking: {probability: 2}", "masking.probability: .*less than 1; found 2"),
        ("split: {validation: 0.5, test: 0.5}", "leave a share for training"),
        ("personal_data: {phone_regions: [uk]}", "phone_regions.0.*ISO 3166"),
        ("personal_data: {phone_regions: [UK]}", "country code 'UK'.* such as GB;"),
        ("data: {language: gb}", "code 'gb'.* perhaps en; found 'gb'"),
        ("data: {language: EN}", "code 'EN'.* perhaps en;"),
        ("data: {language: welsh}", r"language: .*\(ISO 639-1\), such as en;"),
        ("publishing: {references: [{sytem: x}]}", "0.sytem: .*mean 'system'?"),
        ("publishing: {references: [{}]}", "references.0.value: .*as published"),
        ("publishing: {references: [{source: ''}]}", "0.source: .*at least 1"),
        ("publishing: {push_to: me}", "OWNER/NAME"),
        ("evaluation: {fill_mask: [no mask here]}", "fill_mask.0"),
        ("model: {checkpoint: 3}", "model.checkpoint: .*string"),
        ("data: sample", "data: .*found 'sample'"),
        ("1: x", "^1: no such key; known: data, "),
        ("publishing: {references: [{3: x}]}", "0.3: no such key; known: system"),
        ("- 1", "expected sections"),
        ("a: [", "not a YAML text"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        parse_config(text, MLMConfig)


def test_a_section_cannot_be_said_twice():
    """YAML takes the last, and what the first says would be lost without a word."""
    text = "data: {path: mine.csv}\nsplit: {by: cluster}\n"
    said = "'data' is in line 1 and again in line 3; expected each key once"
    with pytest.raises(ValueError, match=said):
        parse_config(f"{text}data: {{columns: {{employer: null}}}}", MLMConfig)
    with pytest.raises(ValueError, match="'by' is in line 2 and again in line 3"):
        parse_config("split:\n  by: employer\n  by: cluster", MLMConfig)


def test_what_is_merged_may_be_said_again():
    text = "compute: {<<: {<<: {gpu: 1}, cpu: 2}, cpu: 3}"
    compute = parse_config(text, MLMConfig).compute
    assert (compute.gpu, compute.cpu) == (1, 3)


@pytest.mark.parametrize("label", ["JOB TITLE", "JOB\\tTITLE", "PAY ", ""])
def test_a_label_with_blanks_is_refused_in_a_sentence(label):
    said = r"data.labels.0: a label is one word without blanks: rename it in the file"
    with pytest.raises(ValueError, match=said):
        parse_config(f'data: {{labels: ["{label}"]}}', NERConfig)


@pytest.mark.parametrize("layers", ["{SKILL: ''}", "{}"])
def test_a_mistake_in_a_mapping_is_named(layers):
    with pytest.raises(ValueError, match=r"data\.layers"):
        parse_config(f"data: {{layers: {layers}}}", NERConfig)


def test_what_does_not_go_together_is_said_without_the_whole_section():
    with pytest.raises(ValueError) as error:
        parse_config("training: {r_drop: 1, dropout: 0}", NERConfig)
    said = "training: r_drop 1 compares two readings that differ by dropout; expected "
    assert str(error.value) == f"{said}dropout above 0, or r_drop 0"


def test_a_step_has_room_for_both_pairs_of_a_first_sentence():
    for size, batches in ((1, 1), (15, 3)):
        text = f"training: {{batch_size: {size}, accumulation: {batches}}}"
        said = f"training: batch_size {size} times accumulation {batches} is odd"
        with pytest.raises(ValueError, match=said):
            parse_config(text, NSPConfig)
    assert parse_config("training: {batch_size: 15, accumulation: 2}", NSPConfig)


@pytest.mark.parametrize("model", [MLMConfig, NSPConfig, PrepareAdvertsConfig])
def test_data_without_employers_are_not_divided_by_them(model):
    """That needs no data to tell, and came after all the work on them."""
    without = "data: {columns: {employer: null}}\n"
    with pytest.raises(ValueError) as error:
        parse_config(without, model)
    message = str(error.value)
    assert message.startswith("data.columns.employer is null, and split.by ")
    remedies = message.partition(", or say ")[2].replace(" and ", "\n")
    assert remedies.startswith("split: {by: cluster}")
    config = parse_config(f"{without}{remedies}", model)
    assert config.split.by == "cluster"
    with pytest.raises(ValueError, match="same_employer would need it"):
        parse_config(f"{without}split: {{by: cluster}}", NSPConfig)


def test_all_mistakes_are_said_at_once():
    with pytest.raises(ValueError) as error:
        parse_config("training: {epochs: x}\nmasking: {probability: 7}", MLMConfig)
    assert len(str(error.value).splitlines()) == 2


def test_yaml_reads_1e_4_as_a_text_but_we_mean_a_number():
    config = parse_config("training: {learning_rate: 1e-4}", MLMConfig)
    assert config.training.learning_rate == 1e-4


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("off", False)])
def test_yes_and_no_are_words_that_still_say_what_is_true(word, value):
    """Norway is no truth value."""
    text = f"personal_data: {{phone_regions: [NO]}}\npublishing: {{private: {word}}}"
    config = parse_config(text, MLMConfig)
    assert config.personal_data.phone_regions == ["NO"]
    assert config.publishing.private is value


@pytest.mark.parametrize("name", sorted(set(MODELS) - {""}))
def test_what_a_file_leaves_out_is_as_in_the_shipped_one(name):
    (path,) = (
        path
        for path in FILES
        if path.parent.name == "configs" and path.stem.replace("_", "") == name
    )
    shipped = parse_config(path.read_text(), MODELS[name])
    for section in {"training", "compute", "masking", "shards"} & set(dict(shipped)):
        left_out = parse_config(f"{section}: {{}}", MODELS[name])
        assert getattr(left_out, section) == getattr(shipped, section)


@pytest.mark.parametrize("name", ["2024-01-01", "2024-13-45"])
def test_a_name_that_looks_like_a_date_is_a_name(name):
    config = parse_config(f"model: {{revision: {name}}}", MLMConfig)
    assert config.model.revision == name


def test_an_empty_file_means_the_defaults():
    assert parse_config("", MLMConfig) == MLMConfig()


def test_shares_of_negatives_add_up():
    text = (
        "pairs: {shares: {another_advert: 0.5, same_employer: 0.5, same_advert: 0.5}}"
    )
    with pytest.raises(ValueError, match=r"pairs.shares: .*add up to 1; found 1.5"):
        parse_config(text, NSPConfig)
