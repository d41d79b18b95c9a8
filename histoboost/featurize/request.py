"""What to embed, and whether a store holds it all, without loading the network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.digests import digest_bytes
from histoboost.errors import pass_on, warnings_kept
from histoboost.featurize.backbones.base import Backbone, Facts
from histoboost.featurize.backbones.pathology import warn_if_far
from histoboost.featurize.level import window
from histoboost.featurize.opened_slide import OpenedSlide, QueuedSlide, recalled, remembered
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.recipe_fields import recipe
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.names import layer_suffix
from histoboost.slides.images.base import version
from histoboost.slides.tile_cache import levels_cut

#: Packages that define networks.
PACKAGES = ("histoboost", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Request:
    """Options of a run of `histoboost.featurize.featurize`, valid on every machine.

    `sizes` are the patch sizes with the names of their embeddings, `patches` is the number to
    embed in all.
    """

    backbone: str
    weights: str
    layers: str
    device: str
    engine: str
    precision: str
    views: int
    batch_size: int | None
    stain: str
    sizes: tuple[tuple[PatchSize, str], ...]
    patches: int
    check_sources: bool

    def key(self) -> str | None:
        """Key of the backbone's `Facts` in a store, see `backbone_key`."""
        return backbone_key(self.backbone, self.weights, self.layers)

    def names(self, net: Facts) -> list[str]:
        """Names of all embeddings."""
        return [name + layer_suffix(layer) for _, name in self.sizes for layer in net.layers]

    def recipes(
        self, net: Facts, opened: OpenedSlide, side: PatchSize, base: str
    ) -> dict[str, Recipe]:
        """Recipes of the embeddings at one patch size, one per layer, by name."""
        slide = opened.slide
        level = window(levels_cut(slide.image), side.pixels(slide), net.input_px)
        return {
            base + layer_suffix(layer): recipe(
                net,
                side,
                slide,
                opened.digest,
                opened.alignment,
                level,
                layer,
                stain=self.stain,
                views=self.views,
                precision=self.precision,
            )
            for layer in net.layers
        }


def backbone_key(backbone: str, weights: str, layers: str) -> str | None:
    """Digest of what determines a backbone's `Facts`; None if its weights file is missing."""
    file = None
    if weights not in ("pretrained", "random"):
        path = Path(weights).resolve()
        if not path.is_file():
            return None
        file = [str(path), *version(path)]
    versions = [[name, *_version(name)] for name in PACKAGES]
    return digest_bytes(json.dumps([versions, backbone, file or weights, layers]).encode())


def remember(source: dict[str, Any], key: str, net: Backbone) -> None:
    """Add the facts of a backbone to what a store remembers of an image."""
    facts = {field.name: getattr(net, field.name) for field in fields(Facts)}
    source["backbones"] = {**source.get("backbones", {}), key: facts}


def recall(store: EmbeddingStore, slides: Iterable[str], key: str | None) -> Facts | None:
    """Facts of a backbone that a store remembers with the first of these slides it holds."""
    name = next((name for name in slides if name in store), None)
    if key is None or name is None:
        return None
    found = store.source(name).get("backbones", {}).get(key)
    if found is None:
        return None
    facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    return Facts(**facts)


def all_stored(
    request: Request, queue: Sequence[QueuedSlide], store: EmbeddingStore
) -> FeaturizeSummary | None:
    """Summary of a run that has nothing to compute; None where it may need the network.

    Loads neither torch nor weights.
    """
    slides = (queued.name for queued in queue)
    local = request.device in ("auto", "cpu") and request.engine in ("auto", "torch", "openvino")
    net = recall(store, slides, request.key()) if local and not request.check_sources else None
    if net is None:
        return None
    names = request.names(net)
    with warnings_kept() as heard:
        for queued in queue:
            slide = queued.read()
            known = remembered(store, slide)
            opened = recalled(slide, queued.alignment, known, store, names, request.stain)
            if opened is None or not _is_stored(request, net, opened, store):
                return None
            store.write_spots(slide.spot_table(None), queued.order)
    pass_on(heard)
    return FeaturizeSummary(embeddings=names, kept=request.patches)


def _is_stored(request: Request, net: Facts, opened: OpenedSlide, store: EmbeddingStore) -> bool:
    """Whether all embeddings of a slide are complete and intact."""
    slide = opened.slide
    found = store.embeddings(slide.name)
    for side, base in request.sizes:
        warn_if_far(net.name, net.input_px, side.pixels(slide), slide.um_per_px, slide.name)
        for name, own in request.recipes(net, opened, side, base).items():
            if found.get(name) != own:
                return False
            width = store.width(slide.name, name)
            writer = store.writer(slide.name, name, own, len(slide.xy), width)
            if not writer.published:
                writer.close()
                return False
    return True


def _version(package: str) -> list[str]:
    try:
        return [metadata.version(package)]
    except metadata.PackageNotFoundError:
        return []
