"""The model bundle: a folder with `model.json`, text models and arrays; nothing pickled.

`model.json` lists every file with its SHA-256, so damage is detected before parsing. File names are
built by this code, never taken from the content of a bundle.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from histoboost.cache.liveness import sole_owner
from histoboost.errors import BadInput
from histoboost.io import plain_errors, read_array, sync, sync_folder, write_text, write_whole
from histoboost.regress.heads.base import Arrays, Files

#: Since 2, `model.json` has its own digest, and file names end in their digests.
FORMAT = 2
INDEX = "model.json"
#: Maximum size of `model.json` in bytes.
MAX_JSON = 50_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,80}\.(txt|npy)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ADDRESSED = re.compile(r"[a-z0-9][a-z0-9_-]{0,80}-[0-9a-f]{64}\.(txt|npy)")


def write_bundle(folder: Path, content: Files) -> None:
    """Write a bundle so that `folder` always holds either the old or the new one.

    File names contain digests, so files of both bundles coexist until `model.json` is replaced
    atomically; then those of the old one are deleted. Other files, and a symbolic link as `folder`,
    stay.
    """
    check_target(folder)
    shown, folder = folder, Path(os.path.realpath(folder))
    contents = {f"{name}.txt": text.encode() for name, text in content.texts.items()}
    for name, array in content.arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        contents[f"{name}.npy"] = buffer.getvalue()
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    document = {"histoboost_model": FORMAT, **content.fields, "files": listed}
    document["digest"] = digest_of(document)
    index = json.dumps(document, indent=1, allow_nan=False) + "\n"
    files = {_file_name(name, listed[name], FORMAT): data for name, data in contents.items()}
    with plain_errors(shown):
        if not folder.is_dir() or not any(folder.iterdir()):
            _write_new(folder, {**files, INDEX: index.encode()})
            return
        with sole_owner(folder):
            _replace(folder, files, index)


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    staging = Path(tempfile.mkdtemp(prefix=".histoboost-", dir=folder.parent))
    try:
        for name, data in files.items():
            (staging / name).write_bytes(data)
        sync(staging)
        staging.chmod(0o755)  # mkdtemp restricts it to the owner
        os.replace(staging, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(folder: Path, files: Mapping[str, bytes], index: str) -> None:
    before = _names(_parse(folder / INDEX, (folder / INDEX).read_bytes()))
    added = [name for name in files if name not in before or not (folder / name).is_file()]
    try:
        for name in added:
            write_whole(folder / name, partial(_write_bytes, files[name]))
        write_text(folder / INDEX, index)
    except BaseException:
        for name in set(added) - set(before):
            (folder / name).unlink(missing_ok=True)
        raise
    # Files of a killed save are in no index, but recognised by their names.
    left = [path.name for path in folder.iterdir() if _ADDRESSED.fullmatch(path.name)]
    for name in {*before, *left} - set(files):
        (folder / name).unlink(missing_ok=True)


def _write_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _file_name(name: str, digest: object, version: int) -> str:
    """File name in the folder of the file that a bundle lists as `name`."""
    if version == 1:
        return name
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{digest}.{suffix}"


def _names(document: Mapping[str, Any]) -> list[str]:
    """File names in the folder of all valid entries of a bundle."""
    listed, version = document.get("files"), document["histoboost_model"]
    if not isinstance(listed, dict):
        return []
    whole = {name: digest for name, digest in listed.items() if _is_entry(name, digest)}
    return [_file_name(name, digest, version) for name, digest in whole.items()]


def _is_entry(name: str, digest: object) -> bool:
    return bool(_NAME.fullmatch(name)) and bool(_DIGEST.fullmatch(str(digest)))


def check_target(folder: Path) -> bool:
    """Refuse, before training, a `folder` that a bundle cannot be written to.

    Returns whether it holds a bundle, to be replaced.
    """
    folder = Path(os.path.realpath(folder))
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file; a model is a folder, choose another name")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / INDEX).is_file():
            raise BadInput(f"{folder}: is a folder but no model; choose another name")
        _parse(folder / INDEX, (folder / INDEX).read_bytes())
        place = folder
    else:
        place = folder.parent
    if not place.is_dir():
        raise BadInput(f"{place}: no such folder; create it first")
    if not os.access(place, os.W_OK):
        raise BadInput(f"{place}: cannot be written to; choose another place")
    return place == folder


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a `model.json` without its own digest."""
    others = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def read_bundle(folder: Path) -> Files:
    """Read a bundle, checking every file against its digest; start over if it is replaced."""
    while True:
        index = _read_index(folder)
        try:
            return _read_files(folder, _parse(folder / INDEX, index))
        except BadInput:
            if _read_index(folder) == index:
                raise


def _read_files(folder: Path, document: dict[str, Any]) -> Files:
    path, setup = folder / INDEX, document.get("setup")
    if document["histoboost_model"] > 1 and document.get("digest") != digest_of(document):
        raise BadInput(f"{path}: has changed since it was written; train the model again")
    if isinstance(setup, dict) and setup.get("model") == "blend":
        raise BadInput(f"{path}: model blend was removed in 0.2.0; train it again as another")
    listed = document.get("files")
    if not isinstance(listed, dict):
        raise BadInput(f"{folder}/model.json: lists no files; train the model again")
    texts: dict[str, str] = {}
    arrays: Arrays = {}
    for name, digest in listed.items():
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"{folder}/model.json: lists a file {name!r} that no model has; do not use it"
            )
        if not _is_entry(name, digest):
            raise BadInput(f"{folder}/model.json: no digest of {name}; train it again")
        path = folder / _file_name(name, digest, document["histoboost_model"])
        try:
            data = None if path.is_symlink() or not path.is_file() else path.read_bytes()
        except FileNotFoundError:  # replaced by a newer bundle
            data = None
        if data is None:
            raise BadInput(f"{path}: is missing; copy the whole model folder again")
        if hashlib.sha256(data).hexdigest() != digest:
            raise BadInput(f"{path}: is damaged; copy the model again or train it again")
        stem = name.rpartition(".")[0]
        if path.suffix == ".txt":
            texts[stem] = data.decode("utf-8", errors="strict")
        else:
            array = read_array(io.BytesIO(data), path, "train it again")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise BadInput(f"{path}: contains values other than finite numbers; train it again")
            arrays[stem] = array
    return Files(document, texts, arrays)


def _read_index(folder: Path) -> bytes:
    path = folder / INDEX
    if not folder.exists():
        raise BadInput(f"{folder}: no such model; train one with histoboost train")
    if not path.is_file():
        raise BadInput(f"{folder}: is not a model (no model.json); give the folder of a model")
    if path.stat().st_size > MAX_JSON:
        raise BadInput(f"{path}: is too large for a model; train it again")
    return path.read_bytes()


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({error}); train it again") from error
    version = document.get("histoboost_model") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise BadInput(f"{path}: not a histoboost model; give the folder of a model")
    if version > FORMAT:
        raise BadInput(
            f"{path}: model format {version} is newer than this histoboost knows ({FORMAT}); "
            "upgrade histoboost"
        )
    result: dict[str, Any] = document
    return result
