"""Fold results kept on disk, so that an interrupted ablation resumes.

The key of a result is the digest of everything that determines it: features, recipes of the
embeddings, spots and labels, folds, setup, seed and code. So no result is stale, and no lock is
needed: two runs with the same key write the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from histoboost.errors import BadInput
from histoboost.io import write_text
from histoboost.regress.folds import Fold
from histoboost.regress.layout import Layout
from histoboost.regress.scores import FoldResult
from histoboost.regress.setup import Setup


def default_folder() -> Path:
    """Default folder of results: `$XDG_CACHE_HOME/histoboost/folds`, `~/.cache` by default."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return base.expanduser() / "histoboost" / "folds"
    except RuntimeError as error:  # a user without a home, as in a container
        raise BadInput(
            f"{base}: no home directory; choose a folder with --keep, or set XDG_CACHE_HOME"
        ) from error


class FoldCache:
    """Fold results by digest, one JSON file each, in a folder created if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"{folder}: cannot be created ({error.strerror}); choose another with --keep"
            ) from error
        if not os.access(folder, os.W_OK):
            raise BadInput(f"{folder}: cannot be written to; choose another with --keep")

    def find(self, key: str) -> FoldResult | None:
        """The result of `key`; None if missing or changed since it was written."""
        try:
            kept = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            values = kept["result"]
            if kept["digest"] != _digest([key, values]):
                return None
            return FoldResult(**{**values, "held_out": tuple(values["held_out"])}, predictions={})
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def keep(self, key: str, result: FoldResult) -> None:
        """Write `result` without its predictions, atomically."""
        values = {f.name: getattr(result, f.name) for f in fields(result)}
        del values["predictions"]
        text = json.dumps({"result": values, "digest": _digest([key, values])})
        write_text(self.folder / f"{key}.json", text)


def fold_key(layout: Layout, fold: Fold, setup: Setup) -> str:
    """Digest of everything that determines the scores of `fold`."""
    slides = layout.slides
    chosen = [*fold.training, *fold.held_out]
    return _digest(
        {
            "code": _code_digest(),
            "setup": setup.to_json(),
            "features": layout.features,
            "embeddings": {slides[i]: layout.digests[slides[i]] for i in chosen},
            "spots": {slides[i]: layout.spots[i].digest for i in chosen},
            "training": [slides[i] for i in fold.training],
            "held_out": [slides[i] for i in fold.held_out],
        }
    )


def _digest(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code_digest() -> str:
    """Digest of the source of this package and the versions of numerical libraries."""
    import lightgbm
    import scipy

    digest = hashlib.sha256()
    room = Path(__file__).parent
    for path in sorted(room.rglob("*.py")):
        digest.update(path.relative_to(room).as_posix().encode())
        digest.update(path.read_bytes())
    digest.update(f"{lightgbm.__version__} {np.__version__} {scipy.__version__}".encode())
    return digest.hexdigest()
