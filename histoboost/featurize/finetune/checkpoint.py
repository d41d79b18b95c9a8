"""Files of a training: written whole or not at all, read without running code."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from histoboost.errors import HistoboostError


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write a dict of tensors and plain values; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            torch.save(content, file)
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
        raise HistoboostError(f"{path}: no such file; train the model first") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise HistoboostError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); remove it and train again"
        ) from error
    return content


def save_json(content: object, path: Path) -> None:
    """Write JSON; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
