"""What is known of a pathology foundation model, and where it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Mean and standard deviation of pixels in 0..1, by the name that the manual gives them.
NORMALISATIONS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "Bioptimus": ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)),
    "HistAI": ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816)),
    "Lunit": ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464)),
}

#: What of a vision transformer's tokens is the embedding, and the ``layer`` that recipes call it.
POOLINGS = {
    "class token": "pre-logits",
    "class token and mean of patch tokens": "class+mean tokens",
    "attention pooling": "attention pooling",
    "projected class token, of length 1": "projection",
}


@dataclass(frozen=True)
class FoundationModel:
    """One model: how it is built from timm's parts, what it expects, what its licence allows.

    Attributes
    ----------
    name : str
        As its authors write it; in lower case the value of ``--backbone``.
    repository : str
        On huggingface.co.
    revision : str or None
        Commit whose weights are taken; None where no public source names one, then the newest.
    architecture, arguments : str, mapping
        Name and arguments of ``timm.create_model``.
    swiglu : bool
        Whether its blocks have gated MLPs (SwiGLU).
    pooling : str
        One of `POOLINGS`.
    width : int
        Numbers in an embedding.
    parameters : int
        In millions.
    licence : str
    commercial : bool or None
        Whether the licence allows commercial use; None where sources disagree.
    gated : bool or None
        Whether huggingface.co asks for an account and the licence's acceptance; None where sources
        disagree.
    reference : str
    checked : str
        Sources that agree on these facts, two at least; docs/foundation-models.md lists them.
    also : tuple of str
        Other short names.
    file : str or None
        Name of the weights file where it is not a usual one.
    input_px : int
        Side of the input.
    um_per_px : tuple of float
        Resolutions that it was trained at.
    normalisation : str
        One of `NORMALISATIONS`.
    interpolation : {"bicubic", "bilinear"}
        How its authors resize patches.
    remark : str
        What sources disagree on, or what could not be checked.
    """

    name: str
    repository: str
    architecture: str
    width: int
    parameters: int
    licence: str
    reference: str
    checked: str
    revision: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    swiglu: bool = False
    pooling: str = "class token"
    commercial: bool | None = False
    gated: bool | None = True
    also: tuple[str, ...] = ()
    file: str | None = None
    input_px: int = 224
    um_per_px: tuple[float, ...] = (0.5,)
    normalisation: str = "ImageNet"
    interpolation: str = "bicubic"
    remark: str = ""

    @property
    def short(self) -> str:
        """What ``--backbone`` takes."""
        return self.name.lower()

    @property
    def backbone(self) -> str:
        """How recipes name it, whatever it was called by."""
        return f"hf-hub:{self.repository}"

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of pixels in 0..1."""
        return NORMALISATIONS[self.normalisation][0]

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of pixels in 0..1."""
        return NORMALISATIONS[self.normalisation][1]

    def nearest(self, um_per_px: float) -> float:
        """The resolution among those it was trained at that is nearest to `um_per_px`."""
        return min(self.um_per_px, key=lambda own: max(own / um_per_px, um_per_px / own))
