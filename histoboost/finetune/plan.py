"""Which models to train: what each learns from, what stops it, what it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, warn
from histoboost.finetune.presets import Settings
from histoboost.regress.folds import make_folds
from histoboost.slides.slide import Dataset, Slide


@dataclass(frozen=True)
class Plan:
    """One model to train in a folder; one that was begun with the same plan is continued.

    `slides` are labelled: networks learn from them or are stopped by them. Member i is stopped by
    the i-th of `stop_on`, counted round, and learns from all other slides; where that is empty, it
    trains all epochs on all slides. `alignment` is how the spots were moved, so that those to be
    predicted are moved in the same way: ``"none"``, ``"auto"`` or the path of a table.
    """

    folder: Path
    settings: Settings
    slides: tuple[Slide, ...]
    held_out: tuple[Slide, ...] = ()
    stop_on: tuple[str, ...] = ()
    alignment: str = "none"

    def stopping(self, member: int) -> str | None:
        """The slide that stops a member."""
        return self.stop_on[member % len(self.stop_on)] if self.stop_on else None


def abundances(slides: Sequence[Slide]) -> NDArray[np.float32]:
    """Abundances of labelled slides, one below the other."""
    return np.concatenate([slide.abundance for slide in slides if slide.abundance is not None])


def plan_models(
    dataset: Dataset,
    out: Path,
    settings: Settings,
    *,
    slides: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    cross_validate: bool = False,
    group_by: str = "slide",
    stop_on: Sequence[str] = ("auto",),
    alignment: str = "none",
) -> list[Plan]:
    """Plan one model in `out`, or with `cross_validate` one for each fold in ``out/folds``.

    `slides` are the labelled ones to use (all by default), `held_out` those that the one model
    never sees; `group_by`, ``"slide"`` or ``"group"``, is what a fold holds out. `stop_on` is
    ``["auto"]`` (any training slide may stop a network, the last one first), ``["none"]`` (train
    all epochs) or names of slides. `alignment` is how `aligned` moved the spots of `dataset`.
    """
    used = _labelled(dataset, slides)
    parts: list[tuple[Path, list[str]]] = [(out, [])]
    if cross_validate and held_out:
        raise BadInput("--held-out and --cross-validate exclude each other; give one of them")
    if cross_validate:
        alone = [slide.name for slide in used if slide.group is None]
        if group_by == "group" and alone:
            raise BadInput(f"{dataset.path}: slide {alone[0]} has no group; give --groups FILE.csv")
        folds = make_folds([slide.spot_table() for slide in used], group_by)
        names = [[used[i].name for i in fold.held_out] for fold in folds]
        labels = [fold.group or part[0] for fold, part in zip(folds, names, strict=True)]
        folders = [out / "folds" / quote(label, safe=" ") for label in labels]
        parts = list(zip(folders, names, strict=True))
    elif held_out:
        for slide in _labelled(dataset, held_out):
            if slide.name not in [one.name for one in used]:
                raise BadInput(f"held-out {slide.name}: not among --slides; add it")
            parts[0][1].append(slide.name)
    plans = []
    for folder, out_of_sight in parts:
        learning = tuple(slide for slide in used if slide.name not in out_of_sight)
        if not learning:
            raise BadInput(f"{dataset.path}: no labelled slide left for training; hold out fewer")
        unseen = tuple(slide for slide in used if slide.name in out_of_sight)
        stopping = stopping_slides(learning, stop_on)
        plans.append(Plan(folder, settings, learning, unseen, stopping, alignment))
    return plans


def _labelled(dataset: Dataset, names: Sequence[str] | None) -> list[Slide]:
    """Labelled slides of the dataset, or those with these names."""
    chosen = list(dataset.slides) if names is None else [dataset[name] for name in names]
    labelled = [slide for slide in chosen if slide.labelled]
    for slide in chosen:
        if names is not None and not slide.labelled:
            raise BadInput(
                f"{dataset.path}: slide {slide.name} has no abundances; choose labelled slides"
            )
    if not labelled:
        raise BadInput(f"{dataset.path}: no labelled slides; training needs abundances")
    return labelled


def stopping_slides(training: Sequence[Slide], stop_on: Sequence[str]) -> tuple[str, ...]:
    """Names of the training slides that may stop a network; for `stop_on` see `plan_models`."""
    names = [slide.name for slide in training]
    if list(stop_on) == ["none"]:
        return ()
    if list(stop_on) == ["auto"]:
        if len(names) > 1:
            return tuple(reversed(names))
        warn(
            f"{names[0]} is the only training slide, so training cannot stop early; all epochs "
            "are run"
        )
        return ()
    chosen = tuple(name for name in stop_on if name in names)
    if not chosen:
        raise BadInput(
            f"stop-on {','.join(stop_on)}: none of these is a training slide; choose from "
            f"{', '.join(names)}"
        )
    if len(names) == 1:
        raise BadInput(f"stop-on {chosen[0]}: the only training slide; use --stop-on none")
    return chosen
