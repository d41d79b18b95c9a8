"""Pathology models of images and text: the image side alone, one row each."""

from __future__ import annotations

from histoboost.featurize.backbones.foundation_model import FoundationModel

_NC_ND = "CC-BY-NC-ND-4.0"

VISION_LANGUAGE = (
    FoundationModel(
        name="CONCH",
        repository="MahmoodLab/conch",
        revision="f9ca9f877171a28ade80228fb195ac5d79003357",
        file="pytorch_model.bin",
        architecture="vit_base_patch16_224",
        arguments={"img_size": 448},
        pooling="attention pooling",
        width=512,
        parameters=88,
        input_px=448,
        normalisation="CLIP",
        licence=_NC_ND,
        reference="Lu et al. 2024, doi:10.1038/s41591-024-02856-4",
        checked="mahmoodlab/CONCH, TRIDENT, slide2vec, PathBench",
        remark="The image tower alone, before its projection; its own package is not needed.",
    ),
    FoundationModel(
        name="CONCH-v1.5",
        also=("conch_v15", "conchv1_5"),
        repository="MahmoodLab/conchv1_5",
        revision="3e5766a5d1500d53c73c03005e24c30c1f27be13",
        file="pytorch_model_vision.bin",
        architecture="vit_large_patch16_224",
        arguments={"img_size": 448, "init_values": 1e-6},
        pooling="attention pooling",
        width=768,
        parameters=307,
        input_px=448,
        interpolation="bilinear",
        licence=_NC_ND,
        reference="Ding et al. 2024, arXiv:2411.19666",
        checked="TRIDENT, LazySlide, slide2vec",
        remark="LazySlide resizes bicubically, TITAN's own code bilinearly.",
    ),
    FoundationModel(
        name="KEEP",
        repository="Astaxanthin/KEEP",
        architecture="vit_large_patch16_224",
        arguments={"init_values": 1e-5},
        pooling="projected class token, of length 1",
        width=768,
        parameters=305,
        licence="MIT",
        commercial=True,
        gated=False,
        reference="Zhou et al. 2026, doi:10.1016/j.ccell.2026.01.019",
        checked="card, TRIDENT, LazySlide, PathBench",
        remark="The image tower alone.",
    ),
)
