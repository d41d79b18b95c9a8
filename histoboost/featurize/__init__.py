"""Embed slides: read them, crop patches, run a frozen network, fill the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histoboost.errors import require

__all__ = ["featurize"]  # noqa: F822  (PEP 562 attribute)


def __getattr__(name: str) -> object:
    if name == "featurize":
        require("featurize", "torch", "torch")
        from histoboost.featurize.embed import featurize

        return featurize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from histoboost.featurize.embed import featurize as featurize
