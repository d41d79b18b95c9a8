"""Fixtures for the tests of end-to-end models."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from histoboost.finetune import run
from histoboost.finetune.curves import draw_curves
from histoboost.finetune.plan import plan_models
from histoboost.finetune.presets import Settings, preset
from histoboost.finetune.run import Trained, train_models
from histoboost.phantom import phantom_slide, write_phantom
from histoboost.slides.slide import Dataset

Train = Callable[..., list[Trained]]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Sums on one thread are reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="package")
def nothing_slow() -> Iterator[None]:
    """Plots and the disk take longer than a tiny training; only `finished` plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(run, "draw_curves", lambda histories, path: None)
        yield


@pytest.fixture(scope="session")
def small_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled slides S_1 to S_3 and the unlabelled S_4, 20 spots each."""
    return write_phantom(tmp_path_factory.mktemp("small") / "small.h5", slides=3, spots=20)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """Labelled slides S_1 to S_3 and the unlabelled S_9, 20 spots each."""
    slides = [phantom_slide(f"S_{i}", seed=i, spots=20) for i in (1, 2, 3)]
    unlabelled = dataclasses.replace(slides[0], name="S_9", abundance=None, cell_types=())
    return Dataset(Path("phantom"), (*slides, unlabelled))


@pytest.fixture(scope="session")
def tiny(tiny_net: str) -> Callable[..., Settings]:
    """The ensemble recipe on two tiny networks."""
    base = {"backbones": (tiny_net, tiny_net), "weights": ("random",), "patch": (24, 48)}
    base = {**base, "input_px": 32, "epochs": 2, "batch_size": 8}
    return lambda **changes: preset("cnn-ensemble", **{**base, **changes})


@pytest.fixture(scope="session")
def train(tiny: Callable[..., Settings]) -> Train:
    """Plan and train on the CPU; holds out S_1 by default."""

    def train(
        dataset: Dataset,
        out: Path,
        settings: Settings | None = None,
        held_out: Sequence[str] | None = ("S_1",),
        lines: list[str] | None = None,
        **options: Any,
    ) -> list[Trained]:
        plans = plan_models(dataset, out, settings or tiny(), held_out=held_out, **options)
        log = [] if lines is None else lines
        return train_models(plans, device=torch.device("cpu"), log=log.append)

    return train


@pytest.fixture(scope="session")
def finished(train: Train, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The tiny ensemble, trained on `dataset` without S_1; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_curves", draw_curves)
        return train(dataset, tmp_path_factory.mktemp("finished") / "cnn")[0]
