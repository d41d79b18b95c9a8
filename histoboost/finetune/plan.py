"""Plan the models to train: training, stopping and held-out slides."""

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
    """One model to train in a folder; the same plan resumes it.

    Member i stops on the i-th slide of `stop_on`, cyclically, and learns from all other `slides`;
    without `stop_on` it trains all epochs on all slides. `alignment` is ``"none"``, ``"auto"`` or
    the path of a table, and applies to slides to predict, too.
    """

    folder: Path
    settings: Settings
    slides: tuple[Slide, ...]
    held_out: tuple[Slide, ...] = ()
    stop_on: tuple[str, ...] = ()
    alignment: str = "none"

    def stopping(self, member: int) -> str | None:
        """Name of the slide that stops a member."""
        return self.stop_on[member % len(self.stop_on)] if self.stop_on else None


def abundances(slides: Sequence[Slide]) -> NDArray[np.float32]:
    """Stack the abundances of labelled slides."""
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
    """Plan one model in `out`, or with `cross_validate` one per fold in ``out/folds``.

    Uses the labelled `slides` (all by default) except those `held_out`; folds hold out each
    `group_by`, ``"slide"`` or ``"group"``. `stop_on` is ``["auto"]`` (all training slides in turn,
    the last one first), ``["none"]`` (train all epochs) or names of slides. `alignment` is how
    `aligned` moved the spots of `dataset`.
    """
    used = _labelled(dataset, slides)
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
    else:
        folders = [out]
        names = [[slide.name for slide in _labelled(dataset, held_out)] if held_out else []]
        for name in names[0]:
            if name not in [slide.name for slide in used]:
                raise BadInput(f"held-out {name}: not among --slides; add it")
    plans = []
    for folder, unseen in zip(folders, names, strict=True):
        training = tuple(slide for slide in used if slide.name not in unseen)
        if not training:
            raise BadInput(f"{dataset.path}: no labelled slide left for training; hold out fewer")
        tested = tuple(slide for slide in used if slide.name in unseen)
        stopping = stopping_slides(training, stop_on)
        plans.append(Plan(folder, settings, training, tested, stopping, alignment))
    return plans


def _labelled(dataset: Dataset, names: Sequence[str] | None) -> list[Slide]:
    """The labelled slides of a data set, or the named ones, which must be labelled."""
    if names is None:
        labelled = [slide for slide in dataset.slides if slide.labelled]
        if not labelled:
            raise BadInput(f"{dataset.path}: no labelled slides; training needs abundances")
        return labelled
    chosen = [dataset[name] for name in names]
    for slide in chosen:
        if not slide.labelled:
            raise BadInput(
                f"{dataset.path}: slide {slide.name} has no abundances; choose labelled slides"
            )
    return chosen


def stopping_slides(training: Sequence[Slide], stop_on: Sequence[str]) -> tuple[str, ...]:
    """Names of the training slides that stop networks; for `stop_on` see `plan_models`."""
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
