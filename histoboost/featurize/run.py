"""A run over many slides: read the next one while this one computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing

import numpy as np
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
from histoboost.featurize.level import window
from histoboost.featurize.loaded_once import once
from histoboost.featurize.loop import Clock, Sink, WriterThread, embed_patches
from histoboost.featurize.opened_slide import OpenedSlide, QueuedSlide, open_slide, read_slide
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.request import Request, remember
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.progress import Advance, progress
from histoboost.slides.align.apply import move_spots
from histoboost.slides.images.base import in_order
from histoboost.slides.tile_cache import levels_cut


class Run:
    """Embeds slides with one backbone on one device; its engine is made when a patch needs it."""

    def __init__(
        self, request: Request, net: Backbone, device: torch.device, key: str | None
    ) -> None:
        self._request, self._net, self._device, self._key = request, net, device, key
        self._engine: Engine | None = None
        self._widths: dict[int, list[int]] = {}
        self._load_s = 0.0

    @classmethod
    def of(cls, request: Request) -> Run:
        """Load the backbone on this machine and make ready to embed."""
        device, key = pick_device(request.device), request.key()
        net = with_layers(load_once(request.backbone, request.weights), request.layers)
        check_engine(net, device, request.engine, request.precision, request.views)
        return cls(request, net, device, key if is_fixed(net.name, request.weights) else None)

    def on(self, device: torch.device) -> Run:
        """The same run on another device."""
        return Run(self._request, self._net, device, self._key)

    def patches(self, queue: Sequence[QueuedSlide]) -> int:
        """How many patches all these slides have."""
        return len(self._request.sizes) * sum(queued.spots for queued in queue)

    def embed(
        self, queue: Sequence[QueuedSlide], store: EmbeddingStore, *, quiet: bool = False
    ) -> FeaturizeSummary:
        """Store the spots and the embeddings of all slides; `quiet` shows no progress."""
        clock, names, self._load_s = Clock(), self._request.names(self._net), 0.0
        summary = FeaturizeSummary(embeddings=names)
        total = 0 if quiet else self.patches(queue)
        writing = WriterThread()
        sinks: deque[Sink] = deque()  # not done with; a run over many slides holds few
        stain, check = self._request.stain, self._request.check_sources
        slides = in_order(
            lambda queued: open_slide(queued, store, names, stain, check=check),
            queue,
            threads=1,
            ahead=1,
        )
        with closing(slides), progress("embedding", total, "patches") as advance:
            try:
                for queued in queue:
                    with clock("read"):
                        opened = next(slides)
                    sinks += self._embed_slide(
                        queued, opened, store, writing, clock, advance, summary
                    )
                    while sinks and sinks[0].published:
                        sinks.popleft().warn_if_lost()
                with clock("write"):
                    writing.finish()
            finally:
                writing.stop()
        for sink in sinks:
            sink.warn_if_lost()
        summary.seconds, summary.load_seconds = clock.seconds, self._load_s
        if self._engine is not None:
            summary.engine, summary.device = self._engine.name, str(self._engine.device)
        return summary

    def make_engine(self) -> Engine:
        """The engine that was asked for."""
        request = self._request
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
        clock: Clock,
        advance: Advance,
        summary: FeaturizeSummary,
    ) -> list[Sink]:
        slide = opened.slide
        store.write_spots(slide.spot_table(opened.picture), queued.order)
        found = self._all_sinks(opened, store)
        if opened.image is None and any(sink.missing for sinks in found.values() for sink in sinks):
            for sink in (sink for sinks in found.values() for sink in sinks):
                sink.writer.close()
            with clock("read"):
                opened = read_slide(slide, queued.alignment, opened.source, self._request.stain)
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
            # What another process has published since is computed all the same: it was counted.
            sinks = [sink for sink in sinks if sink.missing or not sink.writer.published]
            if sinks:
                by_px[px] = sinks
        if not by_px:
            return []
        assert opened.image is not None
        all_sinks = [sink for sinks in by_px.values() for sink in sinks]
        try:
            engine = self._running()
            advance(0, kept=True)  # the time that loading took says nothing of what is to come
            summary.computed += embed_patches(
                slide.name,
                opened.image,
                move_spots(slide, opened.alignment).xy,
                by_px,
                engine,
                self._net.input_px,
                writing,
                clock,
                advance,
                self._net.interpolation,
            )
            for sink in all_sinks:
                writing.put(sink.publish)
        except BaseException:
            writing.stop()  # what is complete is still written, then given up for a later run
            for sink in all_sinks:
                sink.writer.close()
            raise
        return all_sinks

    def _all_sinks(self, opened: OpenedSlide, store: EmbeddingStore) -> dict[int, list[Sink]]:
        """Where the embeddings go, by the side of their patches in pixels."""
        slide, found = opened.slide, {}
        for side, name in self._request.sizes:
            px = side.pixels(slide)
            warn_if_far(self._net.name, self._net.input_px, px, slide.um_per_px, slide.name)
            found[px] = self._sinks(opened, side, name, store)
        return found

    def _sinks(
        self, opened: OpenedSlide, side: PatchSize, base: str, store: EmbeddingStore
    ) -> list[Sink]:
        """Where the embeddings of one patch size go, one for each layer."""
        slide, px = opened.slide, side.pixels(opened.slide)
        found = store.embeddings(slide.name)
        names, recipes = [], []
        for name, own in self._request.recipes(self._net, opened, side, base).items():
            older = found.get(name)
            same = opened.of_older_version(own, older, self._request.stain)
            names.append(name)
            recipes.append(older if same and older is not None else own)
        stored = [found.get(name) == own for name, own in zip(names, recipes, strict=True)]
        # What is stored already needs no pass through the network.
        columns = (
            [store.width(slide.name, name) for name in names] if all(stored) else self._columns(px)
        )
        sinks = []
        for name, own, first, width in zip(
            names, recipes, np.cumsum([0, *columns[:-1]]).tolist(), columns, strict=True
        ):
            writer = store.writer(slide.name, name, own, len(slide.xy), width)
            level = window(levels_cut(slide.image), px, self._net.input_px).level
            if writer.missing and level and "slide_level" not in own.fields:
                raise BadInput(
                    f"{store.location}: slide {slide.name}, embedding {name}: is damaged, and was "
                    "cut at full resolution by an older version; remove it first"
                )
            what = f"slide {slide.name}: embedding {name}"
            sinks.append(Sink(writer, writer.missing, slice(first, first + width), what))
        return sinks

    def _running(self) -> Engine:
        if self._engine is None:
            start = time.perf_counter()
            request, many = self._request, self._request.patches >= COMPILE_FROM
            words = (request.backbone, request.weights, request.layers, request.engine)
            how = (request.precision, request.views, request.batch_size, many)
            self._engine = once(("engine", self._device, *words, *how), self.make_engine)
            self._load_s += time.perf_counter() - start
        return self._engine

    def _columns(self, px: int) -> list[int]:
        side = self._net.input_px or px
        if side not in self._widths:
            start = time.perf_counter()
            self._widths[side] = widths(self._net, side)
            self._load_s += time.perf_counter() - start
        return self._widths[side]
