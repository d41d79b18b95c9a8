"""What is to be embedded, and what is known of it without the network."""

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
from histoboost.featurize.recipe import recipe
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.names import layer_suffix
from histoboost.slides.images.base import version
from histoboost.slides.tile_cache import levels_cut

#: Packages that networks come from.
PACKAGES = ("histoboost", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Request:
    """What is to be embedded, in words that mean the same on every machine.

    As for `histoboost.featurize.featurize`; `sizes` are the sides of the patches and the names of
    their embeddings, `patches` how many there are to embed in all.
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
    check_sources: bool = False

    def key(self) -> str | None:
        """What the backbone's `Facts` are kept under, see `backbone_key`."""
        return backbone_key(self.backbone, self.weights, self.layers)

    def names(self, net: Facts) -> list[str]:
        """Names of all embeddings."""
        bases = [name for _, name in self.sizes]
        return [name + layer_suffix(layer) for name in bases for layer in net.layers]

    def recipes(
        self, net: Facts, opened: OpenedSlide, side: PatchSize, base: str
    ) -> dict[str, Recipe]:
        """Recipes of the embeddings of one patch size, one for each layer, by name."""
        slide = opened.slide
        where = window(levels_cut(slide.image), side.pixels(slide), net.input_px)
        return {
            base + layer_suffix(layer): recipe(
                net,
                side,
                slide,
                opened.digest,
                opened.alignment,
                window=where,
                layer=layer,
                stain=self.stain,
                views=self.views,
                precision=self.precision,
            )
            for layer in net.layers
        }


def backbone_key(backbone: str, weights: str, layers: str) -> str | None:
    """What tells whether `Facts` are of these words still; None where there is no such file."""
    file = None
    if weights not in ("pretrained", "random"):
        path = Path(weights).resolve()
        if not path.is_file():
            return None
        file = [str(path), *version(path)]
    versions = [[name, *_version(name)] for name in PACKAGES]
    words = [versions, backbone, file or weights, layers]
    return digest_bytes(json.dumps(words).encode())


def remember(source: dict[str, Any], key: str, net: Backbone) -> None:
    """Note the facts of a backbone in what a store is to remember of an image."""
    facts = {field.name: getattr(net, field.name) for field in fields(Facts)}
    source["backbones"] = {**source.get("backbones", {}), key: facts}


def recall(store: EmbeddingStore, slides: Iterable[str], key: str | None) -> Facts | None:
    """What a store remembers of a backbone with the first of these slides that it holds."""
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
    """What a run would tell that computes nothing; None where the network may be needed.

    Neither torch nor any weights are loaded for it.
    """
    slides = (queued.name for queued in queue)
    ours = request.device in ("auto", "cpu") and request.engine in ("auto", "torch", "openvino")
    net = recall(store, slides, request.key()) if ours and not request.check_sources else None
    if net is None:
        return None
    names = request.names(net)
    with warnings_kept() as heard:
        for queued in queue:
            slide = queued.read()
            known = remembered(store, slide)
            opened = recalled(slide, queued.alignment, known, store, names, request.stain)
            if opened is None or not _stored(request, net, opened, store):
                return None
            store.write_spots(slide.spot_table(None), queued.order)
    pass_on(heard)
    return FeaturizeSummary(embeddings=names, kept=request.patches)


def _stored(request: Request, net: Facts, opened: OpenedSlide, store: EmbeddingStore) -> bool:
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
