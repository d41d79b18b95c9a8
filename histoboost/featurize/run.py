"""A run over many slides: read the next one while this one computes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.backbones.layers import widths, with_layers
from histoboost.featurize.backbones.pathology import warn_if_far
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.pick import check_engine, pick_device, pick_engine
from histoboost.featurize.loop import Clock, Sink, WriterThread, embed_patches
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.recipe import recipe
from histoboost.featurize.stain import normalised
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.names import layer_suffix
from histoboost.progress import Advance, progress
from histoboost.slides.align.apply import AlignmentChoice, alignment_of, move_spots
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.checks import check_slide
from histoboost.slides.images.base import Level, SlideImage
from histoboost.slides.pixels import SlidePixels, read_pixels
from histoboost.slides.slide import Slide
from histoboost.slides.thumbnail import thumbnail


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

    def run(self) -> Run:
        """Load the backbone on this machine and make ready to embed."""
        device = pick_device(self.device)
        net = with_layers(load_backbone(self.backbone, self.weights), self.layers)
        check_engine(net, device, self.engine, self.precision, self.views)
        return Run(self, net, device)


@dataclass(frozen=True)
class QueuedSlide:
    """A slide to embed, on whichever device or machine, and its place in the store."""

    slide: Slide
    alignment: AlignmentChoice
    order: int


@dataclass(frozen=True)
class OpenedSlide:
    """A slide whose image was read: pixels as they are cropped, and as it came, in small."""

    slide: Slide
    pixels: SlidePixels
    picture: NDArray[np.uint8]
    alignment: Alignment


@dataclass(frozen=True)
class Decoded(SlideImage):
    """Pixels that were read already, as an image."""

    pixels: SlidePixels

    @property
    def levels(self) -> tuple[Level, ...]:  # type: ignore[override]
        """The one there is."""
        return (Level(self.pixels.height, self.pixels.width),)

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        """Rows."""
        return ((64, self.pixels.width),)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle, (height, width, 3) uint8."""
        return self.pixels.rows(y, y + height)[:, x : x + width]


class Run:
    """Embeds slides with one backbone on one device; its engine is made when a patch needs it."""

    def __init__(self, request: Request, net: Backbone, device: torch.device) -> None:
        self._request, self._net, self._device = request, net, device
        self._engine: Engine | None = None
        self._widths: dict[int, list[int]] = {}
        self._load_s = 0.0

    def on(self, device: torch.device) -> Run:
        """The same run on another device."""
        return Run(self._request, self._net, device)

    def patches(self, queue: Sequence[QueuedSlide]) -> int:
        """How many patches all these slides have."""
        return len(self._request.sizes) * sum(len(queued.slide.xy) for queued in queue)

    def embed(
        self, queue: Sequence[QueuedSlide], store: EmbeddingStore, *, quiet: bool = False
    ) -> FeaturizeSummary:
        """Store the spots and the embeddings of all slides; `quiet` shows no progress."""
        names = [
            name + layer_suffix(layer)
            for _, name in self._request.sizes
            for layer in self._net.layers
        ]
        clock, summary, self._load_s = Clock(), FeaturizeSummary(embeddings=names), 0.0
        total = 0 if quiet else self.patches(queue)
        writing = WriterThread()
        sinks: list[Sink] = []
        with ThreadPoolExecutor(1) as reader, progress("embedding", total, "patches") as advance:
            try:
                ahead = reader.submit(self._read, queue[0]) if queue else None
                for number, queued in enumerate(queue):
                    assert ahead is not None
                    with clock("read"):
                        opened = ahead.result()
                    if number + 1 < len(queue):
                        ahead = reader.submit(self._read, queue[number + 1])
                    with opened.pixels:
                        store.write_spots(queued.slide.spot_table(opened.picture), queued.order)
                        sinks += self._embed_slide(opened, store, writing, clock, advance, summary)
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

    def _read(self, queued: QueuedSlide) -> OpenedSlide:
        """All that needs the image, from one reading of it."""
        slide = queued.slide
        source = read_pixels(slide.image)
        try:
            image = Decoded(source)
            picture = thumbnail(image)
            slide.check_unchanged()
            decoded = replace(slide, image=image)
            alignment = alignment_of(decoded, queued.alignment)
            check_slide(move_spots(decoded, alignment))
            if self._request.stain == "none":
                return OpenedSlide(slide, source, picture, alignment)
            pixels = read_pixels(normalised(image, self._request.stain, slide.name))
        except BaseException:
            source.close()
            raise
        source.close()
        return OpenedSlide(slide, pixels, picture, alignment)

    def _embed_slide(
        self,
        opened: OpenedSlide,
        store: EmbeddingStore,
        writing: WriterThread,
        clock: Clock,
        advance: Advance,
        summary: FeaturizeSummary,
    ) -> list[Sink]:
        slide = opened.slide
        by_px: dict[int, list[Sink]] = {}
        for side, name in self._request.sizes:
            px = side.pixels(slide)
            warn_if_far(self._net.name, self._net.input_px, px, slide.um_per_px, slide.name)
            sinks = self._sinks(opened, side, name, store)
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
        all_sinks = [sink for sinks in by_px.values() for sink in sinks]
        try:
            engine = self._running()
            advance(0, kept=True)  # the time that loading took says nothing of what is to come
            summary.computed += embed_patches(
                slide.name,
                opened.pixels,
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

    def _sinks(
        self, opened: OpenedSlide, side: PatchSize, base: str, store: EmbeddingStore
    ) -> list[Sink]:
        """Where the embeddings of one patch size go, one for each layer."""
        slide, request = opened.slide, self._request
        names = [base + layer_suffix(layer) for layer in self._net.layers]
        recipes = [
            recipe(
                self._net,
                side,
                slide,
                opened.pixels.digest,
                opened.alignment,
                layer=layer,
                stain=request.stain,
                views=request.views,
                precision=request.precision,
            )
            for layer in self._net.layers
        ]
        found = store.embeddings(slide.name)
        stored = [found.get(name) == own for name, own in zip(names, recipes, strict=True)]
        # What is stored already needs no pass through the network.
        columns = (
            [store.width(slide.name, name) for name in names]
            if all(stored)
            else self._columns(side.pixels(slide))
        )
        sinks = []
        for name, own, first, width in zip(
            names, recipes, np.cumsum([0, *columns[:-1]]).tolist(), columns, strict=True
        ):
            writer = store.writer(slide.name, name, own, len(slide.xy), width)
            what = f"slide {slide.name}: embedding {name}"
            sinks.append(Sink(writer, writer.missing, slice(first, first + width), what))
        return sinks

    def _running(self) -> Engine:
        if self._engine is None:
            start = time.perf_counter()
            self._engine = self.make_engine()
            self._load_s += time.perf_counter() - start
        return self._engine

    def _columns(self, px: int) -> list[int]:
        side = self._net.input_px or px
        if side not in self._widths:
            start = time.perf_counter()
            self._widths[side] = widths(self._net, side)
            self._load_s += time.perf_counter() - start
        return self._widths[side]
