"""Description of a pathology foundation model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Mean and standard deviation of pixels in 0..1, by their name in the manual.
NORMALISATIONS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "Bioptimus": ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)),
    "HistAI": ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816)),
    "Lunit": ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464)),
}

#: How a vision transformer's tokens become the embedding, and the ``layer`` in recipes.
POOLINGS = {
    "class token": "pre-logits",
    "class token and mean of patch tokens": "class+mean tokens",
    "attention pooling": "attention pooling",
    "projected class token, of length 1": "projection",
}


@dataclass(frozen=True)
class FoundationModel:
    """A pathology model: its network in timm, its input, its licence."""

    name: str  # as its authors write it; in lower case the value of --backbone
    repository: str  # on huggingface.co
    architecture: str  # of timm.create_model
    width: int  # columns of an embedding
    parameters: int  # in millions
    licence: str
    reference: str
    checked: str  # two or more sources that agree on these facts, see docs/foundation-models.md
    revision: str | None = None  # pinned commit; None (no public source names one): the newest
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of timm.create_model
    swiglu: bool = False  # gated MLPs
    pooling: str = "class token"  # a key of POOLINGS
    commercial: bool | None = False  # licensed for commercial use; None: sources disagree
    gated: bool | None = True  # needs an account and an accepted licence; None: sources disagree
    also: tuple[str, ...] = ()  # other short names
    file: str | None = None  # weights file, if not one of timm.FILES
    input_px: int = 224
    um_per_px: tuple[float, ...] = (0.5,)  # resolutions it was trained at
    normalisation: str = "ImageNet"  # a key of NORMALISATIONS
    interpolation: str = "bicubic"  # or "bilinear": how its authors resize patches
    remark: str = ""  # what sources disagree on, or could not be checked

    @property
    def short(self) -> str:
        """Value of ``--backbone``."""
        return self.name.lower()

    @property
    def backbone(self) -> str:
        """Name in recipes."""
        return f"hf-hub:{self.repository}"
