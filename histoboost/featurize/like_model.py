"""Repeat the `featurize` calls of a model's training: arguments from its recipes, and weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from histoboost.cache.recipe import Making
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostError, warn
from histoboost.featurize.request import backbone_key, recall


@dataclass(frozen=True)
class Call:
    """Arguments of one call of `featurize`, and the digest of the weights it needs."""

    backbone: str
    digest: str
    stain: str
    views: int
    precision: str
    name: str | None
    patch: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


def calls_for(recipes: Mapping[str, Mapping[str, Any]]) -> list[Call]:
    """List the calls of `featurize` that make embeddings with these recipes, by name."""
    layers: dict[tuple[Call, str], list[str]] = {}
    for name, fields in recipes.items():
        making = Making.from_recipe(name, fields)
        if making is None:
            raise BadInput(
                f"embedding {name}: was computed elsewhere and imported, so histoboost cannot "
                "compute it for a new slide; import it into a store and use histoboost predict"
            )
        call = Call(
            backbone=making.backbone,
            digest=str(fields["weights"]),
            stain=making.stain,
            views=making.views,
            precision=making.precision,
            name=making.name,
        )
        layers.setdefault((call, making.side), []).append(making.layer)
    sides: dict[tuple[Call, str | None], list[str]] = {}
    for (call, side), found in layers.items():
        # Patch sizes with the same layers share a call; a chosen name has one size only.
        call = replace(call, layers=tuple(dict.fromkeys(found)))
        sides.setdefault((call, side if call.name else None), []).append(side)
    return [replace(call, patch=tuple(found)) for (call, _), found in sides.items()]


def as_trained(
    recipes: Mapping[str, Mapping[str, Any]],
    weights: Sequence[str],
    store: str | Path | None,
    slides: Collection[str],
) -> list[dict[str, Any]]:
    """Arguments of all calls of `featurize` that embed `slides` like a model's training slides.

    Refuses weights that are missing or not those of training; warns of weights that no backbone
    of the model uses.
    """
    for path in weights:
        if path not in ("pretrained", "random") and not Path(path).is_file():
            raise BadInput(f"{path}: no such weights file; check the path")
    target = None if store is None else EmbeddingStore(store)
    found = []
    for call in calls_for(recipes):
        arguments = {**asdict(call), "weights": matching_weights(call, weights, target, slides)}
        del arguments["digest"]
        found.append(arguments)
    used = {call["weights"] for call in found}
    for path in dict.fromkeys(path for path in weights if path not in used):
        names = ", ".join(dict.fromkeys(call["backbone"] for call in found))
        why = f"no backbone of the model ({names}) has these weights" if names else ""
        warn(f"{path}: is not used; {why or 'the model has no backbone'}; omit it")
    return found or [{"backbone": "none"}]


def matching_weights(
    call: Call, given: Sequence[str], store: EmbeddingStore | None, slides: Collection[str]
) -> str:
    """Select the weights of training from those given, ``"pretrained"`` if there are none.

    A `store` that holds one of `slides` may know their digest, which saves loading them.
    """
    why = ""
    for weights in given or ["pretrained"]:
        try:
            digest = _weights_digest(call, weights, store, slides)
        except HistoboostError as error:
            why = why or str(error)
            if "has no weights" in why and weights != "pretrained":
                return matching_weights(call, (), store, slides)
            continue
        if digest == call.digest:
            return weights
        why = (
            f"{weights}: are not the weights of {call.backbone} that the model was trained with "
            f"(digest {digest[:12]}, not {call.digest[:12]})"
        )
    why = why.rstrip(".").removesuffix(", or give --weights PATH")
    raise BadInput(f"{why}; give those of training with --weights PATH")


def _weights_digest(
    call: Call, weights: str, store: EmbeddingStore | None, slides: Collection[str]
) -> str:
    if store is not None:
        key = backbone_key(call.backbone, weights, ",".join(call.layers))
        if (known := recall(store, slides, key)) is not None:
            return known.weights_digest
    from histoboost.featurize.backbones.factory import load_once  # torch takes seconds

    return load_once(call.backbone, weights).weights_digest
