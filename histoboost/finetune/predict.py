"""Predictions of an end-to-end model for slides it may never have seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from histoboost.errors import BadInput
from histoboost.finetune.ensemble import load_ensemble
from histoboost.finetune.spot_patches import load_pixels, warn_of_flat_patches
from histoboost.names import check_cell_type_names
from histoboost.regress.compatibility import warn_of_training_slides
from histoboost.regress.fitting import warn_if_constant
from histoboost.regress.predictions import Prediction, Predictions
from histoboost.regress.targets import to_units
from histoboost.slides.align.apply import aligned
from histoboost.slides.slide import Dataset, Slide


def predict_slides(
    dataset: Dataset,
    model: str | Path,
    slides: Sequence[str] | None = None,
    *,
    units: str = "rank",
    device: torch.device,
    backbones: Sequence[str] = (),
) -> tuple[tuple[str, ...], Predictions]:
    """Predict slides of a dataset.

    Parameters
    ----------
    dataset : Dataset
        Slides with their images.
    model : path
        Folder that `finetune` wrote.
    slides : sequence of str, optional
        Names; the unlabelled slides by default.
    units : str
        See `histoboost.regress.targets.to_units`.
    device : torch.device
        Where to compute.
    backbones : sequence of str
        Networks of one's own or of huggingface.co that the model may name, see `load_ensemble`.

    Returns
    -------
    cell_types : tuple of str
        Names of the columns.
    predictions : Predictions
        One for each slide, spots in the order of the source.

    Raises
    ------
    HistoboostError
        If the model is incomplete, or a slide is unknown or has other cell types.
    """
    ensemble = load_ensemble(model, backbones)
    check_cell_type_names(ensemble.cell_types, model)
    chosen: Sequence[Slide]
    if slides is not None:
        chosen = [dataset[name] for name in slides]
    else:
        chosen = [slide for slide in dataset.slides if not slide.labelled]
        if not chosen:
            raise BadInput(f"{dataset.path}: all slides are labelled; choose slides with --slides")
    for slide in chosen:
        if slide.labelled and slide.cell_types != ensemble.cell_types:
            raise BadInput(
                f"{dataset.path}: slide {slide.name} has other cell types than the model "
                f"{model}; predict slides of the same study"
            )
    warn_of_training_slides([slide.name for slide in chosen], ensemble.training)
    chosen = aligned(Dataset(dataset.path, chosen), ensemble.alignment).slides
    pixels = load_pixels(chosen, device)
    warn_of_flat_patches(chosen, pixels, max(ensemble.settings.patch))
    predictions = []
    for slide in chosen:
        raw = ensemble.predict(slide, pixels)
        warn_if_constant(raw, f"slide {slide.name}")
        values = to_units(raw, units, ensemble.learned.target)
        if not np.isfinite(values).all():
            raise BadInput(f"slide {slide.name}: predictions are not finite; train again")
        predictions.append(Prediction(slide.spot_table(), ensemble.cell_types, values, units))
    return ensemble.cell_types, Predictions(predictions)
