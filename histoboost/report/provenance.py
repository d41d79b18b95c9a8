"""Provenance of a report: versions, settings, recipes and digests."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoboost.outputs.html import VERSION

if TYPE_CHECKING:
    from histoboost.regress.layout import Layout
    from histoboost.regress.model import CompositionRegressor

#: Libraries whose versions may affect the results.
LIBRARIES = ("lightgbm", "numpy", "scikit-learn", "scipy", "zarr", "anndata", "torch")


def versions() -> str:
    """List names and versions in one line."""
    found = [f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def provenance(
    store: str, folder: Path, model: CompositionRegressor, command: str
) -> list[tuple[str, str]]:
    """List the origin of a report as names and values.

    The digest of the model is that of ``model.json``, which has the digests of its other files.
    """
    setup = model.setup_
    digest = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    settings = {
        "target": setup.target,
        "held out together": setup.group_by,
        "standardised within": setup.standardize,
        "balanced over": setup.balance,
        "smoothing": f"{setup.smooth:g}",
        "seed": str(setup.seed),
        **{name: str(value) for name, value in setup.options.items()},
    }
    if left_out := setup.without_trees(model.cell_types_):
        settings["trees"] = left_out
    return [
        ("Command", command),
        ("Model", f"{setup.model} in {folder}"),
        ("Model digest", f"sha256:{digest}"),
        ("Features", setup.features),
        ("Settings", ", ".join(f"{name} {value}" for name, value in settings.items())),
        ("Trained on", ", ".join(model.training_slides_)),
        ("Store", store),
        ("histoboost", VERSION),
        ("Libraries", versions()),
    ]


def recipes(layout: Layout) -> list[dict[str, Any]]:
    """List the recipe of each embedding, with its digest on each slide."""
    found = []
    for name, fields in layout.recipes.items():
        rows = [[key, json.dumps(value)] for key, value in fields.items()]
        rows += [
            [f"digest on {slide}", own[name]]
            for slide, own in layout.digests.items()
            if name in own
        ]
        found.append({"name": name, "fields": rows})
    return found
