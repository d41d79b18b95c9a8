"""From a name to a backbone: the registered ones, timm's, huggingface.co's, and one's own."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from histoboost.errors import BadInput
from histoboost.featurize.backbones import stain_texture, torchvision
from histoboost.featurize.backbones import weights as weight_files
from histoboost.featurize.backbones.base import REGISTRY, Architecture, Backbone, register
from histoboost.featurize.backbones.pathology import MODELS, canonical_name, foundation_model
from histoboost.featurize.backbones.timm import listed_architecture, timm_architecture
from histoboost.featurize.loaded_once import once

register("stain-texture")(stain_texture.architecture)


def backbone_names() -> list[str]:
    """Names of all registered backbones, in alphabetical order."""
    return sorted(REGISTRY)


def describe_backbones() -> dict[str, str]:
    """One line about each registered backbone, by name."""
    about = {name: network.about for name, network in torchvision.NETWORKS.items()}
    return {
        name: about.get(name) or (REGISTRY[name].__doc__ or "").strip().split("\n")[0]
        for name in backbone_names()
    }


def is_harmless(name: str) -> bool:
    """Whether building `name` with given weights neither imports code nor fetches a file.

    True of the registered names, the pathology models listed and timm's own; false of a function
    and of what else is on huggingface.co.
    """
    listed = name in REGISTRY or foundation_model(name) is not None
    return listed or re.fullmatch(r"timm:[\w.]+", name) is not None


def is_fixed(name: str, weights: str) -> bool:
    """Whether the versions of the packages and the weights file settle what is loaded.

    They do not where a function of one's own or huggingface.co may have changed.
    """
    ours, model = name in torchvision.NETWORKS or name == "stain-texture", foundation_model(name)
    if weights == "pretrained":
        return ours or (model is not None and model.revision is not None)
    return ours or model is not None or name.startswith("timm:")


def architecture(name: str) -> Architecture:
    """The network called `name`, with its initial weights.

    One of `backbone_names`, a pathology model (``uni``), ``timm:<name>``,
    ``hf-hub:<owner>/<repository>``, or a function of one's own, ``<module>:<function>``, that
    returns an `Architecture`. Of another name the error suggests close ones and lists those there
    are.
    """
    model = foundation_model(name)
    if model is not None:
        return listed_architecture(model)
    if name.startswith(("timm:", "hf-hub:")):
        return timm_architecture(name)
    if ":" in name:
        return _own_architecture(name)
    if name not in REGISTRY:
        known = [*backbone_names(), *(model.short for model in MODELS)]
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {close[0]}? known are" if close else "known are"
        raise BadInput(
            f"backbone {name!r}: unknown; {hint} {', '.join(known)}, timm:<name>, "
            "hf-hub:<repository> and <module>:<function>"
        )
    return REGISTRY[name]()


def load_backbone(name: str, weights: str = "pretrained", seed: int = 0) -> Backbone:
    """Load a backbone, by a name as of `architecture`, with its weights.

    These are ``"pretrained"``, ``"random"`` (initialised with `seed`: for tests) or those of a
    file.
    """
    name = canonical_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = architecture(name)
    tuning = weight_files.Tuning()
    if net.pretrained is None:
        if weights != "pretrained":
            raise BadInput(f"backbone {name}: has no weights; omit --weights")
        source = "none needed"
    elif weights == "random":
        source = f"random, seed {seed}"
    else:
        if weights == "pretrained":
            source, state = "pretrained", net.pretrained()
        else:
            source, state = str(weights), weight_files.read_weights(weights)
            tuning = weight_files.read_tuning(weights)
        if net.convert is not None:
            state = net.convert(state)
        weight_files.fit_weights(net.module, state, head=net.head, source=source, backbone=name)
    module = net.module.eval().requires_grad_(False)
    digest = weight_files.weights_digest(module)
    if source.startswith("random"):
        module = weight_files.scaled_to_one(module, net.input_px or 64).eval()
    return Backbone(
        name=name,
        module=module,
        input_px=tuning.input_px or net.input_px,
        mean=net.mean,
        std=net.std,
        layer=net.layer,
        weights=source,
        weights_digest=digest,
        tuned_on=tuning.slides,
        exportable=net.exportable,
        deep=net.deep,
        interpolation=net.interpolation,
    )


def load_once(name: str, weights: str) -> Backbone:
    """`load_backbone`, of which others may hold the same; it is not to be changed."""
    return once(("backbone", name, weights), partial(load_backbone, name, weights))


def _own_architecture(name: str) -> Architecture:
    """Call the function that `name` means; its module may lie in the current directory."""
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
    # Exporting records one pass: what branches on its input would be frozen, without a word.
    return replace(net, exportable=False)
