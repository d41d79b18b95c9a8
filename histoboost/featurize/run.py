"""A run over many slides: read the next one while this one computes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore, EmbeddingWriter
from histoboost.featurize.backbones.base import Backbone, load_backbone
from histoboost.featurize.backbones.pathology import warn_if_far
from histoboost.featurize.engines.base import Engine, check_engine, pick_device, pick_engine
from histoboost.featurize.loop import Clock, Sink, WriterThread, embed_patches
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.recipe import recipe
from histoboost.featurize.stain import normalised
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.progress import Advance, progress
from histoboost.slides.align.apply import AlignmentChoice, alignment_of, move_spots
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.inspect import check_slide
from histoboost.slides.pixels import SlidePixels, read_pixels
from histoboost.slides.slide import Slide
from histoboost.slides.thumbnail import thumbnail


@dataclass(frozen=True)
class EngineChoice:
    """What was asked of the engine; it is made when the first patch needs it.

    Attributes
    ----------
    engine : str
    device : torch.device
    precision : str
    views : int
    batch : int or None
    patches : int
        How many there are to embed in all.
    """

    engine: str
    device: torch.device
    precision: str
    views: int
    batch: int | None
    patches: int

    def make(self, net: Backbone) -> Engine:
        """The engine that runs `net`."""
        return pick_engine(
            net,
            self.device,
            engine=self.engine,
            precision=self.precision,
            views=self.views,
            batch=self.batch,
            patches=self.patches,
        )


@dataclass(frozen=True)
class Request:
    """What is to be embedded, in words that mean the same on every machine.

    Attributes
    ----------
    backbone, weights, device, engine, precision, stain : str
        As for `histoboost.featurize`.
    views : int
    batch_size : int or None
    jobs : tuple of (PatchSize, str)
        Sides of the patches and the names of their embeddings.
    patches : int
        How many there are to embed in all.
    """

    backbone: str
    weights: str
    device: str
    engine: str
    precision: str
    views: int
    batch_size: int | None
    stain: str
    jobs: tuple[tuple[PatchSize, str], ...]
    patches: int

    def run(self) -> Run:
        """Load the backbone on this machine and make ready to embed."""
        device = pick_device(self.device)
        choice = EngineChoice(
            self.engine, device, self.precision, self.views, self.batch_size, self.patches
        )
        net = load_backbone(self.backbone, self.weights)
        check_engine(net, device, self.engine, self.precision, self.views)
        return Run(net=net, choice=choice, jobs=dict(self.jobs), stain=self.stain)


@dataclass(frozen=True)
class QueuedSlide:
    """A slide whose turn comes, on whichever device or machine.

    Attributes
    ----------
    slide : Slide
    alignment : {"none", "auto"} or Alignment
        What is asked for, see `alignment_of`.
    order : int
        Its place in the store.
    """

    slide: Slide
    alignment: AlignmentChoice
    order: int


@dataclass(frozen=True)
class OpenedSlide:
    """What the image of a slide was read for.

    Attributes
    ----------
    pixels : SlidePixels
        As they are cropped.
    picture : ndarray of shape (h, w, 3), uint8
        The slide in small, as it came.
    alignment : Alignment
        How its spots are moved.
    """

    pixels: SlidePixels
    picture: NDArray[np.uint8]
    alignment: Alignment


@dataclass(frozen=True)
class Decoded:
    """Pixels that were read already, as an image."""

    pixels: SlidePixels
    source_dtype: str = "uint8"
    band_rows: int = 64

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.height, self.pixels.width

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive), (stop - start, W, 3) uint8."""
        return self.pixels.rows(start, stop)


class Run:
    """Embeds slides with one backbone.

    Parameters
    ----------
    net : Backbone
    choice : EngineChoice
    jobs : mapping of PatchSize to str
        Sides of the patches and the names of their embeddings.
    stain : str
        How stains are normalised.
    """

    def __init__(
        self, net: Backbone, choice: EngineChoice, jobs: Mapping[PatchSize, str], stain: str
    ) -> None:
        self._net, self._choice, self._jobs, self._stain = net, choice, jobs, stain
        self._engine: Engine | None = None
        self._widths: dict[int, int] = {}
        self._load_s = 0.0

    @property
    def sizes(self) -> int:
        """Number of patch sizes."""
        return len(self._jobs)

    def on(self, device: torch.device) -> Run:
        """The same run on another device."""
        return Run(self._net, replace(self._choice, device=device), self._jobs, self._stain)

    def embed(
        self, queue: Sequence[QueuedSlide], store: EmbeddingStore, *, quiet: bool = False
    ) -> FeaturizeSummary:
        """Store the spots and the embeddings of all slides; `quiet` shows no progress."""
        clock, summary, self._load_s = Clock(), FeaturizeSummary(), 0.0
        total = 0 if quiet else self.sizes * sum(len(queued.slide.xy) for queued in queue)
        writing = WriterThread()
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
                        table = queued.slide.spot_table(opened.picture)
                        store.write_spots(table, queued.order)
                        self._embed_slide(
                            queued.slide, opened, store, writing, clock, advance, summary
                        )
                with clock("write"):
                    writing.finish()
            finally:
                writing.stop()
        summary.seconds, summary.load_seconds = clock.seconds, self._load_s
        if self._engine is not None:
            summary.engine, summary.device = self._engine.name, str(self._engine.device)
        return summary

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
            if self._stain == "none":
                return OpenedSlide(source, picture, alignment)
            pixels = read_pixels(normalised(image, self._stain, slide.name))
        except BaseException:
            source.close()
            raise
        source.close()
        return OpenedSlide(pixels, picture, alignment)

    def _embed_slide(
        self,
        slide: Slide,
        opened: OpenedSlide,
        store: EmbeddingStore,
        writing: WriterThread,
        clock: Clock,
        advance: Advance,
        summary: FeaturizeSummary,
    ) -> None:
        sinks: dict[int, Sink] = {}
        for side, name in self._jobs.items():
            px = side.pixels(slide)
            warn_if_far(self._net.name, self._net.input_px, px, slide.um_per_px, slide.name)
            writer, width = self._writer(slide, side, name, opened, store)
            missing = writer.missing
            kept = len(slide.xy) - sum(part.stop - part.start for part in missing)
            summary.kept += kept
            if kept:
                advance(kept, kept=True)
            # What another process has published since is computed all the same: it was counted.
            if missing or not writer.published:
                sinks[px] = Sink(writer, missing, width)
        if not sinks:
            return
        try:
            engine = self._running()
            advance(0, kept=True)  # the time that loading took says nothing of what is to come
            summary.computed += embed_patches(
                slide.name,
                opened.pixels,
                move_spots(slide, opened.alignment).xy,
                sinks,
                engine,
                self._net.input_px,
                writing,
                clock,
                advance,
            )
            for sink in sinks.values():
                writing.put(sink.publish)
        except BaseException:
            writing.stop()  # what is complete is still written, then given up for a later run
            for sink in sinks.values():
                sink.writer.close()
            raise

    def _writer(
        self,
        slide: Slide,
        side: PatchSize,
        name: str,
        opened: OpenedSlide,
        store: EmbeddingStore,
    ) -> tuple[EmbeddingWriter, int]:
        identity = recipe(
            self._net,
            side,
            slide,
            opened.pixels.digest,
            opened.alignment,
            stain=self._stain,
            views=self._choice.views,
            precision=self._choice.precision,
        )
        # What is stored already needs no engine, which takes seconds to make.
        stored = store.embeddings(slide.name).get(name) == identity
        width = store.width(slide.name, name) if stored else self._width(side.pixels(slide))
        return store.writer(slide.name, name, identity, len(slide.xy), width), width

    def _running(self) -> Engine:
        if self._engine is None:
            start = time.perf_counter()
            self._engine = self._choice.make(self._net)
            self._load_s += time.perf_counter() - start
        return self._engine

    def _width(self, px: int) -> int:
        side = self._net.input_px or px
        if side not in self._widths:
            blank = torch.zeros(1, 3, side, side, dtype=torch.uint8)
            engine = self._running()
            start = time.perf_counter()  # an engine compiles for a size when it first sees it
            self._widths[side] = engine.submit(blank.to(engine.device))().shape[1]
            self._load_s += time.perf_counter() - start
        return self._widths[side]
