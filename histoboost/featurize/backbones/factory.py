"""Load a backbone by name: registered, a pathology model, timm's, huggingface.co's, or your own."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from histoboost.errors import BadInput
from histoboost.featurize.backbones import stain_texture, torchvision
from histoboost.featurize.backbones import weights as weight_files
from histoboost.featurize.backbones.base import Architecture, Backbone
from histoboost.featurize.backbones.pathology import MODELS, canonical_name, foundation_model
from histoboost.featurize.backbones.timm import listed_architecture, timm_architecture
from histoboost.featurize.loaded_once import once

#: Backbones by name.
REGISTRY: dict[str, Callable[[], Architecture]] = {
    **{name: partial(torchvision.architecture, name) for name in torchvision.NETWORKS},
    "stain-texture": stain_texture.architecture,
}


def describe_backbones() -> dict[str, str]:
    """One line on each registered backbone, by name, in alphabetical order."""
    about = {name: network.about for name, network in torchvision.NETWORKS.items()}
    return {name: about.get(name) or str(REGISTRY[name].__doc__) for name in sorted(REGISTRY)}


def is_harmless(name: str) -> bool:
    """Whether building `name` with given weights neither imports code nor fetches a file.

    True for registered names, listed pathology models and timm's own networks; false for functions
    and other repositories on huggingface.co.
    """
    listed = name in REGISTRY or foundation_model(name) is not None
    return listed or re.fullmatch(r"timm:[\w.]+", name) is not None


def is_fixed(name: str, weights: str) -> bool:
    """Whether package versions and weights file determine the network.

    Your own function, or a repository without a pinned revision, may change.
    """
    ours, model = name in torchvision.NETWORKS or name == "stain-texture", foundation_model(name)
    if weights == "pretrained":
        return ours or (model is not None and model.revision is not None)
    return ours or model is not None or name.startswith("timm:")


def architecture(name: str) -> Architecture:
    """Build a network with its initial weights.

    `name` is a key of `REGISTRY`, a pathology model (``uni``), ``timm:<name>``,
    ``hf-hub:<owner>/<repository>``, or ``<module>:<function>``, your own function that returns an
    `Architecture`. For another name the error suggests close ones.
    """
    model = foundation_model(name)
    if model is not None:
        return listed_architecture(model)
    if name.startswith(("timm:", "hf-hub:")):
        return timm_architecture(name)
    if ":" in name:
        return _own_architecture(name)
    if name not in REGISTRY:
        known = [*sorted(REGISTRY), *(model.short for model in MODELS)]
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {close[0]}? known are" if close else "known are"
        raise BadInput(
            f"backbone {name!r}: unknown; {hint} {', '.join(known)}, timm:<name>, "
            "hf-hub:<repository> and <module>:<function>"
        )
    return REGISTRY[name]()


def load_backbone(name: str, weights: str = "pretrained", seed: int = 0) -> Backbone:
    """Load a backbone, named as in `architecture`.

    `weights` are ``"pretrained"``, ``"random"`` (initialised with `seed`: for tests) or a file.
    """
    name = canonical_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = architecture(name)
    source, input_px = weights, net.input_px
    tuned_on: tuple[dict[str, str], ...] = ()
    if net.pretrained is None:
        if weights != "pretrained":
            raise BadInput(f"backbone {name}: has no weights; omit --weights")
        source = "none needed"
    elif weights == "random":
        source = f"random, seed {seed}"
    else:
        if weights == "pretrained":
            state = net.pretrained()
        else:
            state = weight_files.read_weights(weights)
            tuned_on, tuned_px = weight_files.read_tuning(weights)
            input_px = tuned_px or input_px
        if net.convert is not None:
            state = net.convert(state)
        weight_files.fit_weights(net.module, state, head=net.head, source=source, backbone=name)
    module = net.module.eval().requires_grad_(False)
    digest = weight_files.weights_digest(module)
    if weights == "random":
        module = weight_files.scaled_to_one(module, net.input_px or 64).eval()
    return Backbone(
        name=name,
        module=module,
        input_px=input_px,
        mean=net.mean,
        std=net.std,
        layer=net.layer,
        weights=source,
        weights_digest=digest,
        tuned_on=tuned_on,
        exportable=net.exportable,
        deep=net.deep,
        interpolation=net.interpolation,
    )


def load_once(name: str, weights: str) -> Backbone:
    """Like `load_backbone`, but shared within `made_once`; do not modify it."""
    return once(("backbone", name, weights), partial(load_backbone, name, weights))


def _own_architecture(name: str) -> Architecture:
    """Call the function `name`, whose module may be in the current directory."""
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
        net = getattr(importlib.import_module(module_name), function_name)()
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise BadInput(
            f"backbone {name}: {reason}; correct the module, or start in its folder"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not isinstance(net, Architecture):
        raise BadInput(
            f"backbone {name}: returned {type(net).__name__}; return a "
            "histoboost.featurize.backbones.base.Architecture"
        )
    # Export traces one pass: branches on the input would silently be frozen.
    return replace(net, exportable=False)
