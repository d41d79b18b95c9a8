"""Embeddings made as a model's were: what its recipes say, and the weights that fit them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from histoboost.cache.recipe import Making
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostError, warn
from histoboost.featurize.backbones.base import Facts
from histoboost.featurize.request import backbone_key, recall


@dataclass(frozen=True)
class Way:
    """One call of `featurize`, as its arguments; `digest` is that of the weights."""

    backbone: str
    digest: str
    stain: str
    views: int
    precision: str
    name: str | None
    patch: tuple[str, ...]
    layers: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """All but the weights."""
        fields = ("backbone", "stain", "views", "precision", "name", "patch", "layers")
        return {field: getattr(self, field) for field in fields}


def ways(recipes: Mapping[str, Mapping[str, Any]]) -> list[Way]:
    """The calls of `featurize` that make embeddings with these recipes, by name.

    Raises
    ------
    HistoboostError
        If one was imported, so that nobody here can make it anew.
    """
    layers: dict[Way, dict[str, None]] = {}
    for name, fields in recipes.items():
        making = Making.from_recipe(name, fields)
        if making is None:
            raise BadInput(
                f"embedding {name}: was made elsewhere and imported, so it cannot be made for a "
                "new slide; import it into a store and use histoboost predict"
            )
        way = Way(
            backbone=making.backbone,
            digest=str(fields["weights"]),
            stain=making.stain,
            views=making.views,
            precision=making.precision,
            name=making.name,
            patch=(making.side,),
        )
        layers.setdefault(way, {})[making.layer] = None
    joined: dict[Way, list[str]] = {}
    for way, found in layers.items():
        # Sizes that need the same layers go through together; of one's own name there is one size.
        any_size = replace(way, patch=way.patch if way.name else (), layers=tuple(found))
        joined.setdefault(any_size, []).append(way.patch[0])
    return [replace(way, patch=tuple(sides)) for way, sides in joined.items()]


def as_trained(
    recipes: Mapping[str, Mapping[str, Any]],
    weights: Sequence[str],
    store: str | Path | None,
    slides: Collection[str],
) -> list[dict[str, Any]]:
    """Arguments of all calls of `featurize` that embed `slides` as those of a model were.

    Raises
    ------
    HistoboostError
        If a file of weights is missing, or none are those of training.

    Warns
    -----
    HistoboostWarning
        If weights are given that no backbone of the model takes.
    """
    for path in weights:
        if path not in ("pretrained", "random") and not Path(path).is_file():
            raise BadInput(f"{path}: no such weights file; check the path")
    kept = None if store is None else EmbeddingStore(store)
    found = [
        {**way.arguments, "weights": fitting_weights(way, weights, kept, slides)}
        for way in ways(recipes)
    ]
    needless = dict.fromkeys(weights)
    for way in found:
        needless.pop(way["weights"], None)
    for path in needless:
        trained = ", ".join(dict.fromkeys(way["backbone"] for way in found)) or "no backbone"
        warn(f"{path}: is not used; the model was trained with {trained}, of other weights or none")
    return found or [{"backbone": "none"}]


def fitting_weights(
    way: Way, given: Sequence[str], store: EmbeddingStore | None, slides: Collection[str]
) -> str:
    """Of the weights that were given, those that the model's embeddings were made with.

    They are as `load_backbone` takes them; ``"pretrained"`` where there are none. A `store` that
    holds one of `slides` may remember them.
    """
    why = ""
    for weights in given or ["pretrained"]:
        try:
            digest = _facts(way, weights, store, slides).weights_digest
        except HistoboostError as error:
            why = why or str(error)
            if "has no weights" in why and weights != "pretrained":
                return fitting_weights(way, (), store, slides)
            continue
        if digest == way.digest:
            return weights
        why = (
            f"{weights}: are not the weights of {way.backbone} that the model's embeddings were "
            f"made with (digest {digest[:12]}, not {way.digest[:12]})"
        )
    why = why.rstrip(".").removesuffix(", or give --weights PATH")
    raise BadInput(f"{why}; give those of training with --weights PATH")


def _facts(way: Way, weights: str, store: EmbeddingStore | None, slides: Collection[str]) -> Facts:
    if store is not None:
        key = backbone_key(way.backbone, weights, ",".join(way.layers))
        if (known := recall(store, slides, key)) is not None:
            return known
    from histoboost.featurize.backbones.factory import load_once  # torch takes seconds

    return load_once(way.backbone, weights)
