"""What a backbone is: a frozen network that turns a patch into a row of numbers.

One backbone is one short function that returns its `Architecture`;
`histoboost.featurize.backbones.factory.load_backbone` fills in the weights. The network of one's
own is such a function, named on the command line as ``--backbone my_module:my_net``::

    def my_net() -> Architecture:
        return Architecture(module=MyNet(), head="classifier", input_px=224, layer="pool")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histoboost.errors import BadInput

if TYPE_CHECKING:  # what a store tells of a backbone is used without torch
    from torch import Tensor, nn

#: What may be taken of a layer's output, see `histoboost.featurize.backbones.layers`.
POOLINGS = ("mean", "std", "class")

#: Mean and standard deviation of ImageNet's pixels in 0..1, which torchvision's nets expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network before its weights are filled in.

    `module` takes (B, 3, px, px) float32 to (B, D): `layer` is the one whose output is the
    embedding, and `head` the one that was taken off. `input_px` is the side of the input; None
    takes patches in their own size, else `interpolation` (``"bilinear"`` or ``"bicubic"``,
    antialiased) resizes them. `mean` and `std` normalise pixels in 0..1. `pretrained` returns the
    published weights, None where there are none to learn, and `convert` renames these, or those of
    a file, where the network calls them otherwise. `exportable`: other engines than PyTorch may run
    it. `deep` is what ``--layers deep`` adds, see `histoboost.featurize.backbones.layers`.
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
    """What recipes say of a backbone; what is not said here is as in `Architecture`.

    `layers` are those that one forward pass gives, in this order. `weights` says for people where
    they came from, `weights_digest` is a SHA-256 of their content, and `tuned_on` are the slides
    whose abundances shaped them, see `weights.Tuning`.
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
    """A frozen network, ready to embed patches, in evaluation mode, on the CPU.

    Its D counts the columns of all `layers`.
    """

    module: nn.Module


Build = Callable[[], Architecture]

#: The backbones that have a name of their own.
REGISTRY: dict[str, Build] = {}


def register(name: str) -> Callable[[Build], Build]:
    """Add the decorated function to the registry under `name`.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def add(build: Build) -> Build:
        if name in REGISTRY:
            raise ValueError(f"backbone {name!r} is registered twice")
        REGISTRY[name] = build
        return build

    return add


def parse_layers(given: str, deep: Sequence[str]) -> tuple[str, ...]:
    """``default`` and ``PATH:POOLING`` of ``--layers``, each once, in the order given.

    `deep` is what ``deep`` adds to ``default``.
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
