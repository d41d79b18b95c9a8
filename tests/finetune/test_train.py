"""Training learns, stops early, and survives being killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from histoboost.errors import HistoboostError
from histoboost.finetune.network import build
from histoboost.finetune.presets import Settings, preset
from histoboost.finetune.spot_patches import SpotPatches, load_pixels
from histoboost.finetune.train import CHECKPOINT, Examples, Training, predict
from histoboost.phantom import phantom_slide
from histoboost.regress.metrics import spot_spearman
from histoboost.regress.targets import fit_target
from histoboost.slides.slide import Slide

#: Registered by the fixture.
TINY_NET = "tiny-net-of-the-tests"

pytestmark = pytest.mark.usefixtures("tiny_net")


@pytest.fixture(scope="module")
def slides() -> tuple[Slide, Slide]:
    return phantom_slide("S_1", seed=1, spots=40), phantom_slide("S_2", seed=2, spots=20)


def ranks(slide: Slide) -> NDArray[np.float32]:
    return fit_target("rank", slide.abundance).forward(slide.abundance).astype(np.float32)


def tiny(name: str = "cnn-baseline", **changes: Any) -> Settings:
    base = {
        "backbones": (TINY_NET,),
        "weights": ("random",),
        "patch": (32,),
        "input_px": 32,
        "target": "rank",
        "batch_size": 8,
        "learning_rate": 1e-3,
    }
    return preset(name, **{**base, **changes})


@pytest.fixture
def training(slides: tuple[Slide, Slide], tmp_path: Path) -> Callable[..., Training]:
    """Makes a training on the first spots of S_1, stopped by the first of S_2 if there are any."""

    def training(settings: Settings, spots: tuple[int, ...] = (16, 8)) -> Training:
        cut = [s.only(np.arange(len(s.xy)) < n) for s, n in zip(slides, spots, strict=False)]
        net, backbone = build(settings, 0, 14)
        pixels = load_pixels(cut, torch.device("cpu"), 32)
        parts = [
            Examples(SpotPatches([s], pixels, settings, backbone), torch.from_numpy(ranks(s)))
            for s in cut
        ]
        return Training(
            net=net,
            member=0,
            settings=settings,
            train=parts[0],
            stop=parts[1] if len(parts) > 1 else None,
            score=lambda outputs: spot_spearman(outputs, cut[-1].abundance),
            folder=tmp_path,
            title="test",
        )

    return training


Make = Callable[..., Training]


def test_the_network_overfits_32_spots(slides: tuple[Slide, Slide], training: Make) -> None:
    settings = {"hidden": (64,), "loss": "soft-spearman", "epochs": 120, "patience": 0}
    run = training(tiny(**settings, batch_size=16, learning_rate=0.01), (32,))
    history = run.run(1e9)
    outputs = predict(run.net, run.train.patches, 16).numpy()
    slide = slides[0].only(np.arange(len(slides[0].xy)) < 32)
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert spot_spearman(outputs, slide.abundance) > 0.95
    # Not one profile for all: it must beat what a constant can reach.
    profile = np.repeat(ranks(slide).mean(0, keepdims=True), 32, axis=0)
    constant = spot_spearman(profile, slide.abundance)
    assert spot_spearman(outputs, slide.abundance) > constant + 0.2


def test_a_checkpoint_of_other_settings_is_refused(training: Make) -> None:
    training(tiny(epochs=1)).run(0.0)
    with pytest.raises(HistoboostError, match="different settings"):
        training(tiny(epochs=1, learning_rate=0.5)).run(1e9)


def test_a_damaged_checkpoint_is_one_clear_error(training: Make, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(HistoboostError, match="remove it and train again"):
        training(tiny(epochs=1)).run(1e9)


def test_training_stops_without_improvement_and_keeps_the_best_weights(training: Make) -> None:
    outputs = []

    def score(output: NDArray[np.float32]) -> float:
        outputs.append(output.copy())
        return [0.1, 0.3, 0.2, 0.25, 0.9][len(outputs) - 1]

    run = training(tiny(epochs=9, patience=2, monitor="score"))
    run.score = score
    assert [row["improved"] for row in run.run(1e9)] == [True, True, False, False]
    assert run.stop is not None
    np.testing.assert_array_equal(predict(run.net, run.stop.patches, 8).numpy(), outputs[1])


def test_the_learning_rate_falls_on_a_plateau(training: Make) -> None:
    settings = tiny(epochs=5, patience=0, plateau_patience=2, plateau_factor=0.1, monitor="score")
    run = training(settings)
    run.score = lambda outputs: 0.5
    rates = [row["learning_rate"] for row in run.run(1e9)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4])


def test_a_loss_that_is_not_finite_names_the_remedy(training: Make) -> None:
    run = training(tiny(epochs=1))
    run.train.targets[3] = float("nan")
    with pytest.raises(HistoboostError, match="lower --learning-rate"):
        run.run(1e9)


def test_gradients_are_clipped(training: Make) -> None:
    """With a tiny bound, the gradient that reaches Adam has just that norm."""
    run = training(tiny(epochs=1, clip=1e-3))
    run.run(1e9)
    norm = torch.cat([p.grad.flatten() for p in run.net.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_coordinates_and_both_fields_of_view_act(training: Make) -> None:
    run = training(tiny(patch=(24, 48), coords=8))
    views, coords = run.train.patches.crop(np.arange(4)), torch.zeros(4, 2)
    views, net = run.train.patches.normalise(views), run.net.eval()
    with torch.no_grad():
        before = net(views, coords)
        assert not torch.allclose(net(views, coords + 1), before)
        for view in (0, 1):
            blanked = views.clone()
            blanked[:, view] = 0
            assert not torch.allclose(net(blanked, coords), before)


@pytest.mark.parametrize(("choice", "moves"), [("train", True), ("frozen", False)])
def test_frozen_batch_norm_keeps_its_statistics(training: Make, choice: str, moves: bool) -> None:
    run = training(tiny(epochs=1, batch_norm=choice))
    name = "1.running_mean"
    before = run.net.trunk.state_dict()[name].clone()
    run.run(1e9)
    assert torch.equal(before, run.net.trunk.state_dict()[name]) != moves


def test_members_of_an_ensemble_start_differently() -> None:
    settings = tiny(backbones=(TINY_NET, TINY_NET))
    first, second, again = (build(settings, member, 14)[0].head[-1].weight for member in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("per_epoch", "sizes"), [(0, [6, 6, 5]), (10, [5, 5])])
def test_an_epoch_draws_other_spots_in_even_batches(
    training: Make, per_epoch: int, sizes: list[int]
) -> None:
    run = training(tiny(epoch_spots=per_epoch, batch_size=8), (17, 8))
    assert [len(batch) for batch in run.batches(0)] == sizes
    first, second = (np.concatenate(run.batches(epoch)) for epoch in (0, 1))
    assert [len(np.unique(spots)) for spots in (first, second)] == [sum(sizes)] * 2
    assert not np.array_equal(first, second)
    assert (set(first) != set(second)) is bool(per_epoch)
