"""Identity of an embedding: everything that changes its numbers, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histoboost.digests import digest_bytes
from histoboost.errors import BadInput
from histoboost.names import default_embedding_name, layer_suffix

#: Fields that differ from slide to slide within one embedding.
SLIDE_FIELDS = (
    "slide_pixels",
    "slide_scale",
    "slide_level",
    "slide_turn",
    "spots",
    "alignment",
    "array",
)

#: Digest fields, with the meaning of a difference.
DIGESTS = {
    "array": "the imported numbers have changed",
    "slide_pixels": "the image of the slide has changed",
    "spots": "the spots have moved",
    "weights": "the weights have changed",
}


class Recipe:
    """The identity of an embedding, as a canonical JSON mapping.

    Embeddings with the same recipe have the same numbers (up to the last bits, which depend on the
    device). Batch size, number of workers, paths and device index are therefore excluded.

    Examples
    --------
    >>> a = Recipe({"backbone": "resnet18", "patch_px": 64})
    >>> b = Recipe({"patch_px": 128, "backbone": "resnet18"})
    >>> a.differences(b)
    ['patch_px: 64, not 128']
    """

    __slots__ = ("_canonical",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(
                dict(fields),
                sort_keys=True,
                separators=(",", ":"),
                ensure_ascii=False,
                allow_nan=False,
            )
        except (TypeError, ValueError) as error:
            raise BadInput(f"recipe: {error}; fields must be JSON values") from error
        self._canonical = text

    @property
    def fields(self) -> dict[str, Any]:
        """A copy of the mapping, parsed from JSON."""
        fields: dict[str, Any] = json.loads(self._canonical)
        return fields

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical text: sorted keys, no spaces, UTF-8."""
        return digest_bytes(self._canonical.encode())

    def differences(self, other: Recipe) -> list[str]:
        """One line per differing field, sorted; empty for equal recipes."""
        mine, theirs = self.fields, other.fields
        keys = [
            key
            for key in sorted(mine.keys() | theirs.keys())
            if key not in mine or key not in theirs or _json(mine[key]) != _json(theirs[key])
        ]
        if "slide_turn" in keys:  # pixels and spots were turned with it
            keys = [key for key in keys if key not in ("slide_pixels", "spots")]
        return [_difference(mine, theirs, key) for key in keys]

    def without_slide(self) -> Recipe:
        """The recipe without the slide's own fields, as compared by models."""
        return Recipe({k: v for k, v in self.fields.items() if k not in SLIDE_FIELDS})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._canonical == other._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)

    def __repr__(self) -> str:
        return f"Recipe({self.fields!r})"


@dataclass(frozen=True)
class Making:
    """Arguments of `featurize` that made an embedding; `name` is None for its default.

    `side` is the side of the patches as in ``--patch``, `layer` one of ``--layers``.
    """

    backbone: str
    side: str
    layer: str
    name: str | None
    stain: str
    views: int
    precision: str

    @classmethod
    def from_recipe(cls, name: str, fields: Mapping[str, Any]) -> Making | None:
        """Recover the arguments from recipe `fields`; None for an imported embedding."""
        if "backbone" not in fields or not {"patch_px", "patch_um"} & fields.keys():
            return None
        px, layer = fields.get("patch_px"), str(fields.get("layer", ""))
        side = f"{fields['patch_um']:g}um" if px is None else str(px)
        backbone, base = str(fields["backbone"]), name.removesuffix(layer_suffix(layer))
        return cls(
            backbone=backbone,
            side=side,
            layer=layer if ":" in layer else "default",
            name=None if base == default_embedding_name(backbone, side) else base,
            stain=str(fields.get("stain", "none")).split(",")[0],
            views=int(fields.get("views", 1)),
            precision=str(fields.get("precision", "fp32")),
        )


def _json(value: Any) -> str:
    # As text, so that 1, 1.0 and true differ, as in the digest.
    return json.dumps(value, sort_keys=True)


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], key: str) -> str:
    if key in DIGESTS and key in mine and key in theirs:
        return DIGESTS[key]
    return f"{key}: {_show(mine, key)}, not {_show(theirs, key)}"


def _show(fields: Mapping[str, Any], key: str) -> str:
    if key not in fields:
        return "absent"
    text = _json(fields[key])
    return text if len(text) <= 60 else text[:57] + "..."
