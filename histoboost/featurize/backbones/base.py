"""Registry of frozen networks that turn a patch into a row of numbers.

One backbone is one short function that returns its `Architecture`; `load_backbone` fills in the
weights. A network of your own joins with the decorator::

    @register("my-net")
    def my_net() -> Architecture:
        return Architecture(module=MyNet(), head="classifier", input_px=224, layer="pool")
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from histoboost.errors import BadInput
from histoboost.featurize.backbones import weights as weight_files

#: Mean and standard deviation of ImageNet's pixels in 0..1, which torchvision's nets expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network before its weights are filled in.

    Attributes
    ----------
    module : nn.Module
        (B, 3, px, px) float32 to (B, D), the classification head already taken off.
    head : str
        Name of the layer that was taken off.
    layer : str
        Name of the layer whose output is the embedding.
    input_px : int or None
        Side of the input; None takes patches in their own size.
    mean, std : tuple of 3 floats
        Normalisation of pixels in 0..1.
    pretrained : callable or None
        Returns the published weights; None where the network has no weights to learn.
    exportable : bool
        Whether other engines than PyTorch may run it.
    """

    module: nn.Module
    head: str
    layer: str
    input_px: int | None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pretrained: Callable[[], Mapping[str, Tensor]] | None = None
    exportable: bool = True


@dataclass(frozen=True)
class Backbone:
    """A frozen network, ready to embed patches.

    Attributes
    ----------
    name : str
    module : nn.Module
        In evaluation mode, on the CPU; (B, 3, px, px) float32 to (B, D).
    input_px : int or None
        Side of the input; None takes patches in their own size.
    mean, std : tuple of 3 floats
        Normalisation of pixels in 0..1.
    layer : str
        Name of the layer whose output is the embedding.
    weights : str
        Where the weights came from, for people to read.
    weights_digest : str
        SHA-256 of the weights' content.
    tuned_on : tuple of dict
        Slides whose abundances shaped the weights, see `weights.Tuning`.
    exportable : bool
        Whether other engines than PyTorch may run it.
    """

    name: str
    module: nn.Module
    input_px: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layer: str
    weights: str
    weights_digest: str
    tuned_on: tuple[dict[str, str], ...] = ()
    exportable: bool = True


_REGISTRY: dict[str, Callable[[], Architecture]] = {}

Build = Callable[[], Architecture]


def register(name: str) -> Callable[[Build], Build]:
    """Add the decorated function to the registry under `name`.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def add(build: Build) -> Build:
        if name in _REGISTRY:
            raise ValueError(f"backbone {name!r} is registered twice")
        _REGISTRY[name] = build
        return build

    return add


def backbone_names() -> list[str]:
    """Names of all registered backbones, in alphabetical order."""
    return sorted(_REGISTRY)


def describe_backbones() -> dict[str, str]:
    """One line about each registered backbone, by name."""
    lines = {name: (_REGISTRY[name].__doc__ or "").strip() for name in backbone_names()}
    return {name: line.split("\n")[0] for name, line in lines.items()}


def is_harmless(name: str) -> bool:
    """Whether building `name` with given weights neither imports code nor fetches a file.

    True of the registered names and timm's own; false of a function and of huggingface.co.
    """
    return name in _REGISTRY or re.fullmatch(r"timm:[\w.]+", name) is not None


def architecture(name: str) -> Architecture:
    """The network called `name`, with its initial weights.

    Parameters
    ----------
    name : str
        One of `backbone_names`, ``timm:<name>``, ``hf-hub:<owner>/<repository>``, or a function
        of one's own, ``<module>:<function>``, that returns an `Architecture`.

    Raises
    ------
    HistoboostError
        If there is none; the message suggests close names and lists those there are.
    """
    if name.startswith(("timm:", "hf-hub:")):
        from histoboost.featurize.backbones.timm import timm_architecture

        return timm_architecture(name)
    if ":" in name:
        from histoboost.featurize.backbones.factory import factory_architecture

        return factory_architecture(name)
    if name not in _REGISTRY:
        close = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f"did you mean {close[0]}? known are" if close else "known are"
        raise BadInput(
            f"backbone {name!r}: unknown; {hint} {', '.join(backbone_names())}, timm:<name>, "
            "hf-hub:<repository> and <module>:<function>"
        )
    return _REGISTRY[name]()


def load_backbone(name: str, weights: str = "pretrained", seed: int = 0) -> Backbone:
    """Load a backbone with its weights.

    Parameters
    ----------
    name : str
        As `architecture` takes it.
    weights : str
        ``"pretrained"``, ``"random"`` (initialised with `seed`: for tests) or the path of a file.
    seed : int
        For random weights.

    Returns
    -------
    Backbone

    Raises
    ------
    HistoboostError
        If the name is unknown, or the weights cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = architecture(name)
    tuning = weight_files.Tuning()
    if net.pretrained is None:
        if weights != "pretrained":
            raise BadInput(f"backbone {name}: has no weights; leave --weights away")
        source = "none needed"
    elif weights == "random":
        source = f"random, seed {seed}"
    else:
        if weights == "pretrained":
            source, state = "pretrained", net.pretrained()
        else:
            source, state = str(weights), weight_files.read_weights(weights)
            tuning = weight_files.read_tuning(weights)
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
    )


def _torchvision(name: str, head: str, layer: str) -> Architecture:
    """A classifier of torchvision whose layer `head` is replaced by the identity."""
    from torchvision import models

    module = models.get_model(name, weights=None)
    module.set_submodule(head, nn.Identity())
    entry = models.get_model_weights(name).DEFAULT
    return Architecture(
        module=module,
        head=head,
        layer=layer,
        input_px=entry.transforms().crop_size[0],
        pretrained=lambda: weight_files.download(entry, name),
    )


@register("resnet18")
def resnet18() -> Architecture:
    """ResNet-18 (He et al. 2015), 512 numbers after global average pooling."""
    return _torchvision("resnet18", "fc", "avgpool")


@register("resnet50")
def resnet50() -> Architecture:
    """ResNet-50 (He et al. 2015), 2048 numbers after global average pooling."""
    return _torchvision("resnet50", "fc", "avgpool")


@register("efficientnet_b0")
def efficientnet_b0() -> Architecture:
    """EfficientNet-B0 (Tan and Le 2019), 1280 numbers after global average pooling."""
    return _torchvision("efficientnet_b0", "classifier", "avgpool")


@register("efficientnet_b1")
def efficientnet_b1() -> Architecture:
    """EfficientNet-B1 (Tan and Le 2019), 1280 numbers after global average pooling."""
    return _torchvision("efficientnet_b1", "classifier", "avgpool")


@register("efficientnet_b2")
def efficientnet_b2() -> Architecture:
    """EfficientNet-B2 (Tan and Le 2019), 1408 numbers after global average pooling."""
    return _torchvision("efficientnet_b2", "classifier", "avgpool")


@register("densenet121")
def densenet121() -> Architecture:
    """DenseNet-121 (Huang et al. 2016), 1024 numbers after global average pooling."""
    return _torchvision("densenet121", "classifier", "features.norm5")


@register("mobilenet_v2")
def mobilenet_v2() -> Architecture:
    """MobileNetV2 (Sandler et al. 2018), 1280 numbers after global average pooling."""
    return _torchvision("mobilenet_v2", "classifier", "features.18")


@register("mobilenet_v3_large")
def mobilenet_v3_large() -> Architecture:
    """MobileNetV3-Large (Howard et al. 2019), 960 numbers after global average pooling."""
    return _torchvision("mobilenet_v3_large", "classifier", "avgpool")


@register("convnext_tiny")
def convnext_tiny() -> Architecture:
    """ConvNeXt-Tiny (Liu et al. 2022), 768 numbers after pooling and its last layer norm."""
    return _torchvision("convnext_tiny", "classifier.2", "classifier.1")


@register("stain-texture")
def stain_texture() -> Architecture:
    """Colour, stain and texture statistics; no weights, no download; 105 numbers."""
    from histoboost.featurize.backbones.stain_texture import StainTexture

    return Architecture(
        module=StainTexture(),
        head="",
        layer="statistics",
        input_px=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        exportable=False,
    )
