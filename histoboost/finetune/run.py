"""Train end-to-end models fold by fold, and predict the slides that each never saw."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.finetune.ensemble import Ensemble, Plan, train_ensemble
from histoboost.finetune.presets import Settings
from histoboost.finetune.spot_patches import load_pixels, warn_of_flat_patches
from histoboost.finetune.train import Epoch
from histoboost.slides.slide import Dataset, Slide

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fold:
    """One model to train.

    Attributes
    ----------
    held_out : tuple of str
        Labelled slides that the model never sees; may be empty.
    folder : Path
        Where the model goes.
    """

    held_out: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Trained:
    """A model, and what it says of the slides it never saw.

    Attributes
    ----------
    fold : Fold
        What was asked for.
    ensemble : Ensemble
        The model.
    predictions : dict
        Name of a held-out slide to (N, T) in units of ``ensemble.learned.target``.
    predict_seconds : float
        Time that the predictions took.
    """

    fold: Fold
    ensemble: Ensemble
    predictions: dict[str, NDArray[np.float64]]
    predict_seconds: float


@dataclass
class Pace:
    """How long epochs took so far, to say how long the rest will take."""

    seconds: list[float] = field(default_factory=list)

    def left(self, epochs: int) -> str:
        """Time for `epochs` more, such as ``12 min 5 s``."""
        seconds = round(epochs * float(np.mean(self.seconds)))
        parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
        first = next((i for i, (count, _) in enumerate(parts) if count), 2)
        return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def train_folds(
    dataset: Dataset,
    settings: Settings,
    folds: Sequence[Fold],
    *,
    slides: Sequence[str] | None = None,
    stop_on: Sequence[str] = ("auto",),
    alignment: str = "none",
    device: torch.device,
    checkpoint_s: float = 60.0,
    tell: Tell = print,
) -> list[Trained]:
    """Train what is missing of every fold's model.

    Parameters
    ----------
    dataset : Dataset
        Labelled and unlabelled slides.
    settings : Settings
        What to train.
    folds : sequence of Fold
        One model each.
    slides : sequence of str, optional
        Labelled slides to use; all by default.
    stop_on : sequence of str
        ``["auto"]``: any slide of a training set may stop a network, the last one first;
        ``["none"]``: train all epochs; or names of slides.
    alignment : str
        How `aligned` moved the spots of `dataset`.
    device : torch.device
        Where to train.
    checkpoint_s : float
        Seconds between two checkpoints.
    tell : callable
        Takes lines for the user: one for every epoch.

    Raises
    ------
    HistoboostError
        If a slide is unknown or unlabelled, or nothing is left to train on.
    """
    used = labelled_slides(dataset, slides)
    pixels = load_pixels(used, device)
    warn_of_flat_patches(used, pixels, max(settings.patch))
    pace = Pace()
    trained = []
    for number, fold in enumerate(folds):
        learning = tuple(slide for slide in used if slide.name not in fold.held_out)
        if not learning:
            raise BadInput(f"{dataset.path}: no labelled slide is left to train on; hold out fewer")
        plan = Plan(settings, learning, stopping_slides(learning, stop_on), alignment)
        title = f"fold {number + 1}/{len(folds)}, " if len(folds) > 1 else ""

        models_ahead = len(folds) - number - 1
        on_epoch = _reporter(plan, title, models_ahead * len(settings.backbones), pace, tell)
        ensemble = train_ensemble(
            plan, fold.folder, pixels, title=title, checkpoint_s=checkpoint_s, on_epoch=on_epoch
        )
        began = time.monotonic()
        held_out = [slide for slide in used if slide.name in fold.held_out]
        predictions = {slide.name: ensemble.predict(slide, pixels) for slide in held_out}
        trained.append(Trained(fold, ensemble, predictions, time.monotonic() - began))
    return trained


def folds_of(
    dataset: Dataset,
    out: Path,
    slides: Sequence[str] | None,
    *,
    cross_validate: bool,
    held_out: Sequence[str] | None,
    by: str,
) -> list[Fold]:
    """What to train: one model in `out`, or with `cross_validate` one for each fold.

    Parameters
    ----------
    dataset : Dataset
        Labelled and unlabelled slides.
    out : Path
        Folder of the model; those of cross-validation go to ``out/folds/<held out>``.
    slides : sequence of str, optional
        Labelled slides to use; all by default.
    cross_validate : bool
        Hold out each slide, or each group, in turn.
    held_out : sequence of str, optional
        Slides that the one model never sees.
    by : {"slide", "group"}
        What a fold of cross-validation holds out.

    Raises
    ------
    HistoboostError
        If the choices do not go together, or there are fewer than two folds.
    """
    used = labelled_slides(dataset, slides)
    if not cross_validate:
        kept_out = labelled_slides(dataset, held_out) if held_out else ()
        names = {slide.name for slide in used}
        for slide in kept_out:
            if slide.name not in names:
                raise BadInput(f"held-out {slide.name}: is not among --slides; add it there, too")
        return [Fold(tuple(slide.name for slide in kept_out), out)]
    if held_out:
        raise BadInput("held-out: --cross-validate holds out every slide; give one of them")
    parts: dict[str, list[str]] = {}
    for slide in used:
        label = slide.group if by == "group" else slide.name
        if label is None:
            raise BadInput(
                f"{dataset.path}: slide {slide.name} has no group; give --groups FILE.csv"
            )
        parts.setdefault(label, []).append(slide.name)
    if len(parts) < 2:
        raise BadInput(
            f"{dataset.path}: cross-validation needs two {by}s with labels, there is {len(parts)}"
        )
    return [
        Fold(tuple(names), out / "folds" / quote(label, safe=" ")) for label, names in parts.items()
    ]


def _reporter(
    plan: Plan, title: str, members_ahead: int, pace: Pace, tell: Tell
) -> Callable[[int, Epoch], None]:
    epochs, members = plan.settings.epochs, len(plan.settings.backbones)

    def on_epoch(member: int, row: Epoch) -> None:
        pace.seconds.append(row["seconds"])
        ahead = (members_ahead + members - member - 1) * epochs + epochs - row["epoch"]
        tell(f"{title}{epoch_line(plan, member, row)}, at most {pace.left(ahead)} left")

    return on_epoch


def epoch_line(plan: Plan, member: int, row: Epoch) -> str:
    """What an epoch came to, such as ``resnet18 1/1, epoch 3/30: loss 0.0421``."""
    settings = plan.settings
    line = (
        f"{settings.backbones[member]} {member + 1}/{len(settings.backbones)}, "
        f"epoch {row['epoch']}/{settings.epochs}: loss {row['loss']:.4f}"
    )
    if row["stop_loss"] is not None:
        line += f"; on {plan.stopping(member)} loss {row['stop_loss']:.4f}"
        line += f", per-spot Spearman {row['score']:.3f}"
    return line


def labelled_slides(dataset: Dataset, names: Sequence[str] | None = None) -> tuple[Slide, ...]:
    """Labelled slides of `dataset`; those called `names`, where given.

    Raises
    ------
    HistoboostError
        If there is none, a name is unknown, or the slide has no labels.
    """
    chosen = [dataset[name] for name in names] if names is not None else dataset.slides
    if names is not None:
        for slide in chosen:
            if not slide.labelled:
                raise BadInput(
                    f"{dataset.path}: slide {slide.name} has no labels; choose labelled slides"
                )
    labelled = tuple(slide for slide in chosen if slide.labelled)
    if not labelled:
        raise BadInput(f"{dataset.path}: no slide is labelled; training needs abundances")
    return labelled


def stopping_slides(learning: Sequence[Slide], stop_on: Sequence[str]) -> tuple[str, ...]:
    """Names of the slides that may stop a network.

    Parameters
    ----------
    learning : sequence of Slide
        What a model may see: held-out slides are not among them.
    stop_on : sequence of str
        See `train_folds`.

    Raises
    ------
    HistoboostError
        If none of the slides asked for may be seen, or no other slide is left to learn from.
    """
    names = [slide.name for slide in learning]
    if list(stop_on) == ["none"]:
        return ()
    if list(stop_on) == ["auto"]:
        if len(names) == 1:
            warnings.warn(
                f"{names[0]} is the only slide to train on, so no slide can stop the training "
                "early; all epochs are trained",
                HistoboostWarning,
                stacklevel=2,
            )
            return ()
        return tuple(reversed(names))
    chosen = tuple(name for name in stop_on if name in names)
    if not chosen:
        raise BadInput(
            f"stop-on {','.join(stop_on)}: none of them is a training slide here; there are "
            f"{', '.join(names)}"
        )
    if len(names) == 1:
        raise BadInput(f"stop-on {chosen[0]}: is the only training slide; give --stop-on none")
    return chosen
