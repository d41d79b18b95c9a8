"""Map plain slides: lay spots on tissue, embed them like the training slides, predict."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, pass_on, require, warn, warnings_kept
from histoboost.featurize.loaded_once import made_once
from histoboost.progress import progress
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.predictions import Prediction, Predictions
from histoboost.regress.scale import ALIKE as ALIKE_PITCH
from histoboost.regress.scale import COARSER, uses_rings
from histoboost.slides.lattice import copy_names, whole_name
from histoboost.slides.length import Length, parse_length
from histoboost.slides.readers import open_dataset
from histoboost.slides.resample import at_resolution
from histoboost.slides.slide import Dataset, Slide

#: Ratio up to which the resolution or pitch of a slide counts as that of training.
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
    """Predict the composition across slides without spots.

    Each slide gets a hexagonal lattice of spots on its tissue at the pitch of the training slides;
    it is resampled to their resolution if it is finer, turned into their orientation, and embedded
    like them. Lengths are in micrometres if both scales are known, else in pixels. A slide with
    spots is predicted there, unless `pitch`, `finer` or `tissue` request a lattice.

    Parameters
    ----------
    slides : path, Slide, or sequence of them
        Images, folders of them, or other inputs of `open_dataset`.
    model : CompositionRegressor or path
        As saved by `histoboost train`.
    units : str
        See `CompositionRegressor.predict`.
    pitch : str or float, optional
        Spot pitch, ``"100um"`` or pixels, instead of the model's.
    finer : int
        K: predict on K x K shifted copies of the lattice, for K times the resolution. Each copy has
        its own neighbours, at the distances of training.
    tissue : str or path
        ``"auto"``, ``"all"`` or a GeoJSON file of regions, see `lay_lattice`.
    um_per_px : float, optional
        Micrometres per pixel of all slides, overriding the metadata.
    weights : str or sequence of str
        Files of the backbones' weights, which must be those of training; ``"pretrained"`` by
        default.
    store : path, optional
        Keep spots and embeddings there for later runs. By default the store is temporary.
    device : str
        As for `histoboost.featurize.featurize`.

    Returns
    -------
    Predictions
        One `Prediction` per slide, spots row by row.

    Raises
    ------
    HistoboostError
        If a slide cannot be read, has no tissue or is coarser than the training slides; if weights
        are missing or not those of training; if `pitch` is not that of training and features have
        rings.

    Warns
    -----
    HistoboostWarning
        If a resolution is unknown or coarser, or, with areas, the pitch differs from the model's.
    """
    require("map", "torch", "torch")
    from histoboost.featurize.embed import featurize
    from histoboost.featurize.like_model import as_trained
    from histoboost.mounting import Mounting

    if not isinstance(model, CompositionRegressor):
        model = CompositionRegressor.load(model)
    if finer < 1:
        raise BadInput(f"--finer {finer}: give a whole number of at least 1")
    opened = _open_slides(slides, um_per_px)
    names = [name for slide in opened for name in copy_names(slide.name, finer)]
    given = [weights] if isinstance(weights, str) else weights
    todo = as_trained(model.recipes_, given, store, names)
    copies: list[Slide] = []
    notes: dict[str, list[str]] = {}
    with ExitStack() as stack:
        if store is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="histoboost-"))
            store = Path(folder) / "store.zarr"
        target = EmbeddingStore(store)
        with progress("finding tissue", len(opened) if len(opened) > 1 else 0, "slides") as advance:
            for slide in opened:
                with warnings_kept() as heard:
                    copies += _prepare(slide, model, target, pitch, finer, tissue)
                pass_on(heard)
                notes[slide.name] = heard
                advance(1)
        with warnings_kept() as heard:
            mount = Mounting(model, todo, target, device)
            for arguments in todo:
                data = Dataset(Path("map"), copies)
                featurize(data, target, device=device, mount=mount, **arguments)
            mount.remember()
            parts = model.predict(target, [slide.name for slide in copies], units=units)
        pass_on(_merge_warnings(heard, copies))
    by_name: dict[str, list[Prediction]] = {slide.name: [] for slide in opened}
    for slide, part in zip(copies, parts, strict=True):
        by_name[whole_name(slide)].append(part)
    predictions = []
    for name, own in by_name.items():
        heard = [*notes[name], *(line for part in own for line in part.warnings)]
        predictions.append(_join_copies(name, own, _merge_warnings(heard, copies)))
    return Predictions(predictions)


def _open_slides(
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
        raise BadInput(f"{times} slides are named {name!r}; rename a file, or map them separately")
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
    """Lay spots on a slide without any, in one or several copies, at the training resolution."""
    from histoboost.featurize.recalled_lattice import lay_or_recall

    copies = [slide]
    if slide.plain or pitch is not None or finer > 1 or str(tissue) != "auto":
        copies = lay_or_recall(store, slide, _spot_pitch(slide, model, pitch), tissue, finer)
    return [_at_training_resolution(copy, model) for copy in copies]


def _spot_pitch(slide: Slide, model: CompositionRegressor, given: str | float | None) -> Length:
    known = slide.um_per_px is not None and model.pitch_um_ is not None
    amount = model.pitch_um_ if known else model.pitch_px_
    trained = None if amount is None else Length(amount, "um" if known else "px")
    if given is None:
        if trained is None:
            raise BadInput(
                "model: the spot pitch of its training slides is unknown (it is from 0.1.0, or "
                "they had one spot each); give --pitch"
            )
        return trained
    length = parse_length(given)
    if length is None:
        raise BadInput(f"--pitch: {given} is no length; give pixels such as 25.5, or 100um")
    if trained is not None:
        ratio = length.on(slide, "--pitch") / trained.on(slide, "--pitch")
        if max(ratio, 1 / ratio) > ALIKE_PITCH and uses_rings(model.setup_.features):
            finer = "; for a finer map give --finer K" if ratio < 1 else ""
            raise BadInput(
                f"slide {slide.name}: --pitch {given} is {ratio:.3g} times the spot pitch of the "
                f"training slides, so rings would span other distances; omit --pitch{finer}"
            )
    return length


def _at_training_resolution(slide: Slide, model: CompositionRegressor) -> Slide:
    trained, own = model.um_per_px_, slide.um_per_px
    if trained is None or own is None:
        whose = "the model's training slides" if trained is None else "it"
        in_um = [name for name, fields in model.recipes_.items() if "patch_um" in fields]
        if own is None and in_um:
            raise BadInput(
                f"slide {whole_name(slide)}: its micrometres per pixel are unknown, and the model "
                f"needs them ({in_um[0]}); give --um-per-px"
            )
        remedy = "featurize them with --um-per-px" if trained is None else "give --um-per-px"
        warn(
            f"slide {whole_name(slide)}: the micrometres per pixel of {whose} are unknown, so "
            f"pixels are assumed to be those of training; {remedy} if they are not"
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


def _merge_warnings(lines: Iterable[str], slides: Sequence[Slide]) -> tuple[str, ...]:
    """Keep one of the warnings about copies of a slide, which may differ in a number."""
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


def _join_copies(name: str, parts: Sequence[Prediction], heard: tuple[str, ...]) -> Prediction:
    """Join the predictions of all copies of a slide, row by row."""
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
