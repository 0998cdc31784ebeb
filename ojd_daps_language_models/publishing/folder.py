"""The folder that is published: the model of a run, what describes it, nothing else."""

import errno
import json
import math
import re
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ojd_daps_language_models.archive import unpack_folder

README, TOKENIZER = "README.md", "tokenizer.json"
# What transformers and sentence-transformers save, without pickles, states of training
# and code. Fast tokenizers need no vocabulary beside theirs, and none is compared.
_MODEL_FILE = re.compile(
    r"""
    (?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map
       |added_tokens|modules|config_sentence_transformers|sentence_bert_config)\.json
    | chat_template\.jinja
    | (?:[0-9]+_[A-Za-z]+/)?model(?:-[0-9]+-of-[0-9]+)?\.safetensors(?:\.index\.json)?
    | [0-9]+_[A-Za-z]+/config\.json
    """,
    re.VERBOSE,
)
_CARD_FILE = re.compile(r"README\.md|evaluation\.json|figures/[A-Za-z0-9][\w-]*\.png")
# Below a root or a home, on Windows, or in a bucket; web addresses are no such places.
LOCAL_PATH = re.compile(
    r"(?<![\w/.~<*])(?:~?(?:/[\w.@+-]+){2,}|~/[\w.])|\b[A-Za-z]:\\{1,2}\w{2}"
    r"|\b(?:file|dbfs|hdfs|s3[an]?|gs|gcs|az|abfss?|wasbs?)://[\w/~.-]"
    r"|\bhttps?://(?:[\w.-]+\.)?s3[\w.-]*\.amazonaws\.com\b"
)
# Under these, transformers keep where a model was loaded from.
_ORIGINS = {"_name_or_path", "name_or_path"}


def may_leave(name: str) -> bool:
    """Whether a file of this name, such as `1_Pooling/config.json`, is published."""
    return bool(_MODEL_FILE.fullmatch(name) or _CARD_FILE.fullmatch(name))


def write_folder(
    run: dict[str, Any], folder: Path, repository: str | None = None
) -> Path:
    """Write what a run publishes; the same run gives the same bytes.

    Paths of this machine are taken out of the JSON files, which otherwise stay as they
    are. The folder is complete, or as it was before.

    Args:
        run: see `getters.runs.describe_run`.
        folder: empty, or new.
        repository: `OWNER/NAME` on the hub, for the model card.

    Returns:
        The folder.

    Raises:
        ValueError: the folder is not empty, or the model has a file that may not leave.
        OSError: the disk is full.
    """
    folder = folder.resolve()
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: expected an empty or new folder, found files")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=".", dir=folder.parent) as place:
            written = _write(run, Path(place) / folder.name, repository)
            written.replace(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        needed = math.ceil(len(run["model"]) / 1e6)
        free = math.floor(shutil.disk_usage(folder.parent).free / 1e6)
        raise OSError(
            f"{folder}: the disk is full ({error.strerror}); the model needs {needed:,}"
            f" MB, and its card a few more; {free:,} MB are free. Nothing was published"
        ) from error
    return folder


def _write(run: dict[str, Any], folder: Path, repository: str | None) -> Path:
    from ojd_daps_language_models.publishing.model_card import write_card

    model = f"{run['flow']}/{run['run_id']}, artifact 'model'"
    try:
        unpack_folder(run["model"], folder)
    except tarfile.TarError as error:
        raise ValueError(f"{model}: damaged ({error})") from error
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    # A card of sentence-transformers may be there: ours is written over it.
    refused = [
        name for name in names if name != README and not _MODEL_FILE.fullmatch(name)
    ]
    if refused:
        raise ValueError(
            f"{model}: {', '.join(refused)} may not leave; expected only config, "
            "tokenizer and safetensors, so training packed what it should not"
        )
    for path, name in zip(files, names, strict=True):
        if path.suffix == ".json" and name != TOKENIZER:  # its tokens are no paths
            _strip_paths(path, run["encoder"]["checkpoint"])
    write_card(run, folder, repository)
    return folder


def _strip_paths(path: Path, checkpoint: str) -> None:
    content = json.loads(path.read_bytes())
    stripped = _without_paths(content, checkpoint)
    if stripped != content:
        text = json.dumps(stripped, indent=2, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")


def _without_paths(value: Any, checkpoint: str) -> Any:
    """The value of a JSON file without what is a path, or the name of a checkpoint."""

    def is_path(item: Any) -> bool:
        found = isinstance(item, str) and LOCAL_PATH.match(item)
        return bool(found) or ("/" in checkpoint and item == checkpoint)

    if isinstance(value, dict):
        return {
            key: _without_paths(item, checkpoint)
            for key, item in value.items()
            if key not in _ORIGINS and not is_path(item)
        }
    if isinstance(value, list):
        return [_without_paths(item, checkpoint) for item in value if not is_path(item)]
    return value
