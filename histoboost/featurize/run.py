"""Embed many slides on one device: read the next one while this one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import closing

import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import is_fixed, load_once
from histoboost.featurize.backbones.layers import widths, with_layers
from histoboost.featurize.backbones.pathology import warn_if_far
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.pick import (
    COMPILE_FROM,
    check_engine,
    pick_device,
    pick_engine,
)
from histoboost.featurize.loaded_once import once
from histoboost.featurize.loop import Clock, Sink, WriterThread, embed_patches
from histoboost.featurize.opened_slide import OpenedSlide, QueuedSlide, open_slide, read_slide
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.request import Request, remember
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.progress import Advance, progress
from histoboost.slides.align.apply import move_spots
from histoboost.slides.images.base import in_order


class Run:
    """Embeds slides with one backbone on one device; its engine is made for the first patch."""

    def __init__(
        self, request: Request, net: Backbone, device: torch.device, key: str | None
    ) -> None:
        self.request, self._net, self._device, self._key = request, net, device, key
        self._engine: Engine | None = None
        self._widths: dict[int, list[int]] = {}
        self._clock = Clock()

    @classmethod
    def load(cls, request: Request) -> Run:
        """Load the backbone on this machine, and check the options."""
        device, key = pick_device(request.device), request.key()
        net = with_layers(load_once(request.backbone, request.weights), request.layers)
        check_engine(net, device, request.engine, request.precision, request.views)
        return cls(request, net, device, key if is_fixed(net.name, request.weights) else None)

    def on(self, device: torch.device) -> Run:
        """The same run on another device."""
        return Run(self.request, self._net, device, self._key)

    def embed(
        self, queue: Sequence[QueuedSlide], store: EmbeddingStore, *, quiet: bool = False
    ) -> FeaturizeSummary:
        """Store the spots and the embeddings of all slides; `quiet` shows no progress."""
        request, self._clock = self.request, Clock()
        names = request.names(self._net)
        summary = FeaturizeSummary(embeddings=names)
        writing = WriterThread()
        sinks: deque[Sink] = deque()  # unpublished: a run over many slides holds few
        slides = in_order(
            lambda queued: open_slide(
                queued, store, names, request.stain, check=request.check_sources
            ),
            queue,
            threads=1,
            ahead=1,
        )
        patches = 0 if quiet else request.patches
        with closing(slides), progress("embedding", patches, "patches") as advance:
            try:
                for queued in queue:
                    with self._clock("read"):
                        opened = next(slides)
                    sinks += self._embed_slide(queued, opened, store, writing, advance, summary)
                    while sinks and sinks[0].published:
                        sinks.popleft().warn_if_lost()
                with self._clock("write"):
                    writing.finish()
            finally:
                writing.stop()
        for sink in sinks:
            sink.warn_if_lost()
        summary.seconds = self._clock.seconds
        summary.load_seconds = summary.seconds.pop("load")
        if self._engine is not None:
            summary.engine, summary.device = self._engine.name, str(self._engine.device)
        return summary

    def make_engine(self) -> Engine:
        """Make the engine that the request selects."""
        request = self.request
        return pick_engine(
            self._net,
            self._device,
            engine=request.engine,
            precision=request.precision,
            views=request.views,
            batch=request.batch_size,
            patches=request.patches,
        )

    def _embed_slide(
        self,
        queued: QueuedSlide,
        opened: OpenedSlide,
        store: EmbeddingStore,
        writing: WriterThread,
        advance: Advance,
        summary: FeaturizeSummary,
    ) -> list[Sink]:
        slide = opened.slide
        store.write_spots(slide.spot_table(opened.picture), queued.order)
        found = self._all_sinks(opened, store)
        if opened.image is None and any(sink.missing for sinks in found.values() for sink in sinks):
            for sink in (sink for sinks in found.values() for sink in sinks):
                sink.writer.close()
            with self._clock("read"):
                opened = read_slide(slide, queued.alignment, opened.source, self.request.stain)
            found = self._all_sinks(opened, store)
        if opened.source["files"]:
            if self._key is not None:
                remember(opened.source, self._key, self._net)
            store.note_source(slide.name, opened.source)
        by_px: dict[int, list[Sink]] = {}
        for px, sinks in found.items():
            missing = {part.start: part.stop for sink in sinks for part in sink.missing}
            kept = len(slide.xy) - sum(stop - start for start, stop in missing.items())
            summary.kept += kept
            if kept:
                advance(kept, kept=True)
            # Embeddings that another process published meanwhile are recomputed: they were counted.
            sinks = [sink for sink in sinks if sink.missing or not sink.writer.published]
            if sinks:
                by_px[px] = sinks
        if not by_px:
            return []
        assert opened.image is not None
        all_sinks = [sink for sinks in by_px.values() for sink in sinks]
        try:
            engine = self._get_engine()
            advance(0, kept=True)  # restarts the clock of the rate: loading is over
            summary.computed += embed_patches(
                slide.name,
                opened.image,
                move_spots(slide, opened.alignment).xy,
                by_px,
                engine,
                self._net.input_px,
                self._net.interpolation,
                writing,
                self._clock,
                advance,
            )
            for sink in all_sinks:
                writing.put(sink.publish)
        except BaseException:
            writing.stop()  # complete chunks are still written; a later run resumes
            for sink in all_sinks:
                sink.writer.close()
            raise
        return all_sinks

    def _all_sinks(self, opened: OpenedSlide, store: EmbeddingStore) -> dict[int, list[Sink]]:
        """Sinks of all embeddings, by the side of their patches in pixels."""
        slide, found = opened.slide, {}
        for side, name in self.request.sizes:
            px = side.pixels(slide)
            warn_if_far(self._net.name, self._net.input_px, px, slide.um_per_px, slide.name)
            found[px] = self._sinks(opened, side, name, store)
        return found

    def _sinks(
        self, opened: OpenedSlide, side: PatchSize, base: str, store: EmbeddingStore
    ) -> list[Sink]:
        """Sinks of the embeddings at one patch size, one per layer."""
        slide = opened.slide
        stored = store.embeddings(slide.name)
        current = self.request.recipes(self._net, opened, side, base)
        recipes = dict(current)
        for name, own in current.items():
            if name in stored and opened.matches_older(stored[name], own, self.request.stain):
                recipes[name] = stored[name]
        if all(stored.get(name) == recipe for name, recipe in recipes.items()):
            columns = [store.width(slide.name, name) for name in recipes]  # needs no forward pass
        else:
            columns = self._columns(side.pixels(slide))
        sinks, first = [], 0
        for (name, recipe), width in zip(recipes.items(), columns, strict=True):
            writer = store.writer(slide.name, name, recipe, len(slide.xy), width)
            if writer.missing and "slide_level" in current[name].fields.keys() - recipe.fields:
                raise BadInput(
                    f"{store.location}: slide {slide.name}, embedding {name}: is damaged, and was "
                    "cut at full resolution by an older version; remove it first"
                )
            what = f"slide {slide.name}: embedding {name}"
            sinks.append(Sink(writer, writer.missing, slice(first, first + width), what))
            first += width
        return sinks

    def _get_engine(self) -> Engine:
        if self._engine is None:
            of, compiled = self.request, self.request.patches >= COMPILE_FROM
            network = (self._device, of.backbone, of.weights, of.layers)
            options = (of.engine, of.precision, of.views, of.batch_size, compiled)
            with self._clock("load"):
                self._engine = once(("engine", *network, *options), self.make_engine)
        return self._engine

    def _columns(self, px: int) -> list[int]:
        side = self._net.input_px or px
        if side not in self._widths:
            with self._clock("load"):
                self._widths[side] = widths(self._net, side)
        return self._widths[side]
