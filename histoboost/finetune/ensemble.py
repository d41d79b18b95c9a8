"""Trained end-to-end models: ensembles of networks in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, pass_on, warnings_kept
from histoboost.featurize.backbones.factory import is_harmless
from histoboost.finetune.folder import (
    ALIGNMENT,
    HISTORY,
    IDENTITY,
    MODEL,
    as_written,
    is_ensemble,
    load_tensors,
)
from histoboost.finetune.network import build
from histoboost.finetune.presets import Settings
from histoboost.finetune.spot_patches import Pixels, SpotPatches, load_pixels
from histoboost.finetune.target import LearnedTarget
from histoboost.finetune.train import Epoch, predict
from histoboost.names import check_cell_type_names
from histoboost.regress.baselines import slide_scores
from histoboost.regress.bundle import digest_of
from histoboost.regress.compatibility import trained_on
from histoboost.regress.fitting import warn_if_constant
from histoboost.regress.predictions import Prediction, Predictions
from histoboost.regress.units import to_units
from histoboost.slides.align.apply import aligned
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.thumbnail import thumbnail

if TYPE_CHECKING:
    import torch

FORMAT = 1


@dataclass(frozen=True)
class Ensemble:
    """Networks in a folder. Spots to predict are aligned like those of training."""

    folder: Path
    settings: Settings
    cell_types: tuple[str, ...]
    learned: LearnedTarget
    alignment: str
    training_slides: tuple[str, ...]

    @classmethod
    def load(cls, folder: str | Path, backbones: Sequence[str] = ()) -> Ensemble:
        """Open a complete ensemble.

        The folder may come from anywhere: of networks beyond histoboost's and timm's own, only
        those that the caller trusts, `backbones`, are imported or fetched.
        """
        folder = Path(folder)
        path = folder / IDENTITY
        if not is_ensemble(folder):
            raise BadInput(f"{folder}: not a fine-tuned model; train one with histoboost finetune")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT:
                raise BadInput(
                    f"{path}: format version {fields['format']}, but this histoboost reads "
                    f"{FORMAT}; use the histoboost that wrote it"
                )
            # Folders of 0.1.0 have no digest.
            if fields.get("digest", digest_of(fields)) != digest_of(fields):
                raise BadInput(f"{path}: was changed since it was written; train again")
            alignment = fields["alignment"]
            if alignment not in ("none", "auto", "table"):
                raise ValueError(f"alignment {alignment!r}")
            ensemble = cls(
                folder,
                Settings.from_json(fields["settings"]),
                tuple(fields["cell_types"]),
                LearnedTarget.from_json(fields["scale"]),
                str(folder / ALIGNMENT) if alignment == "table" else alignment,
                tuple(str(slide["slide"]) for slide in fields["slides"]),
            )
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: cannot be read ({error}); train again") from error
        check_cell_type_names(ensemble.cell_types, folder)
        for backbone in ensemble.settings.backbones:
            if not is_harmless(backbone) and backbone not in backbones:
                raise BadInput(
                    f"{path}: names the network {backbone!r}, which is code or a download; if you "
                    f"trust it, give --backbones {backbone}"
                )
        for name in ensemble.members:
            if not (folder / name / MODEL).exists():
                raise BadInput(
                    f"{folder}: training of {name} is not finished; run the same finetune command "
                    "again"
                )
        return ensemble

    @property
    def members(self) -> list[str]:
        """Names of the members' folders, without the `:` and `/` of backbones."""
        plain = [re.sub(r"[^\w.-]+", "_", name) for name in self.settings.backbones]
        return [f"member_{i}_{name}" for i, name in enumerate(plain)]

    def predict(
        self,
        dataset: Dataset,
        slides: Sequence[str] | None = None,
        *,
        units: str = "rank",
        device: torch.device,
    ) -> Predictions:
        """Predict slides, by default all without labels, like `CompositionRegressor.predict`.

        Spots keep the order and coordinates of the source; for `units` see
        `regress.units.to_units`.
        """
        if slides is None:
            slides = [slide.name for slide in dataset.slides if not slide.labelled]
        chosen = [dataset[name] for name in slides]
        if not chosen:
            raise BadInput(f"{dataset.path}: all slides are labelled; choose slides with --slides")
        for slide in chosen:
            if slide.labelled and slide.cell_types != self.cell_types:
                raise BadInput(
                    f"{dataset.path}: slide {slide.name}: cell types differ from those of the "
                    f"model {self.folder}"
                )
        pass_on(trained_on(slides, self.training_slides))
        moved = aligned(Dataset(dataset.path, chosen), self.alignment).slides
        pixels = load_pixels(moved, device, max(self.settings.patch))
        predictions = []
        for slide, aligned_slide in zip(chosen, moved, strict=True):
            raw = self.outputs(aligned_slide, pixels)
            with warnings_kept() as heard:
                warn_if_constant(raw, f"slide {slide.name}")
            pass_on(heard)
            heard += trained_on([slide.name], self.training_slides)
            values = to_units(raw, units, self.learned.target)
            if not np.isfinite(values).all():
                raise BadInput(f"slide {slide.name}: predictions are not finite; train again")
            spots = slide.spot_table(thumbnail(slide.image))
            scores = slide_scores(raw, spots, self.cell_types, self.learned.target)
            predictions.append(
                Prediction(
                    spots, self.cell_types, values, units, scores=scores, warnings=tuple(heard)
                )
            )
        return Predictions(predictions)

    def outputs(self, slide: Slide, pixels: Pixels) -> NDArray[np.float64]:
        """Mean (N, T) of the members' predictions, in units of ``learned.target``."""
        total = np.zeros((len(slide.xy), len(self.cell_types)))
        for member, name in enumerate(self.members):
            saved = load_tensors(self.folder / name / MODEL)
            with as_written(self.folder / IDENTITY):
                net, backbone = build(self.settings, member, len(self.cell_types), blank=True)
            with as_written(self.folder / name / MODEL):
                net.load_state_dict(saved["net"])
            patches = SpotPatches([slide], pixels, self.settings, backbone)
            outputs = predict(net.to(patches.device), patches, self.settings.batch_size)
            total += self.learned.restore(outputs.cpu().numpy())
        return total / len(self.members)

    def histories(self) -> dict[str, list[Epoch]]:
        """Epochs of the trained members, by name."""
        found = {}
        for name in self.members:
            path = self.folder / name / HISTORY
            if path.exists():
                with as_written(path):
                    found[name] = json.loads(path.read_text("utf-8"))
        return found

    def fit_seconds(self) -> float:
        """Training time, without interruptions."""
        histories = self.histories()
        with as_written(self.folder):
            return sum(float(row["seconds"]) for rows in histories.values() for row in rows)
