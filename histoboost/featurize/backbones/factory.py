"""A user's own network: ``module:function`` names a function that returns an `Architecture`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from histoboost.errors import BadInput
from histoboost.featurize.backbones.base import Architecture


def factory_architecture(name: str) -> Architecture:
    """Call the function that `name` means; its module may lie in the current directory.

    Raises
    ------
    HistoboostError
        If the module cannot be imported, has no such function, or the function fails or returns
        something else than an `Architecture`.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise BadInput(
            f"backbone {name!r}: unknown; give a registered name, timm:<name>, "
            "hf-hub:<repository> or <module>:<function>"
        )
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        net = function()
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        kind = type(error).__name__
        reason = " ".join(str(error).split())
        raise BadInput(
            f"backbone {name}: {kind}: {reason}; correct the module, or start in its folder"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not isinstance(net, Architecture):
        raise BadInput(
            f"backbone {name}: returned {type(net).__name__}; return a "
            "histoboost.featurize.backbones.base.Architecture"
        )
    return net
