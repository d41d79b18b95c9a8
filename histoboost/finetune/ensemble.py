"""An ensemble of networks in a folder: trained member by member, complete or resumable."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from histoboost.digests import digest_array
from histoboost.errors import BadInput, HistoboostError
from histoboost.featurize.backbones.factory import is_harmless
from histoboost.finetune.checkpoint import load_tensors, save_json, save_tensors
from histoboost.finetune.curves import draw_curves
from histoboost.finetune.layout import (
    ALIGNMENT,
    BACKBONE,
    CURVES,
    HISTORY,
    IDENTITY,
    MODEL,
    is_ensemble,
)
from histoboost.finetune.network import build
from histoboost.finetune.presets import Settings
from histoboost.finetune.spot_patches import Pixels, SpotPatches
from histoboost.finetune.target import LearnedTarget, fit_learned_target
from histoboost.finetune.train import CHECKPOINT, Epoch, Examples, Training, predict
from histoboost.io import write_whole
from histoboost.regress.metrics import spot_spearman
from histoboost.slides.slide import Slide

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What an ensemble is trained from.

    Attributes
    ----------
    settings : Settings
    slides : tuple of Slide
        Labelled; those that networks learn from and those that stop them.
    stop_on : tuple of str
        Names of the slides that may stop a network. Member i is stopped by the i-th of them,
        counted round, and learns from all other slides. Empty: all epochs on all slides.
    alignment : str
        How the spots of `slides` were moved, so that those to be predicted are moved alike:
        ``"none"``, ``"auto"`` or the path of a table.
    """

    settings: Settings
    slides: tuple[Slide, ...]
    stop_on: tuple[str, ...]
    alignment: str = "none"

    def stopping(self, member: int) -> str | None:
        """The slide that stops a member."""
        return self.stop_on[member % len(self.stop_on)] if self.stop_on else None

    def abundance(self) -> NDArray[np.float32]:
        """Abundances of all slides, one below the other."""
        return np.concatenate([labels(slide) for slide in self.slides])


def labels(slide: Slide) -> NDArray[np.float32]:
    """Abundances of a slide that must have them."""
    if slide.abundance is None:
        raise BadInput(f"slide {slide.name}: has no labels; train on labelled slides")
    return slide.abundance


class Ensemble:
    """Networks in a folder, of which some may still have to be trained.

    Parameters
    ----------
    folder : Path
        See `histoboost.finetune.layout`.
    settings : Settings
        What was chosen about the training.
    cell_types : tuple of str
        Names of the outputs.
    learned : LearnedTarget
        Between abundances and outputs.
    alignment : str
        What `aligned` needs to move the spots of a slide as those of the training slides.
    training : tuple of str
        Names of the training slides.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        cell_types: tuple[str, ...],
        learned: LearnedTarget,
        alignment: str,
        training: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.cell_types = cell_types
        self.learned = learned
        self.alignment = alignment
        self.training = training

    @property
    def members(self) -> list[str]:
        """Names of the members' folders."""
        # Names such as timm:vit_small or hf-hub:owner/net are no names of folders.
        plain = [re.sub(r"[^\w.-]+", "_", name) for name in self.settings.backbones]
        return [f"member_{i}_{name}" for i, name in enumerate(plain)]

    def predict(self, slide: Slide, pixels: Pixels) -> NDArray[np.float64]:
        """Mean of the members' predictions.

        Parameters
        ----------
        slide : Slide
            Need not be labelled.
        pixels : mapping of str to Resident
            Holds the slide's image, on the device that is to do the work.

        Returns
        -------
        ndarray of shape (N, T)
            In units of ``learned.target``.
        """
        total = np.zeros((len(slide.xy), len(self.cell_types)))
        for member, name in enumerate(self.members):
            saved = load_tensors(self.folder / name / MODEL)
            net, backbone = build(self.settings, member, len(self.cell_types), blank=True)
            net.load_state_dict(saved["net"])
            patches = SpotPatches([slide], pixels, self.settings, backbone)
            outputs = predict(net.to(patches.device), patches, self.settings.batch_size)
            total += self.learned.restore(outputs.cpu().numpy())
        return total / len(self.members)

    def histories(self) -> dict[str, list[Epoch]]:
        """Rows of the epochs, by the name of the member; members in training are left out."""
        return {
            name: json.loads((self.folder / name / HISTORY).read_text(encoding="utf-8"))
            for name in self.members
            if (self.folder / name / HISTORY).exists()
        }

    def fit_seconds(self) -> float:
        """Time that all training took, interruptions not counted."""
        return float(sum(row["seconds"] for rows in self.histories().values() for row in rows))


def load_ensemble(folder: str | Path, backbones: Sequence[str] = ()) -> Ensemble:
    """Open a complete ensemble.

    Parameters
    ----------
    folder : str or Path
        Where it is.
    backbones : sequence of str
        Networks beyond histoboost's and timm's own that the caller trusts. The folder may come
        from anywhere: a name in it is never imported or fetched unless it is among these.

    Raises
    ------
    HistoboostError
        If the folder holds none, one of another version, or one in training, or names a network
        that is not in `backbones`.
    """
    folder = Path(folder)
    path = folder / IDENTITY
    if not is_ensemble(folder):
        raise BadInput(f"{folder}: holds no end-to-end model; train one with finetune")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise BadInput(
                f"{path}: has format {fields['format']}, this histoboost reads {FORMAT}; "
                "use the histoboost that wrote it"
            )
        ensemble = Ensemble(
            folder,
            Settings.from_json(fields["settings"]),
            tuple(fields["cell_types"]),
            LearnedTarget.from_json(fields["scale"]),
            _stored_alignment(folder, fields["alignment"]),
            tuple(str(slide["slide"]) for slide in fields["slides"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, HistoboostError):
            raise
        raise BadInput(f"{path}: cannot be read ({error}); train again") from error
    for backbone in ensemble.settings.backbones:
        if not is_harmless(backbone) and backbone not in backbones:
            raise BadInput(
                f"{path}: names the network {backbone!r}, which is code or a download; if you "
                f"trust it, give --backbones {backbone}"
            )
    for name in ensemble.members:
        if not (folder / name / MODEL).exists():
            raise BadInput(
                f"{folder}: {name} is not trained to the end; run the same finetune again"
            )
    return ensemble


def train_ensemble(
    plan: Plan,
    folder: Path,
    pixels: Pixels,
    *,
    title: str,
    checkpoint_s: float,
    on_epoch: Callable[[int, Epoch], None],
) -> Ensemble:
    """Train what is missing of an ensemble.

    Parameters
    ----------
    plan : Plan
        What is trained, on which slides.
    folder : Path
        Where the networks go; one that was begun with the same plan is continued.
    pixels : mapping of str to Resident
        Images of the plan's slides, on the device that is to do the work.
    title : str
        What progress bars begin with.
    checkpoint_s : float
        Seconds between two checkpoints.
    on_epoch : callable
        Called with the member's position and the row of its history after every epoch.

    Raises
    ------
    HistoboostError
        If the folder holds something else, or training fails.
    """
    learned = fit_learned_target(plan.settings.target, plan.abundance())
    identity = _identity(plan, learned, pixels)
    _claim(folder, identity)
    if identity["alignment"] == "table":
        write_whole(folder / ALIGNMENT, partial(shutil.copyfile, plan.alignment))
    ensemble = Ensemble(
        folder,
        plan.settings,
        plan.slides[0].cell_types,
        learned,
        plan.alignment,
        tuple(slide.name for slide in plan.slides),
    )
    for member, name in enumerate(ensemble.members):
        if (folder / name / MODEL).exists():
            continue
        place = folder / name
        training = _training(plan, learned, member, place, pixels, title, checkpoint_s, on_epoch)
        history = training.run()
        save_json(history, place / HISTORY)
        draw_curves(ensemble.histories(), folder / CURVES)
        _save_member(training, place, plan.settings.backbones[member], identity["slides"])
    return ensemble


def _training(
    plan: Plan,
    learned: LearnedTarget,
    member: int,
    place: Path,
    pixels: Pixels,
    title: str,
    checkpoint_s: float,
    on_epoch: Callable[[int, Epoch], None],
) -> Training:
    settings = plan.settings
    net, backbone = build(settings, member, len(plan.slides[0].cell_types))

    def examples(slides: Sequence[Slide]) -> Examples:
        patches = SpotPatches(slides, pixels, settings, backbone)
        targets = learned.forward(np.concatenate([labels(slide) for slide in slides]))
        return Examples(patches, torch.from_numpy(targets).to(patches.device))

    stopping = [slide for slide in plan.slides if slide.name == plan.stopping(member)]
    learning = [slide for slide in plan.slides if slide.name != plan.stopping(member)]
    train = examples(learning)
    net.start_at(train.targets.mean(dim=0))
    return Training(
        net=net.to(train.patches.device),
        member=member,
        settings=settings,
        train=train,
        stop=examples(stopping) if stopping else None,
        score=lambda outputs: spot_spearman(learned.restore(outputs), labels(stopping[0])),
        folder=place,
        checkpoint_s=checkpoint_s,
        title=f"{title}member {member + 1}/{len(settings.backbones)} {backbone.name}",
        on_epoch=lambda row: on_epoch(member, row),
    )


def _save_member(
    training: Training, place: Path, backbone: str, slides: Sequence[Mapping[str, str]]
) -> None:
    trunk = training.net.trunk.state_dict()
    save_tensors(
        {
            "state_dict": {name: value.cpu() for name, value in trunk.items()},
            "backbone": backbone,
            "input_px": training.train.patches.input_px,
            "tuned_on": [{key: s[key] for key in ("slide", "pixels", "spots")} for s in slides],
        },
        place / BACKBONE,
    )
    weights = {name: value.cpu() for name, value in training.net.state_dict().items()}
    save_tensors({"format": FORMAT, "net": weights}, place / MODEL)
    (place / CHECKPOINT).unlink(missing_ok=True)
    for draft in place.glob("*.part"):  # of a killed run
        draft.unlink(missing_ok=True)


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
                "abundance": digest_array(labels(slide)),
            }
            for slide in plan.slides
        ],
        "stop_on": list(plan.stop_on),
        "alignment": plan.alignment if plan.alignment in ("none", "auto") else "table",
        "scale": learned.to_json(),
    }


def _stored_alignment(folder: Path, kind: str) -> str:
    if kind not in ("none", "auto", "table"):
        raise ValueError(f"alignment {kind!r}")
    return str(folder / ALIGNMENT) if kind == "table" else kind


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Say what the folder is for, or see that it is for the same."""
    path = folder / IDENTITY
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file; give the name of a folder")
    if not path.exists() and folder.is_dir():
        others = [entry.name for entry in folder.iterdir() if entry.name != "folds"]
        if others:
            raise BadInput(
                f"{folder}: holds {min(others)}, which finetune did not write; give a new folder"
            )
    begun = any(folder.glob("member_*/*.pt"))
    if not begun:  # nothing is lost if it becomes something else
        save_json(identity, path)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: cannot be read ({error}); give a new folder") from error
    # Through JSON, so that tuples and lists are one thing.
    now = json.loads(json.dumps(identity))
    for key in now:
        if before.get(key) != now[key]:
            raise BadInput(
                f"{folder}: was begun with other {_which(key, before.get(key), now[key])}; "
                "give a new folder, or the same data and options"
            )


def _which(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(name for name in now if before.get(name) != now[name])
        return f"{key}: {name} {before.get(name)}, not {now[name]}"
    return key
