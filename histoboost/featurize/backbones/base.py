"""Backbones: frozen networks that embed patches.

A backbone is a function that returns its `Architecture`;
`histoboost.featurize.backbones.factory.load_backbone` loads the weights. Your own network is such a
function, given on the command line as ``--backbone my_module:my_net``::

    def my_net() -> Architecture:
        return Architecture(module=MyNet(), head="classifier", input_px=224, layer="pool")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histoboost.errors import BadInput

if TYPE_CHECKING:  # `Facts` from a store are used without torch
    from torch import Tensor, nn

#: Poolings of a layer's output, see `histoboost.featurize.backbones.layers`.
POOLINGS = ("mean", "std", "class")

#: Mean and standard deviation of ImageNet's pixels in 0..1, as torchvision's networks expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network before its weights are loaded.

    `module` maps (B, 3, px, px) float32 to (B, D), the output of `layer`; `head` is the layer that
    was removed. Patches are resized to `input_px` (None: not at all) by `interpolation`,
    ``"bilinear"`` or ``"bicubic"``, antialiased; `mean` and `std` normalise pixels in 0..1.
    `pretrained` returns the published weights (None: it has none), `convert` renames them, or those
    of a file, for the network. `exportable`: other engines than PyTorch may run it. `deep` are
    the layers that ``--layers deep`` adds, see `histoboost.featurize.backbones.layers`.
    """

    module: nn.Module
    head: str
    layer: str
    input_px: int | None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pretrained: Callable[[], Mapping[str, Tensor]] | None = None
    exportable: bool = True
    deep: tuple[str, ...] = ()
    interpolation: str = "bilinear"
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What recipes need of a backbone; undocumented fields are those of `Architecture`.

    `layers` are the outputs of one forward pass, in order. `weights` names their source,
    `weights_digest` is the SHA-256 of their content, and `tuned_on` lists the slides that they were
    fine-tuned on, see `weights.read_tuning`.
    """

    name: str
    input_px: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layer: str
    weights: str
    weights_digest: str
    tuned_on: tuple[dict[str, str], ...] = ()
    exportable: bool = True
    deep: tuple[str, ...] = ()
    layers: tuple[str, ...] = ("default",)
    interpolation: str = "bilinear"


@dataclass(frozen=True, kw_only=True)
class Backbone(Facts):
    """A frozen network in evaluation mode, on the CPU; its D counts the columns of all `layers`."""

    module: nn.Module


def parse_layers(given: str, deep: Sequence[str]) -> tuple[str, ...]:
    """Parse ``--layers`` into ``default`` and ``PATH:POOLING``, in order, without repeats.

    `deep` are the layers that ``deep`` adds to ``default``.
    """
    found: list[str] = []
    for name in given.split(","):
        path, colon, pooling = name.strip().partition(":")
        if not colon and path in ("default", "deep"):
            found += ["default", *(deep if path == "deep" else ())]
        elif re.fullmatch(r"\w+(\.\w+)*", path) and (pooling or "mean") in POOLINGS:
            found.append(f"{path}:{pooling or 'mean'}")
        else:
            raise BadInput(
                f"--layers {name}: give default, deep, or layers such as features.13:mean; "
                f"poolings are {', '.join(POOLINGS)}"
            )
    return tuple(dict.fromkeys(found))
