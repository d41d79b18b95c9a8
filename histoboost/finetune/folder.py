"""Files of an end-to-end model, written atomically and read without running code.

Layout of the folder::

    finetune.json                     settings and training slides; written first
    member_0_resnet18/checkpoint.pt   while the member is being trained
    member_0_resnet18/history.json    loss and score of every epoch
    member_0_resnet18/backbone.pth    the trunk alone, for `featurize --weights`
    member_0_resnet18/model.pt        the network; written last: the member is done
    curves.png
    alignment.csv                     if a table moved the spots
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from histoboost.errors import BadInput
from histoboost.io import read_torch, write_text, write_whole
from histoboost.regress.bundle import digest_of

IDENTITY = "finetune.json"
CHECKPOINT = "checkpoint.pt"
MODEL = "model.pt"
BACKBONE = "backbone.pth"
HISTORY = "history.json"
CURVES = "curves.png"
ALIGNMENT = "alignment.csv"

#: Leftovers of `write_whole` in a killed run, today and in 0.1.0.
DRAFTS = (".histoboost-*", "*.part")


def is_ensemble(folder: str | Path) -> bool:
    """Whether `folder` was written by `finetune`."""
    return (Path(folder) / IDENTITY).is_file()


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Start a folder for a model, or check that it was started for the same one."""
    path = folder / IDENTITY
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file; give the name of a folder")
    if not path.exists() and folder.is_dir():
        others = {entry.name for entry in folder.iterdir()} - {"folds"} - _drafts(folder)
        if others:
            raise BadInput(
                f"{folder}: contains {min(others)}, which finetune did not write; choose a new "
                "folder"
            )
    if not any(folder.glob("member_*/*.pt")):  # nothing trained yet: may be replaced
        save_json({**identity, "digest": digest_of(identity)}, path)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: cannot be read ({error}); choose a new folder") from error
    for key, now in json.loads(json.dumps(identity)).items():  # tuples become lists
        old = before.get(key)
        if old == now:
            continue
        if isinstance(old, dict) and isinstance(now, dict):
            name = next(name for name in now if old.get(name) != now[name])
            key = f"{key}: {name} {old.get(name)}, not {now[name]}"
        raise BadInput(
            f"{folder}: was started with different {key}; choose a new folder, or use the same "
            "data and options"
        )


def remove_drafts(folder: Path) -> None:
    """Remove the checkpoint of a finished training and the leftovers of killed runs."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    for name in _drafts(folder):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink()


def _drafts(folder: Path) -> set[str]:
    return {path.name for pattern in DRAFTS for path in folder.glob(pattern)}


def save_json(content: object, path: Path) -> None:
    """Write JSON atomically, in a new folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Write a dict of tensors and plain values atomically, in a new folder if need be."""
    import torch

    def write(target: Path) -> None:
        with target.open("wb") as file:  # torch's own writer hides the system's message
            torch.save(dict(content), file)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a file of `save_tensors` onto the CPU; accepts only tensors and plain values."""
    if not path.exists():
        raise BadInput(f"{path}: no such file; train the model first")
    content = read_torch(path, "cannot be read", "remove it and train again")
    with as_written(path):
        return dict(content)


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Refuse a file whose content does not fit the code in the block."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise BadInput(
            f"{path}: is not as finetune wrote it ({type(e).__name__}); remove it and train again"
        ) from e
