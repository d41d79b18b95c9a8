"""The model bundle: a directory with `model.json`, text models and arrays; nothing pickled.

Every file is listed in `model.json` with its SHA-256, so that a file that is cut short or changed
is noticed before it is parsed. Names of files come from this code, never from a bundle's content.
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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput

FORMAT = 1
#: Longest `model.json` that is read, in bytes.
MAX_JSON = 50_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,80}\.(txt|npy)")

Arrays = dict[str, NDArray[Any]]


def write_bundle(
    folder: Path, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays
) -> None:
    """Write a bundle; it appears whole or not at all.

    Raises
    ------
    HistoboostError
        If `folder` exists and is not a bundle (an older bundle is replaced), or its parent does
        not exist.
    """
    check_target(folder)
    files = {f"{name}.txt": text.encode() for name, text in texts.items()}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        files[f"{name}.npy"] = buffer.getvalue()
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    document = {"histoboost_model": FORMAT, **fields, "files": listed}
    files["model.json"] = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, data in files.items():
            (staging / name).write_bytes(data)
        staging.chmod(0o755)  # mkdtemp's own is for the owner only
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if folder.exists():
            old = staging.with_name(staging.name + "-old")
            os.replace(folder, old)
            os.replace(staging, folder)
            shutil.rmtree(old)
        else:
            os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_target(folder: Path) -> None:
    """Say now rather than after the training that a bundle cannot be written to `folder`.

    Raises
    ------
    HistoboostError
        If it is a file or a directory that is not a bundle, or its parent does not exist.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise BadInput(f"{folder}: is a directory but no model; choose another name")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file; a model is a directory, choose another name")
    if not folder.parent.is_dir():
        raise BadInput(f"{folder.parent}: no such directory; create it first")
    if not os.access(folder.parent, os.W_OK):
        raise BadInput(f"{folder.parent}: cannot be written to; choose another place")


def read_bundle(folder: Path) -> tuple[dict[str, Any], dict[str, str], Arrays]:
    """JSON fields, texts and arrays of a bundle, every file checked against its digest.

    Raises
    ------
    HistoboostError
        If it is not a bundle, of a newer format, or a file is missing, changed or cut short.
    """
    document = _read_json(folder)
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
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise BadInput(f"{path}: is missing; copy the whole model directory again")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise BadInput(f"{path}: is damaged; copy the model again or train it again")
        if path.suffix == ".txt":
            texts[path.stem] = data.decode("utf-8", errors="strict")
        else:
            arrays[path.stem] = _load_array(path, data)
    return document, texts, arrays


def _load_array(path: Path, data: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path}: is not an array ({error}); train it again") from error
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise BadInput(f"{path}: holds other than finite numbers; train it again")
    return array


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not folder.exists():
        raise BadInput(f"{folder}: no such model; train one with histoboost train")
    if not path.is_file():
        raise BadInput(f"{folder}: is not a model (no model.json); give a model's directory")
    if path.stat().st_size > MAX_JSON:
        raise BadInput(f"{path}: is too large for a model; train it again")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({error}); train it again") from error
    version = document.get("histoboost_model") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise BadInput(f"{path}: not a histoboost model; give a model's directory")
    if version > FORMAT:
        raise BadInput(
            f"{path}: model format {version} is newer than this histoboost knows ({FORMAT}); "
            "upgrade histoboost"
        )
    result: dict[str, Any] = document
    return result
