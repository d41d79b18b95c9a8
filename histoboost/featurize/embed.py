"""The one embedding loop: read a slide, crop its patches, run the backbone, fill the store."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore, EmbeddingWriter, SpotTable
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import patches
from histoboost.featurize.align import Alignment, move_spots, resolve_alignment
from histoboost.featurize.backbones import Backbone, load_backbone
from histoboost.featurize.engines import Engine, TorchEngine, pick_device
from histoboost.featurize.foundation import warn_if_far
from histoboost.featurize.groups import with_groups
from histoboost.featurize.inspect import check_spots
from histoboost.featurize.readers import open_dataset
from histoboost.featurize.scale import PatchSize, parse_sizes
from histoboost.featurize.slide import Dataset, Slide
from histoboost.featurize.stain import RECIPES as STAIN_RECIPES
from histoboost.featurize.stain import normalised
from histoboost.featurize.thumbnail import thumbnail
from histoboost.progress import progress

#: Patches per forward pass on a CPU, where larger batches only leave the cache.
CPU_BATCH = 16


@dataclass
class FeaturizeSummary:
    """What a run of `featurize` did.

    Attributes
    ----------
    slides : list of str
    embeddings : list of str
    computed : int
        Patches embedded in this run.
    kept : int
        Patches whose embedding the store held already.
    seconds : dict of str to float
        Time in ``read``, ``crop``, ``forward`` and ``write``.
    wall_seconds : float
    engine, device : str
    """

    slides: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    computed: int = 0
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0
    engine: str = ""
    device: str = ""

    def __str__(self) -> str:
        """One line for people."""
        where = f"{len(self.slides)} slides"
        if not self.embeddings:
            return f"{where}: spots and abundances stored, no embeddings asked for"
        names = ", ".join(self.embeddings)
        if not self.computed:
            return f"{where}: {names} were complete already; nothing computed"
        rate = self.computed / max(self.wall_seconds, 1e-9)
        line = f"{where}: {names}: {self.computed:,} patches in {self.wall_seconds:,.1f} s"
        line += f" ({rate:,.1f} patches/s, {self.engine} on {self.device}"
        for step in ("read", "crop", "forward", "write"):
            share = self.seconds.get(step, 0.0) / max(self.wall_seconds, 1e-9)
            line += f", {step} {share:.0%}"
        line += ")"
        return line + (f"; {self.kept:,} were there already" if self.kept else "")


def featurize(
    data: str | Path | Dataset,
    store: str | Path | EmbeddingStore,
    *,
    backbone: str,
    patch: Sequence[int | str | PatchSize] = (),
    weights: str = "pretrained",
    alignment: str | Path = "none",
    stain: str = "none",
    device: str = "auto",
    batch_size: int | None = None,
    name: str | None = None,
    groups: str | Path | None = None,
) -> FeaturizeSummary:
    """Embed patches around every spot of every slide, once, into a store.

    Embeddings that are complete in the store are skipped; of those that a run left unfinished,
    only the missing chunks are computed.

    Parameters
    ----------
    data : path or Dataset
        Slides, labelled or not.
    store : path or EmbeddingStore
        Created where it does not exist.
    backbone : str
        A name of `backbone_names`, or ``"none"`` to store spots and abundances only.
    patch : sequence of int or str
        Sides of the patches in pixels (``64``) or in micrometres (``"55um"``) where the slides'
        scale is known; each becomes an embedding of its own.
    weights : str
        ``"pretrained"``, ``"random"`` or the path of a file.
    alignment : str or path
        ``"none"``, ``"auto"`` (estimate from the image where the spots belong, see
        `histoboost.featurize.align`) or the path of a table of shifts and scales. Patches are cut
        where the alignment puts the spots; the store keeps the source's coordinates.
    stain : str
        ``"none"``, ``"macenko"`` or ``"reinhard"``, see `histoboost.featurize.stain`.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    batch_size : int, optional
        Patches per forward pass; changes no result.
    name : str, optional
        Name of the embedding instead of ``<backbone>@<side>``; with several patch sizes
        ``<name>@<side>``.
    groups : path, optional
        CSV with the columns slide and group.

    Returns
    -------
    FeaturizeSummary

    Raises
    ------
    HistoboostError
        If the input cannot be used, or the store holds other embeddings under the same name.
    """
    start = time.perf_counter()
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    if groups is not None:
        dataset = with_groups(dataset, groups)
    sizes = parse_sizes(patch, dataset.slides)
    if backbone != "none" and not sizes:
        raise HistoboostError("--patch: no patch size given; for example --patch 64,128")
    placed = resolve_alignment(dataset, alignment)
    check_spots(Dataset(dataset.path, [move_spots(s, placed[s.name]) for s in dataset.slides]))
    summary = FeaturizeSummary(slides=[slide.name for slide in dataset.slides])
    engine: Engine | None = None
    net: Backbone | None = None
    if backbone != "none":
        net = load_backbone(backbone, weights)
        engine = TorchEngine(net, pick_device(device))
        summary.engine, summary.device = engine.name, str(engine.device)
        summary.embeddings = [embedding_name(name, backbone, side, len(sizes)) for side in sizes]
    target = store if isinstance(store, EmbeddingStore) else EmbeddingStore(store)
    for slide in dataset.slides:
        target.write_spots(spot_table(slide))
    if engine is not None and net is not None:
        jobs = dict(zip(sizes, summary.embeddings, strict=True))
        total = len(sizes) * sum(len(slide.xy) for slide in dataset.slides)
        with progress("embedding", total, "patches") as advance:
            for slide in dataset.slides:
                for side in sizes:
                    px, scale = side.pixels(slide), slide.um_per_px
                    warn_if_far(backbone, net.input_px, px, scale, slide.name)
                stained = replace(slide, image=normalised(slide.image, stain, slide.name))
                advance(
                    _embed_slide(
                        stained,
                        placed[slide.name],
                        stain,
                        target,
                        net,
                        engine,
                        jobs,
                        batch_size,
                        summary,
                    )
                )
    summary.wall_seconds = time.perf_counter() - start
    return summary


def embedding_name(name: str | None, backbone: str, side: PatchSize, sizes: int) -> str:
    """``<backbone>@<side>``, or the name asked for."""
    if name is None:
        # A colon or slash, as in hf-hub:MahmoodLab/UNI, has a meaning in feature sets and paths.
        return f"{backbone.replace(':', '-').replace('/', '-')}@{side}"
    return name if sizes == 1 else f"{name}@{side}"


def spot_table(slide: Slide) -> SpotTable:
    """What the store keeps of a slide beside its embeddings."""
    return SpotTable(
        slide=slide.name,
        xy=slide.xy,
        spot_ids=slide.spot_ids,
        abundance=slide.abundance,
        cell_types=slide.cell_types,
        split=slide.split,
        group=slide.group,
        um_per_px=slide.um_per_px,
        image_shape=slide.image.shape,
        thumbnail=thumbnail(slide.image),
    )


def recipe(
    net: Backbone,
    side: PatchSize,
    slide: Slide,
    pixels_digest: str,
    alignment: Alignment,
    stain: str = "none",
) -> Recipe:
    """Everything that changes the numbers of an embedding, and nothing else."""
    fields = {
        "format": 1,
        "slide_pixels": pixels_digest,
        "spots": spots_digest(slide.xy),
        "alignment": asdict(alignment.transform) if alignment.changes else "none",
        "backbone": net.name,
        "layer": net.layer,
        "weights": net.weights_digest,
        **side.recipe(slide),
        # A network without a size of its own takes the patch as it is.
        "input_px": net.input_px or ("patch" if side.unit == "um" else side.pixels(slide)),
        "resize": patches.RESIZE,
        "border": patches.BORDER,
        "normalisation": {"mean": list(net.mean), "std": list(net.std)},
        "stain": STAIN_RECIPES[stain],
        "views": 1,
        "precision": "fp32",
        "dtype": "float16",
    }
    # Not for the numbers, which the weights' digest covers: `evaluate` must know.
    return Recipe({**fields, "tuned_on": list(net.tuned_on)} if net.tuned_on else fields)


def spots_digest(xy: NDArray[np.float64]) -> str:
    """SHA-256 of spot centres (N, 2), in their order."""
    return hashlib.sha256(np.ascontiguousarray(xy, "<f8").tobytes()).hexdigest()


def read_slide(slide: Slide) -> tuple[NDArray[np.uint8], str]:
    """The pixels of a slide, read in order, and their SHA-256."""
    height, width = slide.image.shape
    pixels = np.empty((height, width, 3), np.uint8)
    digest = hashlib.sha256(f"{height} {width}\n".encode())
    for start in range(0, height, slide.image.band_rows):
        stop = min(start + slide.image.band_rows, height)
        pixels[start:stop] = slide.image.read_rows(start, stop)
        digest.update(np.ascontiguousarray(pixels[start:stop]).data)
    return pixels, digest.hexdigest()


def _embed_slide(
    slide: Slide,
    alignment: Alignment,
    stain: str,
    store: EmbeddingStore,
    net: Backbone,
    engine: Engine,
    jobs: dict[PatchSize, str],
    batch_size: int | None,
    summary: FeaturizeSummary,
) -> int:
    seconds = summary.seconds
    begin = time.perf_counter()
    pixels, digest = read_slide(slide)
    seconds["read"] = seconds.get("read", 0.0) + time.perf_counter() - begin
    height, n = len(pixels), len(slide.xy)
    rows = torch.from_numpy(pixels)
    for side, name in jobs.items():
        px = side.pixels(slide)
        starts = patches.window_starts(move_spots(slide, alignment).xy, px)
        writer: EmbeddingWriter | None = None
        flat = np.zeros(n, bool)
        width = _width(net, engine, px)
        identity = recipe(net, side, slide, digest, alignment, stain)
        writer = store.writer(slide.name, name, identity, n, width)
        if writer.published:
            summary.kept += n
            continue
        missing = writer.missing
        summary.kept += n - sum(part.stop - part.start for part in missing)
        for part in missing:
            chunk = np.empty((part.stop - part.start, width), np.float32)
            for first in range(part.start, part.stop, batch_size or CPU_BATCH):
                last = min(first + (batch_size or CPU_BATCH), part.stop)
                t0 = time.perf_counter()
                batch = patches.resize(
                    patches.crop(rows, starts[first:last], px, height=height), net.input_px
                )
                flat[first:last] = patches.flat(batch).numpy()
                t1 = time.perf_counter()
                chunk[first - part.start : last - part.start] = engine.embed(batch).numpy()
                t2 = time.perf_counter()
                seconds["crop"] = seconds.get("crop", 0.0) + t1 - t0
                seconds["forward"] = seconds.get("forward", 0.0) + t2 - t1
            t3 = time.perf_counter()
            writer.write(part, chunk)
            seconds["write"] = seconds.get("write", 0.0) + time.perf_counter() - t3
            summary.computed += len(chunk)
        _warn_flat(slide, px, flat, missing)
        writer.publish()
    return n * len(jobs)


def _width(net: Backbone, engine: Engine, px: int) -> int:
    side = net.input_px or px
    return int(engine.embed(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[1])


def _warn_flat(slide: Slide, px: int, flat: NDArray[np.bool_], parts: Sequence[slice]) -> None:
    looked_at = sum(part.stop - part.start for part in parts)
    if flat.any():
        warnings.warn(
            f"slide {slide.name}: {flat.sum()} of {looked_at} patches of {px} px are one flat "
            "colour; check that the image is not blank and the spots lie on the tissue",
            HistoboostWarning,
            stacklevel=2,
        )
