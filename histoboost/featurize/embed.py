"""Embed the slides of a data set into a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warn
from histoboost.featurize.backbones.base import parse_layers
from histoboost.featurize.backbones.pathology import canonical_name, embedding_label
from histoboost.featurize.opened_slide import QueuedSlide, remembered
from histoboost.featurize.patch_size import Patch, parse_sizes
from histoboost.featurize.recalled_lattice import lay_or_recall
from histoboost.featurize.request import Request, all_stored
from histoboost.featurize.stain import check_method
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.names import check_embedding_name, default_embedding_name
from histoboost.slides.align.apply import (
    AlignmentChoice,
    alignment_choices,
    check_moved,
    move_spots,
)
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.checks import zero_labels
from histoboost.slides.groups import with_groups
from histoboost.slides.lattice import lay_lattices
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.thumbnail import thumbnail
from histoboost.slides.turned_slide import mounted_slide, turned_dataset

if TYPE_CHECKING:
    from distributed import Client

    from histoboost.featurize.run import Run


def featurize(
    data: str | Path | Dataset,
    store: str | Path | EmbeddingStore,
    *,
    backbone: str,
    patch: Patch | Sequence[Patch] = (),
    layers: str | Sequence[str] = "deep",
    weights: str = "pretrained",
    alignment: str | Path = "none",
    stain: str = "none",
    views: int = 1,
    device: str = "auto",
    precision: str = "fp32",
    engine: str = "auto",
    batch_size: int | None = None,
    name: str | None = None,
    groups: str | Path | None = None,
    turned: str | None = None,
    mount: Callable[[Iterable[Slide]], Mapping[str, str | None]] | None = None,
    pitch: str | float | None = None,
    tissue: str | Path = "auto",
    um_per_px: float | None = None,
    check_sources: bool = False,
    client: Client | None = None,
) -> FeaturizeSummary:
    """Embed patches around every spot of every slide, once, into a store.

    Complete embeddings are skipped; of unfinished ones only the missing chunks are computed.

    Parameters
    ----------
    data : path or Dataset
        Slides, labelled or not.
    store : path or EmbeddingStore
        Created if it does not exist.
    backbone : str
        As listed by ``histoboost backbones``, or ``"none"`` to store spots and abundances only.
    patch : int, str, or sequence of them
        Sides of the patches in pixels (``64``, ``"64"``), or in micrometres (``"55um"``) if the
        scale of the slides is known; one embedding each.
    layers : str or sequence of str
        ``"deep"``: the last layer and those that the manual lists for the backbone, one embedding
        ``<backbone>@<side>.<layer>`` each, from one forward pass; ``"default"``: the last layer
        only; or names such as ``"features.13:mean"``, see
        `histoboost.featurize.backbones.layers`.
    weights : str
        ``"pretrained"``, ``"random"`` or the path of a file.
    alignment : str or path
        ``"none"``, ``"auto"`` (register the spots to the image, see
        `histoboost.slides.align.estimate`) or the path of a table of shifts and scales. Patches
        are cut at the aligned spots; the store keeps the source's coordinates.
    stain : str
        ``"none"``, ``"macenko"`` or ``"reinhard"``, see `histoboost.featurize.stain`.
    views : {1, 8}
        8 stores the mean over the eight flips and quarter turns of each patch.
    device : str
        ``auto`` (all GPUs, one process each, else the CPU), ``cpu``, ``cuda`` (the first GPU) or
        ``cuda:N``.
    precision : {"fp32", "bf16"}
        bf16 is faster on GPUs and some CPUs, and changes embeddings by a few per cent of the
        spread between patches; it is part of an embedding's identity.
    engine : {"auto", "torch", "openvino"}
        Does not change results; ``auto`` takes OpenVINO on a CPU if installed.
    batch_size : int, optional
        Patches per forward pass; does not change results.
    name : str, optional
        Name of the embedding instead of ``<backbone>@<side>``; with several patch sizes
        ``<name>@<side>``.
    groups : path, optional
        CSV with the columns slide and group.
    turned : str, optional
        Turn all slides first, see `histoboost.slides.turned_slide`: a store for
        ``evaluate --turned``.
    mount : callable, optional
        Returns the turn of each slide before patches are cut, see `histoboost.mounting.Mounting`.
        The store keeps the source's coordinates.
    pitch : str or float, optional
        Spot pitch of the lattice for slides without spots: ``"100um"``, or pixels.
    tissue : str or path
        Where to place that lattice: ``"auto"`` (tissue of usable quality), ``"all"`` or a GeoJSON
        file of regions; see `histoboost.slides.lattice.lay_lattice`.
    um_per_px : float, optional
        Micrometres per pixel of all slides, overriding the metadata.
    check_sources : bool
        Read every image again, even if its path, size and modification time are unchanged.
    client : distributed.Client, optional
        Embed on the workers of this Dask cluster, one slide at a time on each.

    Returns
    -------
    FeaturizeSummary

    Raises
    ------
    HistoboostError
        If the input is invalid, or the store holds other embeddings under the same name.
    """
    start = time.perf_counter()
    dataset = data if isinstance(data, Dataset) else open_dataset(Path(data).absolute())
    if groups is not None:
        dataset = with_groups(dataset, groups)
    if turned is not None:
        if alignment != "none":
            raise BadInput(
                "--turned: alignments are of upright slides; use it with --alignment none"
            )
        dataset = turned_dataset(dataset, turned)
    if um_per_px is not None:
        dataset = dataset.each(lambda _: partial(replace, um_per_px=um_per_px))
    target = store if isinstance(store, EmbeddingStore) else EmbeddingStore(store)
    dataset = lay_lattices(dataset, pitch, tissue, partial(lay_or_recall, target.location))
    if mount is not None and backbone != "none":
        if alignment != "none" or turned is not None:
            raise BadInput("--mounted-like: turns slides itself; omit --alignment and --turned")
        turns = mount(dataset.slides)
        dataset = dataset.each(lambda name: partial(mounted_slide, turn=turns[name]))
    choices, spots = alignment_choices(dataset, alignment), dict[str, int]()
    sizes = parse_sizes(patch, _check_slides(dataset, choices, spots))
    label, backbone = embedding_label(backbone), canonical_name(backbone)
    if backbone != "none" and not sizes:
        raise BadInput("--patch: no patch size given; for example --patch 64,128")
    layers = layers if isinstance(layers, str) else ",".join(layers)
    parse_layers(layers, ())
    check_method(stain)
    names = [default_embedding_name(label, str(side)) for side in sizes]
    if name is not None:
        names = [name] if len(sizes) == 1 else [f"{name}@{side}" for side in sizes]
    for each in names:
        check_embedding_name(each)
    if client is not None and weights not in ("pretrained", "random"):
        weights = str(Path(weights).absolute())  # workers have another working directory
    request = Request(
        backbone=backbone,
        weights=weights,
        layers=layers,
        device=device,
        engine=engine,
        precision=precision,
        views=views,
        batch_size=batch_size,
        stain=stain,
        sizes=tuple(zip(sizes, names, strict=True)),
        check_sources=check_sources,
        patches=len(sizes) * sum(spots.values()),
    )
    slides = dataset.names
    orders = target.orders(slides)
    queue = [
        QueuedSlide(name, read, spots[name], choices[name], orders[name])
        for name, read in zip(slides, dataset.reads(), strict=True)
    ]
    summary = FeaturizeSummary(slides)
    # Weights that do not fit are refused before anything is written; torch takes seconds to load.
    loading = time.perf_counter()
    run, done = None, None
    if backbone != "none" and client is None:
        done = all_stored(request, queue, target)
        if done is None:
            from histoboost.featurize.run import Run

            run = Run.load(request)
    summary.load_seconds = time.perf_counter() - loading
    with target.expecting(slides):
        if backbone == "none":
            _store_spots(queue, target, check_sources)
        else:
            for part in [done] if done else _embed(queue, request, run, target, client):
                summary.add(part)
    summary.wall_seconds = time.perf_counter() - start
    return summary


def _check_slides(
    dataset: Dataset, choices: Mapping[str, AlignmentChoice], spots: dict[str, int]
) -> Iterator[Slide]:
    """Yield the slides, their spots checked, and counted in `spots`."""
    for slide in dataset.slides:
        choice = choices[slide.name]
        if choice != "auto":  # checked when the image is read
            moved = move_spots(slide, choice) if isinstance(choice, Alignment) else slide
            check_moved(moved, slide, choice, f"{dataset.path}: ")
        for problem in zero_labels(slide):
            warn(f"slide {slide.name}: {problem.message}")
        spots[slide.name] = len(slide.xy)
        yield slide


def _store_spots(queue: Sequence[QueuedSlide], store: EmbeddingStore, check_sources: bool) -> None:
    for queued in queue:
        slide = queued.read()
        known = remembered(store, slide)
        read = check_sources or "pixels" not in known
        picture = thumbnail(slide.image) if read else None
        store.write_spots(slide.spot_table(picture), queued.order)
        store.note_source(slide.name, {"pixels": {}, **known})


def _embed(
    queue: Sequence[QueuedSlide],
    request: Request,
    run: Run | None,
    store: EmbeddingStore,
    client: Client | None,
) -> Iterable[FeaturizeSummary]:
    """Embed on the cluster, the GPUs or here; yields a summary of each part of the work."""
    from histoboost.featurize.engines.pick import pick_devices
    from histoboost.featurize.workers import embed_on_cluster, embed_on_gpus

    if run is None:
        assert client is not None
        return embed_on_cluster(client, request, queue, store)
    devices = pick_devices(request.device)
    if len(devices) > 1 and len(queue) > 1:
        return embed_on_gpus(devices, run, queue, store.location)
    return [run.embed(queue, store)]
