"""Pixels to embeddings: read slides, crop patches, run a frozen CNN, fill the store."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Featurize(ModuleType):
    """This room, which shares its name with the public function.

    Python binds ``histoboost.featurize`` to the room as soon as anything in it is imported, so the
    room itself has to answer the call.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `histoboost.featurize.embed.featurize`."""
        from histoboost.featurize.embed import featurize

        return featurize(*args, **kwargs)


sys.modules[__name__].__class__ = _Featurize
