"""Torchvision's CNNs, one line each."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from histoboost.featurize.backbones import weights
from histoboost.featurize.backbones.base import Architecture


class Network(NamedTuple):
    """A classifier of torchvision and the layers to embed."""

    about: str
    head: str  # replaced by the identity
    layer: str  # its output is the embedding
    deep: str  # last layers of strides 16, 8 (their means), 4 and 2 (standard deviations)


_RESNET = ("fc", "avgpool", "layer3:mean,layer2:mean,layer1:std,relu:std")
_EFFICIENTNET = (
    *("classifier", "avgpool"),
    "features.5:mean,features.3:mean,features.2:std,features.1:std",
)

NETWORKS = {
    "resnet18": Network("ResNet-18 (He et al. 2015), 512 numbers", *_RESNET),
    "resnet50": Network("ResNet-50 (He et al. 2015), 2048 numbers", *_RESNET),
    "efficientnet_b0": Network("EfficientNet-B0 (Tan and Le 2019), 1280 numbers", *_EFFICIENTNET),
    "efficientnet_b1": Network("EfficientNet-B1 (Tan and Le 2019), 1280 numbers", *_EFFICIENTNET),
    "efficientnet_b2": Network("EfficientNet-B2 (Tan and Le 2019), 1408 numbers", *_EFFICIENTNET),
    "densenet121": Network(
        "DenseNet-121 (Huang et al. 2016), 1024 numbers",
        *("classifier", "features.norm5"),
        "features.denseblock3:mean,features.denseblock2:mean,features.denseblock1:std,"
        "features.relu0:std",
    ),
    "mobilenet_v2": Network(
        "MobileNetV2 (Sandler et al. 2018), 1280 numbers",
        *("classifier", "features.18"),
        "features.13:mean,features.6:mean,features.3:std,features.1:std",
    ),
    "mobilenet_v3_large": Network(
        "MobileNetV3-Large (Howard et al. 2019), 960 numbers",
        *("classifier", "avgpool"),
        "features.12:mean,features.6:mean,features.3:std,features.1:std",
    ),
    "convnext_tiny": Network(
        "ConvNeXt-Tiny (Liu et al. 2022), 768 numbers",
        *("classifier.2", "classifier.1"),
        "features.5:mean,features.3:mean,features.1:std,features.0:std",  # its stem has stride 4
    ),
}


def architecture(name: str) -> Architecture:
    """Build the network `name` without its head."""
    from torchvision import models

    network = NETWORKS[name]
    module = models.get_model(name, weights=None)
    module.set_submodule(network.head, nn.Identity())
    entry = models.get_model_weights(name).DEFAULT
    return Architecture(
        module=module,
        head=network.head,
        layer=network.layer,
        input_px=entry.transforms().crop_size[0],
        pretrained=lambda: weights.download(entry, name),
        deep=tuple(network.deep.split(",")),
    )
