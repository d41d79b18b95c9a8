"""From a plain slide to a map: lay spots on its tissue, embed them as the model's, predict."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, pass_on, require, warn, warnings_kept
from histoboost.featurize.loaded_once import made_once
from histoboost.progress import progress
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.predictions import Prediction, Predictions
from histoboost.regress.scale import COARSER
from histoboost.slides.lattice import copy_names, whole_name
from histoboost.slides.length import Length, parse_length
from histoboost.slides.readers import open_dataset
from histoboost.slides.resample import at_resolution
from histoboost.slides.slide import Dataset, Slide

#: Where a slide's resolution, or pitch, is that of training.
ALIKE = 1.05


@made_once()
def map_slide(
    slides: str | Path | Slide | Sequence[str | Path | Slide],
    model: CompositionRegressor | str | Path,
    *,
    units: str = "share",
    pitch: str | float | None = None,
    finer: int = 1,
    tissue: str | Path = "auto",
    um_per_px: float | None = None,
    weights: str | Sequence[str] = (),
    store: str | Path | None = None,
    device: str = "auto",
) -> Predictions:
    """Predict the composition all over slides that have no spots.

    A hexagonal lattice is laid on the tissue of every slide, at the pitch of the model's training
    slides. A finer slide is brought to their resolution, one that lies otherwise is turned as they
    lie, then embedded as they were. Micrometres are used where both sides know theirs, else pixels.
    A slide that has spots is predicted there, unless `pitch`, `finer` or `tissue` ask for a
    lattice.

    Parameters
    ----------
    slides : path, Slide, or sequence of them
        Images, folders of them, or anything else that `open_dataset` reads.
    model : CompositionRegressor or path
        What `histoboost train` made.
    units : str
        See `CompositionRegressor.predict`.
    pitch : str or float, optional
        Distance of the spots, ``"100um"`` or pixels, instead of the model's.
    finer : int
        K: predict on K x K shifted copies of the lattice, so that places lie K times as close.
        Each copy has its own neighbours, at the distances that the model knows.
    tissue : str or path
        ``"auto"``, ``"all"`` or a GeoJSON file of regions, see `lay_lattice`.
    um_per_px : float, optional
        Micrometres per pixel of all slides, in place of what their files say.
    weights : str or sequence of str
        Files of the backbones' weights, ``"pretrained"`` by default. They must be those of
        training.
    store : path, optional
        Keep spots and embeddings there; a later run computes what is missing. By default they go
        into a temporary store.
    device : str
        As for `histoboost.featurize.featurize`.

    Returns
    -------
    Predictions
        One `Prediction` for each slide, places row by row.

    Raises
    ------
    HistoboostError
        If a slide cannot be read, has no tissue or is coarser than the model's training slides;
        if weights are missing or are others.

    Warns
    -----
    HistoboostWarning
        If a resolution is unknown or coarser, or the pitch is another than the model's.
    """
    require("map", "torch", "torch")
    from histoboost.featurize.embed import featurize
    from histoboost.featurize.like_model import as_trained
    from histoboost.mounting import Mounting

    if not isinstance(model, CompositionRegressor):
        model = CompositionRegressor.load(model)
    if finer < 1:
        raise BadInput(f"--finer {finer}: give a whole number from 1 on")
    found = _open(slides, um_per_px)
    names = [name for slide in found for name in copy_names(slide.name, finer)]
    given = [weights] if isinstance(weights, str) else weights
    todo = as_trained(model.recipes_, given, store, names)
    laid: list[Slide] = []
    notes: dict[str, tuple[str, ...]] = {}
    temporary: AbstractContextManager[str] = (
        tempfile.TemporaryDirectory(prefix="histoboost-")
        if store is None
        else nullcontext(str(store))
    )
    with temporary as place:
        target = EmbeddingStore(Path(place) / "store.zarr" if store is None else place)
        with progress("finding tissue", len(found) if len(found) > 1 else 0, "slides") as advance:
            for slide in found:
                with warnings_kept() as heard:
                    laid += _prepare(slide, model, target, pitch, finer, tissue)
                pass_on(heard)
                notes[slide.name] = tuple(heard)
                advance(1)
        with warnings_kept() as heard:
            mount = Mounting(model, todo, target, device)
            for arguments in todo:
                data = Dataset(Path("map"), laid)
                featurize(data, target, device=device, mount=mount, **arguments)
            mount.remember()
            parts = model.predict(target, [slide.name for slide in laid], units=units)
        pass_on(_once(heard, laid))
    by_name: dict[str, list[Prediction]] = {slide.name: [] for slide in found}
    for slide, part in zip(laid, parts, strict=True):
        by_name[whole_name(slide)].append(part)
    return Predictions(
        _joined(name, own, _once([*notes[name], *(w for part in own for w in part.warnings)], laid))
        for name, own in by_name.items()
    )


def _open(
    slides: str | Path | Slide | Sequence[str | Path | Slide], um_per_px: float | None
) -> list[Slide]:
    given = [slides] if isinstance(slides, str | Path | Slide) else slides
    found: list[Slide] = []
    for one in given:
        found += [one] if isinstance(one, Slide) else open_dataset(one).slides
    if not found:
        raise BadInput("slides: none given; name at least one")
    name, times = Counter(slide.name for slide in found).most_common(1)[0]
    if times > 1:
        raise BadInput(f"{times} slides are called {name!r}; rename a file, or map them apart")
    # Their labels are for training; a map is what a model says.
    return [
        replace(
            slide,
            abundance=None,
            cell_types=(),
            cells=None,
            um_per_px=slide.um_per_px if um_per_px is None else um_per_px,
        )
        for slide in found
    ]


def _prepare(
    slide: Slide,
    model: CompositionRegressor,
    store: EmbeddingStore,
    pitch: str | float | None,
    finer: int,
    tissue: str | Path,
) -> list[Slide]:
    """The slide with spots, as one or several, at the model's resolution."""
    fixed = not slide.plain and pitch is None and finer == 1 and str(tissue) == "auto"
    from histoboost.featurize.recalled_lattice import lay_or_recall

    if fixed:
        return [_at_training_resolution(slide, model)]
    laid = lay_or_recall(store, slide, _pitch(slide, model, pitch), tissue, finer)
    return [_at_training_resolution(each, model) for each in laid]


def _pitch(slide: Slide, model: CompositionRegressor, given: str | float | None) -> Length:
    known = slide.um_per_px is not None and model.pitch_um_ is not None
    amount = model.pitch_um_ if known else model.pitch_px_
    trained = None if amount is None else Length(amount, "um" if known else "px")
    if given is None:
        if trained is None:
            raise BadInput(
                "model: does not know the spot pitch of its training slides (it is of 0.1.0, or "
                "they had one spot each); give --pitch"
            )
        return trained
    length = parse_length(given)
    if length is None:
        raise BadInput(f"--pitch: {given} is no length; give pixels such as 25.5, or 100um")
    if trained is not None:
        ratio = length.on(slide, "--pitch") / trained.on(slide, "--pitch")
        if max(ratio, 1 / ratio) > ALIKE:
            warn(
                f"slide {slide.name}: spots {ratio:.3g} times as far apart as the model's were: "
                "rings and areas mean other distances; for a finer map give --finer K"
            )
    return length


def _at_training_resolution(slide: Slide, model: CompositionRegressor) -> Slide:
    trained, own = model.um_per_px_, slide.um_per_px
    if trained is None or own is None:
        whose = "the model's training slides" if trained is None else "it"
        in_um = next(
            (name for name, fields in model.recipes_.items() if "patch_um" in fields), None
        )
        if own is None and in_um is not None:
            raise BadInput(
                f"slide {whole_name(slide)}: its micrometres per pixel are unknown, and the model "
                f"needs them ({in_um}); give --um-per-px"
            )
        remedy = "featurize them with --um-per-px" if trained is None else "give --um-per-px"
        warn(
            f"slide {whole_name(slide)}: the micrometres per pixel of {whose} are unknown, so "
            f"pixels are taken to be those of training; {remedy} if they are not"
        )
        return slide
    if own > COARSER * trained:
        raise BadInput(
            f"slide {whole_name(slide)}: {own:.3g} um per pixel, coarser than the {trained:.3g} "
            "of the model's training slides; scan it finer, or train on coarser images"
        )
    if own > ALIKE * trained:
        warn(
            f"slide {whole_name(slide)}: {own:.3g} um per pixel, coarser than the {trained:.3g} "
            "of the model's training slides: expect worse predictions"
        )
    return at_resolution(slide, trained) if own * ALIKE < trained else slide


def _once(lines: Iterable[str], slides: Sequence[Slide]) -> tuple[str, ...]:
    """Lines about slides; those about copies of one, which may differ in a number, once."""
    found: dict[str, str] = {}
    for line in lines:
        key = line
        for slide in slides:
            whole, named = whole_name(slide), f"slide {slide.name}:"
            if whole != slide.name and named in line:
                line = line.replace(named, f"slide {whole}:")
                key = f"{whole}: {re.sub('[0-9.]+', '', line)}"
        found.setdefault(key, line)
    return tuple(found.values())


def _joined(name: str, parts: Sequence[Prediction], heard: tuple[str, ...]) -> Prediction:
    """One prediction of all copies of a slide, row by row."""
    first = parts[0]
    if len(parts) == 1:
        return replace(first, warnings=heard)
    ids = [spot for part in parts for spot in part.spots.spot_ids]
    order = np.argsort(ids, kind="stable")
    lattice = {k: v for k, v in (first.spots.lattice or {}).items() if k != "copies"}
    finer = round(np.sqrt((first.spots.lattice or {}).get("copies", 1)))
    spots = replace(
        first.spots,
        slide=name,
        xy=np.concatenate([part.spots.xy for part in parts])[order],
        spot_ids=tuple(ids[k] for k in order),
        lattice={**lattice, "finer": finer},
    )
    novelty = [part.novelty for part in parts if part.novelty is not None]
    return replace(
        first,
        spots=spots,
        values=np.concatenate([part.values for part in parts])[order],
        novelty=np.concatenate(novelty)[order] if len(novelty) == len(parts) else None,
        unlike=sum(part.unlike for part in parts) * 2 > len(parts),
        warnings=heard,
    )
