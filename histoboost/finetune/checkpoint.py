"""Files of a training: written whole or not at all, read without running code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from histoboost.errors import BadInput
from histoboost.io import plain_errors


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write a dict of tensors and plain values; a kill leaves the old file or the new one."""
    _write_whole(path, lambda file: torch.save(content, file))


def save_json(content: object, path: Path) -> None:
    """Write JSON; a kill leaves the old file or the new one."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _write_whole(path, lambda file: file.write(text.encode()))


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    with plain_errors(path):
        try:
            with draft.open("wb") as file:
                write(file)
                file.flush()
                # The rename must not reach the disk before the content does.
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def load_tensors(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what `save_tensors` wrote.

    Raises
    ------
    HistoboostError
        If the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; train the model first") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise BadInput(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); remove it and train again"
        ) from error
    return content
