"""Where the bytes are: local files, objects on S3, files of datasets on the hub.

S3 goes through boto3, and smart_open on top of it for streaming. The other candidate,
`pyarrow.fs.S3FileSystem`, was tried beside it against moto's server:

- A profile that assumes a role (`role_arn`, `source_profile`): boto3 does; pyarrow
  sends the request unsigned and is refused. boto3 is also what Metaflow itself uses,
  whose settings hold here too: where Metaflow gets in, this module gets in.
- Without credentials boto3 says so at once. A refusal is `AccessDenied` from boto3, "No
  response body" from pyarrow, which also cannot tell a missing bucket from a missing
  key.
- A connection cut midway: boto3's own stream breaks; pyarrow and smart_open both go on
  at the byte where it stopped. smart_open tries five times (after 1, 2, 4, 8 and 16
  seconds), and up to six times per request (botocore's adaptive mode).
- Memory: both stream, a file is never held as a whole.
- Service unavailable (503): pyarrow sends 31 requests in 6 s, boto3 three in 1 s;
  AWS_MAX_ATTEMPTS and AWS_RETRY_MODE set the latter for listings and downloads.

Files of the hub are downloaded into its cache by huggingface_hub, which retries a
broken download five times and goes on where it stopped.
"""

import glob
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

logger = logging.getLogger(__name__)

FORMATS = {
    ".csv": "CSV",
    ".tsv": "tab-separated values",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".parquet": "Parquet",
}
# Text is about so many times as long as the file that it is packed in.
PACKED = {".gz": 5, ".parquet": 4}
# Descriptions of a dataset that lie beside its data on the hub.
NOT_DATA = {"dataset_info.json", "dataset_infos.json"}
EXPECTED = "a file, folder, glob, s3://bucket/… or hf://datasets/owner/name"


class File(NamedTuple):
    """A file to read.

    location: a local path, `s3://bucket/key`, or `hf://datasets/owner/name@commit/file`.
    name: what the user would call it, unique among the files of one input.
    row_groups: of a Parquet file those to read; None: all.
    """

    location: str
    name: str
    row_groups: tuple[int, ...] | None = None


def sample_path(task: str) -> Path:
    """The sample of a task that is shipped with the package."""
    return Path(__file__).parent.parent / "sample_data" / f"{task}.jsonl.gz"


def file_suffix(name: str) -> str:
    """The suffix that tells the format: `.csv` of `adverts.csv.gz`."""
    return Path(name.lower().removesuffix(".gz")).suffix


def list_files(path: str, formats: Mapping[str, str] = FORMATS) -> list[File]:
    """The files that a path stands for, sorted.

    Of a folder (or an S3 prefix) its own files are taken, of a dataset on the hub all
    of them; hidden files, those in hidden folders and unknown formats are left out, and
    named in a warning.

    Args:
        path: a file, folder, glob, `s3://…` or `hf://…`.
        formats: suffixes of the files that can be read.

    Raises:
        FileNotFoundError: there is no such file, bucket or dataset, or none of a
            format that can be read.
        PermissionError: access was refused.
        ConnectionError: S3 or the hub cannot be reached.
        ValueError: the path is none of these.
    """
    if path.startswith("s3://"):
        locations = _list_s3(path, formats)
    elif path.startswith("hf://"):
        locations = _list_hub(path, formats)
    elif "://" in path:
        raise ValueError(f"{path}: expected {EXPECTED}")
    else:
        locations = _list_local(path, formats)
    names = [location.rpartition("/")[2] for location in locations]
    if len(set(names)) < len(names):
        names = locations
    return [File(*pair) for pair in zip(locations, names, strict=True)]


def count_bytes(path: str) -> int:
    """How much text a path stands for, as an estimate: whatever the format of a file.

    It raises what `list_files` does; but where nothing is there, it is nothing.
    """
    sizes = _sizes(path)
    return sum(size * PACKED.get(Path(name).suffix, 1) for name, size in sizes.items())


def text_sizes(path: str, files: list[File]) -> list[int]:
    """The bytes of text in each file, estimated as `count_bytes` does.

    Args:
        path: that the files were listed from.
        files: from `list_files`.
    """
    return [
        size * PACKED.get(Path(file.location).suffix, 1)
        for file, size in zip(files, file_sizes(path, files), strict=True)
    ]


def file_sizes(path: str, files: list[File]) -> list[int | None]:
    """The bytes of each file as it is stored; None where it is not there.

    Args:
        path: that the files are listed from.
        files: with their locations.
    """
    sizes = _sizes(path)
    return [sizes.get(_name_in_listing(file.location)) for file in files]


def open_file(file: File) -> BinaryIO:
    """The bytes of a file as a seekable stream; read it within `explained_faults`."""
    if file.location.startswith("s3://"):
        from smart_open import s3

        client = _s3_client(max_attempts=6, mode="adaptive")  # as smart_open's own
        return s3.open(*_split_s3(file.location), "rb", client=client)
    if file.location.startswith("hf://"):
        from huggingface_hub import hf_hub_download

        repository, commit, name = _split_hub(file.location)
        return open(
            hf_hub_download(repository, name, repo_type="dataset", revision=commit),
            "rb",
        )
    return open(file.location, "rb")


def explained_faults(location: str):
    """A context in which faults of the S3 or hub client become one clear line."""
    if location.startswith("s3://"):
        return _explained_s3_faults(location)
    if location.startswith("hf://"):
        return explained_hub_faults(location, "dataset")
    return nullcontext()


def download_s3_folder(url: str, folder: Path, suffixes: tuple[str, ...]) -> None:
    """Copy the objects under an S3 prefix that end in `suffixes` into a folder."""
    bucket, prefix = _split_s3(url.rstrip("/") + "/")
    with _explained_s3_faults(url):
        client = _s3_client()
        keys = [
            key for key in _s3_keys(client, bucket, prefix) if key.endswith(suffixes)
        ]
        if not keys:
            raise FileNotFoundError(
                f"{url}: no such folder, or no {', '.join(suffixes)} in it"
            )
        for key in keys:
            target = folder / key.removeprefix(prefix)
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{url}: the key '{key}' points out of its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(target))


@contextmanager
def explained_hub_faults(name: str, kind: str) -> Iterator[None]:
    """Say in one line what the hub refused, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except GatedRepoError as error:
        raise PermissionError(
            f"{name}: its owner gives access on request; ask on the {kind}'s page, "
            f"then {log_in}"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: the hub has no such {kind}, or it is private: then {log_in}"
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: the hub has no such revision of this {kind}"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(
            f"{name}: the hub is switched off by HF_HUB_OFFLINE=1"
        ) from error
    except RemoteEntryNotFoundError as error:
        raise FileNotFoundError(f"{name}: no such file in this {kind}") from error
    except HFValidationError as error:
        raise ValueError(f"{name}: {error}") from error
    except HfHubHTTPError as error:
        answer = " ".join(str(error).split())
        raise ConnectionError(f"{name}: the hub answered: {answer}") from error
    except (LocalEntryNotFoundError, HTTPError) as error:
        raise ConnectionError(
            f"{name}: the hub cannot be reached, and there is no copy in its cache; "
            "check the connection (or HF_ENDPOINT, HF_HUB_OFFLINE)"
        ) from error


def _list_local(path: str, formats: Mapping[str, str]) -> list[str]:
    place = Path(path).expanduser()
    if place.is_file():
        return [str(place)]
    if place.is_dir():
        names = [entry.name for entry in place.iterdir() if entry.is_file()]
        folders = [entry.name for entry in place.iterdir() if entry.is_dir()]
        return [str(place / name) for name in _usable(names, path, formats, folders)]
    if _is_glob(path):
        found = glob.glob(str(place), recursive=True)
        return _usable([name for name in found if Path(name).is_file()], path, formats)
    raise FileNotFoundError(f"{path}: no such file or folder (seen from {Path.cwd()})")


def _list_s3(url: str, formats: Mapping[str, str]) -> list[str]:
    bucket, key = _split_s3(url)
    with _explained_s3_faults(url):
        client = _s3_client()
        if key and not key.endswith("/") and _is_s3_object(client, bucket, key):
            names = [key]
        elif _is_glob(key):
            fixed = re.split(r"[*?\[]", key)[0].rpartition("/")[0]
            keys = _s3_keys(client, bucket, fixed and fixed + "/")
            pattern = _glob_pattern(key)
            names = _usable(
                [key for key in keys if pattern.fullmatch(key)], url, formats
            )
        else:
            prefix = key and key.rstrip("/") + "/"
            keys = [
                key.removeprefix(prefix) for key in _s3_keys(client, bucket, prefix)
            ]
            own = [key for key in keys if "/" not in key]
            folders = sorted({key.partition("/")[0] for key in keys if "/" in key})
            if not keys:
                raise FileNotFoundError(f"{url}: no such key or prefix in the bucket")
            names = [prefix + name for name in _usable(own, url, formats, folders)]
    return [f"s3://{bucket}/{name}" for name in names]


def _list_hub(url: str, formats: Mapping[str, str]) -> list[str]:
    from huggingface_hub import HfApi

    repository, revision, inside = _split_hub(url)
    with explained_hub_faults(url, "dataset"):
        found = HfApi().dataset_info(repository, revision=revision)
    names = [sibling.rfilename for sibling in found.siblings]
    if inside in names:
        chosen = [inside]
    elif _is_glob(inside):
        pattern = _glob_pattern(inside)
        chosen = _usable(
            [name for name in names if pattern.fullmatch(name)], url, formats
        )
    else:
        folder = inside and inside.rstrip("/") + "/"
        chosen = _usable(
            [name for name in names if name.startswith(folder)], url, formats
        )
    return [f"hf://datasets/{repository}@{found.sha}/{name}" for name in chosen]


def _sizes(path: str) -> dict[str, int]:
    """Bytes by path, key or name on the hub."""
    if path.startswith("s3://"):
        return _sizes_on_s3(path)
    if path.startswith("hf://"):
        return _sizes_on_hub(path)
    place = Path(path).expanduser()
    if place.is_dir():
        found = list(place.iterdir())
    else:
        globbed = glob.glob(str(place), recursive=True)
        found = [place] if place.is_file() else list(map(Path, globbed))
    return {str(file): file.stat().st_size for file in found if file.is_file()}


def _name_in_listing(location: str) -> str:
    """What `_sizes` calls a file."""
    if location.startswith("s3://"):
        return _split_s3(location)[1]
    if location.startswith("hf://"):
        return _split_hub(location)[2]
    return str(Path(location))


def _sizes_on_s3(url: str) -> dict[str, int]:
    """Bytes by key."""
    bucket, key = _split_s3(url)
    fixed = re.split(r"[*?\[]", key)[0]
    with _explained_s3_faults(url):
        listing = _s3_client().get_paginator("list_objects_v2")
        pages = list(listing.paginate(Bucket=bucket, Prefix=fixed))
    sizes = {e["Key"]: e["Size"] for page in pages for e in page.get("Contents", [])}
    return _of_these(sizes, key, "*")


def _sizes_on_hub(url: str) -> dict[str, int]:
    """Bytes by name of the file."""
    from huggingface_hub import HfApi

    repository, revision, inside = _split_hub(url)
    with explained_hub_faults(url, "dataset"):
        found = HfApi().dataset_info(repository, revision=revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in found.siblings}
    return _of_these(sizes, inside, "**/*")


def _of_these(sizes: dict[str, int], wanted: str, in_folder: str) -> dict[str, int]:
    """What a file, folder or glob stands for, by name."""
    folder = wanted and f"{wanted.rstrip('/')}/"
    chosen = _glob_pattern(wanted if _is_glob(wanted) else folder + in_folder)
    return {
        name: size
        for name, size in sizes.items()
        if name == wanted or chosen.fullmatch(name)
    }


def _usable(
    names: list[str],
    path: str,
    formats: Mapping[str, str],
    folders: list[str] | None = None,
) -> list[str]:
    """The names of supported formats, sorted; a warning names the others."""
    usable, others = [], []
    asked = Path(path).expanduser().parts
    for name in sorted(names):
        own = Path(name).name
        known = file_suffix(own) in formats and own not in NOT_DATA
        inside = [part for part in Path(name).parts if part not in asked]
        hidden = any(part.startswith((".", "_")) for part in inside)
        (others if hidden or not known else usable).append(name)
    if usable:
        if others:
            logger.warning("%s: left out %s", path, _quoted(others))
        return usable
    if not names and not folders:
        fault = "no file matches" if _is_glob(path) else "nothing is there"
        raise FileNotFoundError(f"{path}: {fault}")
    message = f"{path}: no file of a known format ({', '.join(formats)}; .gz as well)"
    if others:
        message += f"; found {_quoted(others)}"
    if folders:
        message += f"; for the folders in it ({_quoted(folders)}) add /**/*"
    raise FileNotFoundError(message)


def _quoted(names: list[str]) -> str:
    most = 8
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def _is_glob(path: str) -> bool:
    return bool(re.search(r"[*?\[]", path))


def _glob_pattern(pattern: str) -> re.Pattern:
    """A glob as a regular expression; only `**` goes into folders."""
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    for i, part in enumerate(parts):
        if part.startswith("["):
            parts[i] = part.replace("[!", "[^", 1)
        else:
            parts[i] = wild.get(part) or re.escape(part)
    return re.compile("".join(parts))


def _split_s3(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{url}: expected s3://bucket/key")
    return bucket, key


def _s3_client(**retries: Any):
    """A client of S3 with Metaflow's settings: endpoint, certificates, credentials.

    Args:
        retries: see botocore's `Config`; where none are given, neither here nor in
            METAFLOW_DATATOOLS_CLIENT_PARAMS, the environment decides, not Metaflow.
    """
    from botocore.config import Config
    from metaflow.metaflow_config import (
        DATATOOLS_CLIENT_PARAMS,
        DATATOOLS_SESSION_VARS,
    )
    from metaflow.plugins.aws.aws_client import get_aws_client

    config = DATATOOLS_CLIENT_PARAMS.get("config", {})
    if not isinstance(config, Config):  # which Metaflow makes of it at its first use
        config = Config(**config)
    config = Config(tcp_keepalive=True, retries=retries).merge(config)
    return get_aws_client(
        "s3",
        session_vars=DATATOOLS_SESSION_VARS,
        client_params={**DATATOOLS_CLIENT_PARAMS, "config": config},
    )


def _split_hub(url: str) -> tuple[str, str | None, str]:
    match = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", url)
    if not match:
        raise ValueError(
            f"{url}: expected hf://datasets/owner/name, with @revision and a file, "
            "folder or glob after it where wanted"
        )
    repository, revision, inside = match.groups()
    return repository, revision, inside or ""


def _is_s3_object(client, bucket: str, key: str) -> bool:
    try:
        client.head_object(Bucket=bucket, Key=key)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return False
        raise
    return True


def _s3_keys(client, bucket: str, prefix: str) -> list[str]:
    """The keys under a prefix, without the markers that stand for folders."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix
    )
    return [
        entry["Key"]
        for page in pages
        for entry in page.get("Contents", [])
        if not entry["Key"].endswith("/")
    ]


@contextmanager
def _explained_s3_faults(url: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        HTTPClientError,
    )

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
        # smart_open and boto3's transfers put an error of their own around botocore's.
        cause = getattr(error, "backend_error", error)
        if isinstance(cause, ClientError):
            raise _explain_s3_answer(cause, url) from error
        if isinstance(cause, EndpointConnectionError):
            raise ConnectionError(f"{url}: S3 cannot be reached: {cause}") from error
        if isinstance(cause, (HTTPClientError, Boto3Error)):
            raise ConnectionError(f"{url}: the connection broke: {cause}") from error
        if isinstance(cause, BotoCoreError):
            raise PermissionError(
                f"{url}: no usable AWS credentials ({cause}); set AWS_PROFILE, or log "
                "in with `aws sso login`"
            ) from error
        if "failed to read" in str(cause):
            raise ConnectionError(
                f"{url}: the connection broke, also after five attempts to go on"
            ) from error
        raise


def _explain_s3_answer(error, url: str) -> OSError:
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if code == "NoSuchBucket":
        return FileNotFoundError(f"{url}: there is no such bucket")
    if code in ("404", "NoSuchKey"):
        return FileNotFoundError(f"{url}: there is no such key in the bucket")
    if error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 401, 403):
        return PermissionError(
            f"{url}: S3 refused access ({code}: {message}); check AWS_PROFILE and the "
            "rights to list the bucket and to read the key"
        )
    return ConnectionError(f"{url}: S3 answered {code}: {message}")
