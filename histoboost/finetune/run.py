"""Train planned models, predict their held-out slides, and score them like `evaluate`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from histoboost.digests import digest_array
from histoboost.finetune.curves import draw_curves
from histoboost.finetune.ensemble import FORMAT, Ensemble
from histoboost.finetune.folder import (
    ALIGNMENT,
    BACKBONE,
    CURVES,
    HISTORY,
    MODEL,
    claim,
    remove_drafts,
    save_json,
    save_tensors,
)
from histoboost.finetune.network import build
from histoboost.finetune.plan import Plan, abundances
from histoboost.finetune.spot_patches import Pixels, SpotPatches, load_pixels
from histoboost.finetune.target import LearnedTarget, fit_learned_target
from histoboost.finetune.train import Epoch, Examples, Training
from histoboost.io import write_whole
from histoboost.progress import Pace, clock
from histoboost.regress.baselines import baselines
from histoboost.regress.fitting import warn_if_constant
from histoboost.regress.held_out import warn_where_nothing_was_learned
from histoboost.regress.metrics import spot_spearman
from histoboost.regress.scores import CrossValidation, score_predictions
from histoboost.regress.setup import Setup
from histoboost.slides.slide import Slide


@dataclass(frozen=True)
class Trained:
    """A model and its predictions (N, T) of held-out slides, in units of its target, by name."""

    plan: Plan
    ensemble: Ensemble
    predictions: dict[str, NDArray[np.float64]]
    predict_seconds: float


def train_models(
    plans: Sequence[Plan],
    *,
    device: torch.device,
    checkpoint_s: float = 60.0,
    log: Callable[[str], None] = print,
) -> list[Trained]:
    """Train the unfinished members of planned models, and predict the held-out slides.

    All `plans` have the same settings. Writes a checkpoint every `checkpoint_s` seconds; `log`
    gets a line per epoch.
    """
    settings = plans[0].settings
    slides = {slide.name: slide for plan in plans for slide in (*plan.slides, *plan.held_out)}
    pixels = load_pixels(list(slides.values()), device, max(settings.patch))
    pace, trained = Pace(0), []
    for number, plan in enumerate(plans):
        title = f"fold {number + 1}/{len(plans)}, " if len(plans) > 1 else ""
        on_epoch = _reporter(plan, title, len(plans) - number, pace, log)
        ensemble = _train_ensemble(plan, pixels, title, checkpoint_s, on_epoch)
        began = time.monotonic()
        predictions = {slide.name: ensemble.outputs(slide, pixels) for slide in plan.held_out}
        trained.append(Trained(plan, ensemble, predictions, time.monotonic() - began))
    return trained


def _reporter(
    plan: Plan, title: str, models: int, pace: Pace, log: Callable[[str], None]
) -> Callable[[int, Epoch], None]:
    """Report lines like ``resnet18 1/1, epoch 3/30: loss 0.0421, up to 0:01:00 left``."""
    epochs, backbones = plan.settings.epochs, plan.settings.backbones

    def on_epoch(member: int, row: Epoch) -> None:
        pace.advance(1)
        pace.total = pace.done + (models * len(backbones) - member) * epochs - row["epoch"]
        line = (
            f"{title}{backbones[member]} {member + 1}/{len(backbones)}, "
            f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}"
        )
        if row["stop_loss"] is not None:
            line += f"; on {plan.stopping(member)} loss {row['stop_loss']:.4f}"
            line += f", per-spot Spearman {row['score']:.3f}"
        log(f"{line}, up to {clock(pace.left_s or 0.0)} left")

    return on_epoch


def _train_ensemble(
    plan: Plan,
    pixels: Pixels,
    title: str,
    checkpoint_s: float,
    on_epoch: Callable[[int, Epoch], None],
) -> Ensemble:
    settings, cell_types = plan.settings, plan.slides[0].cell_types
    learned = fit_learned_target(settings.target, abundances(plan.slides))
    identity = _identity(plan, learned, pixels)
    claim(plan.folder, identity)
    if identity["alignment"] == "table":
        write_whole(plan.folder / ALIGNMENT, partial(shutil.copyfile, plan.alignment))
    names = tuple(slide.name for slide in plan.slides)
    ensemble = Ensemble(plan.folder, settings, cell_types, learned, plan.alignment, names)
    for member, name in enumerate(ensemble.members):
        folder = plan.folder / name
        if (folder / MODEL).exists():
            continue
        training = _training(plan, learned, member, folder, pixels, title)
        history = training.run(checkpoint_s, partial(on_epoch, member))
        save_json(history, folder / HISTORY)
        draw_curves(ensemble.histories(), plan.folder / CURVES)
        _save_member(training, settings.backbones[member], identity["slides"])
    return ensemble


def _training(
    plan: Plan, learned: LearnedTarget, member: int, folder: Path, pixels: Pixels, title: str
) -> Training:
    settings = plan.settings
    net, backbone = build(settings, member, len(plan.slides[0].cell_types))

    def examples(slides: Sequence[Slide]) -> Examples:
        patches = SpotPatches(slides, pixels, settings, backbone)
        targets = torch.from_numpy(learned.forward(abundances(slides)))
        return Examples(patches, targets.to(patches.device))

    stopping = [slide for slide in plan.slides if slide.name == plan.stopping(member)]
    train = examples([slide for slide in plan.slides if slide.name != plan.stopping(member)])
    net.start_at(train.targets.mean(dim=0))
    return Training(
        net=net.to(train.patches.device),
        member=member,
        settings=settings,
        train=train,
        stop=examples(stopping) if stopping else None,
        score=lambda outputs: spot_spearman(learned.restore(outputs), abundances(stopping)),
        folder=folder,
        title=f"{title}member {member + 1}/{len(settings.backbones)} {backbone.name}",
    )


def _save_member(training: Training, backbone: str, slides: Sequence[dict[str, str]]) -> None:
    weights = {name: value.cpu() for name, value in training.net.state_dict().items()}
    trunk = {
        name.removeprefix("trunk."): value
        for name, value in weights.items()
        if name.startswith("trunk.")
    }
    save_tensors(
        {
            "state_dict": trunk,
            "backbone": backbone,
            "input_px": training.train.patches.input_px,
            "tuned_on": [{key: s[key] for key in ("slide", "pixels", "spots")} for s in slides],
        },
        training.folder / BACKBONE,
    )
    save_tensors({"format": FORMAT, "net": weights}, training.folder / MODEL)
    remove_drafts(training.folder)


def _identity(plan: Plan, learned: LearnedTarget, pixels: Pixels) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "settings": plan.settings.to_json(),
        "cell_types": list(plan.slides[0].cell_types),
        "slides": [
            {
                "slide": slide.name,
                "pixels": pixels[slide.name].digest,
                "spots": digest_array(slide.xy),
                "abundance": digest_array(abundances([slide])),
            }
            for slide in plan.slides
        ],
        "stop_on": list(plan.stop_on),
        "alignment": plan.alignment if plan.alignment in ("none", "auto") else "table",
        "scale": learned.to_json(),
    }


@dataclass(frozen=True)
class EndToEnd:
    """Description of an end-to-end model, like `regress.setup.Setup`."""

    model: str
    target: str
    group_by: str
    seed: int
    options: dict[str, Any]
    features: str = "end-to-end"

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return dict(vars(self))


def score_models(
    trained: Sequence[Trained], *, model: str, group_by: str = "slide"
) -> CrossValidation:
    """Score every model on its held-out slides; `model` and `group_by` appear in the result."""
    settings = trained[0].plan.settings
    setup = EndToEnd(model, settings.target, group_by, settings.seed, settings.to_json())
    folds = []
    for one in trained:
        for name, prediction in one.predictions.items():
            warn_if_constant(prediction, f"slide {name}")
        held_out = [slide.spot_table() for slide in one.plan.held_out]
        training = [slide.spot_table() for slide in one.plan.slides]
        fold = score_predictions(
            one.predictions,
            held_out,
            one.ensemble.learned.target,
            seed=settings.seed,
            fit_seconds=one.ensemble.fit_seconds(),
            predict_seconds=one.predict_seconds,
            baselines=baselines(training, held_out, Setup(seed=settings.seed)),
        )
        folds.append(fold)
    scores = CrossValidation(setup, tuple(folds), load_seconds=0.0, seeds=(settings.seed,))
    warn_where_nothing_was_learned(scores)
    return scores
