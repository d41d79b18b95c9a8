"""Results of folds kept on disk, so that an interrupted ablation goes on where it was.

A result is found again by the digest of everything that determines it: features, recipes of the
embeddings, spots and labels, folds, setup, seed, and the code itself. Whatever changes one of them
asks for another name, so nothing stale is ever found and nothing needs to be locked: two runs that
write the same result write the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from histoboost.errors import BadInput
from histoboost.io import write_text
from histoboost.regress.features import Layout
from histoboost.regress.folds import Fold
from histoboost.regress.scores import FoldResult
from histoboost.regress.setup import Setup


def default_folder() -> Path:
    """Where results are kept: `$XDG_CACHE_HOME/histoboost/folds`, by default in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "histoboost" / "folds"


class KeptFolds:
    """Fold results by digest, one small JSON file each.

    Parameters
    ----------
    folder : Path
        Created where it does not exist.

    Raises
    ------
    HistoboostError
        If the folder cannot be created or written to.
    """

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
        """The result kept under `key`; None where there is none, or it cannot be read."""
        try:
            values = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            return FoldResult(held_out=tuple(values["held_out"]), predictions={}, **_scores(values))
        except (OSError, json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
            return None  # computed again, and written over

    def keep(self, key: str, result: FoldResult) -> None:
        """Write `result`; it appears whole or not at all."""
        values = {"held_out": list(result.held_out)}
        values |= {name: getattr(result, name) for name in _SCORES}
        text = json.dumps(values)
        write_text(self.folder / f"{key}.json", text)


_SCORES = (
    "seed",
    "n_spots",
    "spot_spearman",
    "type_spearman",
    "fit_seconds",
    "predict_seconds",
    "baselines",
    "group",
)


def _scores(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in _SCORES}


def fold_key(layout: Layout, fold: Fold, setup: Setup) -> str:
    """Digest of everything that determines the scores of `fold`."""
    slides = layout.slides
    spots = {table.slide: table.digest for table in layout.spots}
    chosen = [slides[i] for i in (*fold.training, *fold.held_out)]
    document = {
        "code": _code_digest(),
        "setup": setup.to_json(),
        "features": layout.features,
        "embeddings": {slide: layout.digests[slide] for slide in chosen},
        "spots": {slide: spots[slide] for slide in chosen},
        "training": [slides[i] for i in fold.training],
        "held_out": [slides[i] for i in fold.held_out],
    }
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code_digest() -> str:
    """Of this room's source files and the libraries that do the arithmetic."""
    import lightgbm
    import scipy

    digest = hashlib.sha256()
    for path in _sources(Path(__file__).parent):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(f"{lightgbm.__version__} {np.__version__} {scipy.__version__}".encode())
    return digest.hexdigest()


def _sources(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("*.py"))
