"""Cell-type composition of every spot on an H&E slide.

The names below are the public API. Each is imported on first use, so that
``import histoboost`` loads neither torch nor lightgbm. Stage 1 is
`histoboost.featurize.featurize`, the page about a model `histoboost.report.report`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0.dev0"

_HOME = {
    "inspect": "histoboost.slides.inspect",
    "align": "histoboost.slides.align.run",
    "explore": "histoboost.report.explore",
    "describe_model": "histoboost.report.describe",
    "relabel": "histoboost.featurize.relabel",
    "EmbeddingStore": "histoboost.cache.store",
    "CompositionRegressor": "histoboost.regress.model",
    "MultiTargetLGBM": "histoboost.regress.multi_target_lgbm",
    "cross_validate": "histoboost.regress.crossval",
    "ablate": "histoboost.regress.ablate",
    "map_slide": "histoboost.map",
}

__all__ = ["__version__", *_HOME]  # noqa: F822  (PEP 562 attributes)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'histoboost' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore as EmbeddingStore
    from histoboost.featurize.relabel import relabel as relabel
    from histoboost.map import map_slide as map_slide
    from histoboost.regress.ablate import ablate as ablate
    from histoboost.regress.crossval import cross_validate as cross_validate
    from histoboost.regress.model import CompositionRegressor as CompositionRegressor
    from histoboost.regress.multi_target_lgbm import MultiTargetLGBM as MultiTargetLGBM
    from histoboost.report.describe import describe_model as describe_model
    from histoboost.report.explore import explore as explore
    from histoboost.slides.align.run import align as align
    from histoboost.slides.inspect import inspect as inspect
