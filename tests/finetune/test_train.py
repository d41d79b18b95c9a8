"""Training trains, stops where it should, and survives being killed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from histoboost.errors import HistoboostError
from histoboost.finetune.network import CompositionNet, build
from histoboost.finetune.presets import Settings, preset
from histoboost.finetune.spot_patches import SpotPatches, load_pixels
from histoboost.finetune.train import CHECKPOINT, Epoch, Examples, Training, predict
from histoboost.phantom import phantom_slide
from histoboost.slides.slide import Slide

#: Registered by the fixture.
TINY_NET = "tiny-net-of-the-tests"

pytestmark = pytest.mark.usefixtures("tiny_net")


@pytest.fixture(scope="module")
def slides() -> tuple[Slide, Slide]:
    return phantom_slide("S_1", seed=1, spots=40), phantom_slide("S_2", seed=2, spots=20)


def some_spots(slide: Slide, n: int) -> Slide:
    assert slide.abundance is not None
    return dataclasses.replace(
        slide, xy=slide.xy[:n], spot_ids=slide.spot_ids[:n], abundance=slide.abundance[:n]
    )


def ranks(slide: Slide) -> NDArray[np.float32]:
    assert slide.abundance is not None
    scaled: NDArray[np.float32] = (
        (rankdata(slide.abundance, axis=1) - 1) / (slide.abundance.shape[1] - 1)
    ).astype(np.float32)
    return scaled


def spot_spearman(outputs: NDArray[np.float32], slide: Slide) -> float:
    assert slide.abundance is not None
    pairs = zip(outputs, slide.abundance, strict=True)
    return float(np.mean([spearmanr(a, b).statistic for a, b in pairs]))


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


def training(
    slides: tuple[Slide, ...],
    settings: Settings,
    folder: Path,
    *,
    stop: bool = True,
) -> Training:
    assert slides[0].abundance is not None
    net, backbone = build(settings, 0, slides[0].abundance.shape[1])
    pixels = load_pixels(slides, torch.device("cpu"), 32)
    parts = [
        Examples(SpotPatches([slide], pixels, settings, backbone), torch.from_numpy(ranks(slide)))
        for slide in slides
    ]
    return Training(
        net=net,
        member=0,
        settings=settings,
        train=parts[0],
        stop=parts[1] if stop else None,
        score=lambda outputs: spot_spearman(outputs, slides[-1]),
        folder=folder,
        title="test",
    )


def test_the_network_overfits_32_spots(slides: tuple[Slide, Slide], tmp_path: Path) -> None:
    slide = some_spots(slides[0], 32)
    settings = tiny(
        hidden=(64,),
        loss="soft-spearman",
        epochs=120,
        batch_size=16,
        patience=0,
        learning_rate=0.01,
    )
    run = training((slide,), settings, tmp_path, stop=False)
    history = run.run(1e9)
    outputs = predict(run.net, run.train.patches, 16).numpy()
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert spot_spearman(outputs, slide) > 0.95
    # Not one profile for all: it must beat what a constant can reach.
    profile = np.repeat(ranks(slide).mean(0, keepdims=True), 32, axis=0)
    assert spot_spearman(outputs, slide) > spot_spearman(profile, slide) + 0.2


class Killed(Exception):
    """Stands in for a SIGKILL: nothing of the training gets to run after it."""


def everything(**changes: Any) -> Settings:
    """All that draws random numbers or keeps a state, switched on."""
    return tiny(
        "cnn-ensemble",
        patch=(24, 48),
        hidden=(16,),
        coords=8,
        epochs=3,
        plateau_patience=1,
        patience=0,
        **changes,
    )


@pytest.fixture(scope="module")
def uninterrupted(
    slides: tuple[Slide, Slide], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    pair = (some_spots(slides[0], 36), slides[1])
    run = training(pair, everything(), tmp_path_factory.mktemp("uninterrupted"))
    history = run.run(1e9)
    return run.net.state_dict(), history


@pytest.mark.parametrize("last_step", [2, 5, 6])  # 5 batches an epoch: inside, end, beginning
def test_killed_and_resumed_equals_uninterrupted(
    slides: tuple[Slide, Slide],
    uninterrupted: tuple[dict[str, torch.Tensor], list[Epoch]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last_step: int,
) -> None:
    pair = (some_spots(slides[0], 36), slides[1])
    steps, allowed = 0, last_step
    step = torch.optim.Adam.step

    def step_and_die(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        if steps == allowed:
            raise Killed
        steps += 1
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step_and_die)
    with pytest.raises(Killed):
        training(pair, everything(), tmp_path).run(0.0)
    steps, allowed = 0, 1000
    torch.manual_seed(987)  # another process has another state
    resumed = training(pair, everything(), tmp_path)
    history = resumed.run(1e9)
    assert steps == 3 * 5 - last_step
    weights, expected = uninterrupted
    for name, value in weights.items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name
    assert without_times(history) == without_times(expected)


def without_times(history: list[Epoch]) -> list[Epoch]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def test_a_checkpoint_of_other_settings_is_refused(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    pair = (some_spots(slides[0], 8), slides[1])
    training(pair, tiny(epochs=1), tmp_path).run(0.0)
    with pytest.raises(HistoboostError, match="different settings"):
        training(pair, tiny(epochs=1, learning_rate=0.5), tmp_path).run(1e9)


def test_a_damaged_checkpoint_is_one_clear_error(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(HistoboostError, match="remove it and train again"):
        training(slides, tiny(epochs=1), tmp_path).run(1e9)


def test_training_stops_when_the_stopping_slide_no_longer_improves(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    pair = (some_spots(slides[0], 16), some_spots(slides[1], 10))
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    settings = tiny(epochs=9, patience=2, monitor="score")
    run = dataclasses.replace(
        training(pair, settings, tmp_path), score=lambda outputs: next(scores)
    )
    history = run.run(1e9)
    assert [row["improved"] for row in history] == [True, True, False, False]


def test_the_weights_of_the_best_epoch_are_kept(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    pair = (some_spots(slides[0], 16), some_spots(slides[1], 10))
    outputs = []

    def score(output: NDArray[np.float32]) -> float:
        outputs.append(output.copy())
        return [0.1, 0.9, 0.2][len(outputs) - 1]

    run = dataclasses.replace(
        training(pair, tiny(epochs=3, monitor="score"), tmp_path), score=score
    )
    run.run(1e9)
    assert run.stop is not None
    np.testing.assert_array_equal(predict(run.net, run.stop.patches, 8).numpy(), outputs[1])


def test_the_learning_rate_falls_on_a_plateau(slides: tuple[Slide, Slide], tmp_path: Path) -> None:
    pair = (some_spots(slides[0], 8), some_spots(slides[1], 8))
    settings = tiny(epochs=5, patience=0, plateau_patience=2, plateau_factor=0.1, monitor="score")
    run = dataclasses.replace(training(pair, settings, tmp_path), score=lambda outputs: 0.5)
    rates = [row["learning_rate"] for row in run.run(1e9)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4])


def test_a_loss_that_is_not_finite_names_the_remedy(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    pair = (some_spots(slides[0], 8), slides[1])
    run = training(pair, tiny(epochs=1), tmp_path)
    run.train.targets[3] = float("nan")
    with pytest.raises(HistoboostError, match="lower --learning-rate"):
        run.run(1e9)


def test_gradients_are_clipped(slides: tuple[Slide, Slide], tmp_path: Path) -> None:
    """With a tiny bound, the gradient that reaches Adam has just that norm."""
    pair = (some_spots(slides[0], 8), some_spots(slides[1], 8))
    run = training(pair, tiny(epochs=1, clip=1e-3), tmp_path)
    run.run(1e9)
    norm = torch.cat([p.grad.flatten() for p in run.net.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_the_coordinates_branch_acts_and_learns(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    pair = (some_spots(slides[0], 16), some_spots(slides[1], 8))
    run = training(pair, tiny(epochs=1, coords=8), tmp_path)
    assert run.net.coords is not None
    before = {name: value.clone() for name, value in run.net.coords.state_dict().items()}
    run.run(1e9)
    after = run.net.coords.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert coords_matter(run.net, run)
    without = training(pair, tiny(epochs=1), tmp_path / "without")
    assert not coords_matter(without.net, without)


def coords_matter(net: CompositionNet, run: Training) -> bool:
    views = run.train.patches.normalise(run.train.patches.crop(np.arange(4)))
    net.eval()
    with torch.no_grad():
        here, there = net(views, torch.zeros(4, 2)), net(views, torch.ones(4, 2))
    return not torch.equal(here, there)


def test_both_fields_of_view_act(slides: tuple[Slide, Slide], tmp_path: Path) -> None:
    run = training(slides, tiny(patch=(24, 48)), tmp_path)
    views = run.train.patches.normalise(run.train.patches.crop(np.arange(4)))
    run.net.eval()
    with torch.no_grad():
        both = run.net(views, torch.zeros(4, 2))
        for view in (0, 1):
            blanked = views.clone()
            blanked[:, view] = 0
            assert not torch.allclose(run.net(blanked, torch.zeros(4, 2)), both)


@pytest.mark.parametrize(("choice", "moves"), [("train", True), ("frozen", False)])
def test_frozen_batch_norm_keeps_its_statistics(
    slides: tuple[Slide, Slide], tmp_path: Path, choice: str, moves: bool
) -> None:
    pair = (some_spots(slides[0], 16), some_spots(slides[1], 8))
    run = training(pair, tiny(epochs=1, batch_norm=choice), tmp_path)
    name = "1.running_mean"
    before = run.net.trunk.state_dict()[name].clone()
    run.run(1e9)
    assert torch.equal(before, run.net.trunk.state_dict()[name]) != moves


def test_members_of_an_ensemble_start_and_go_differently() -> None:
    settings = tiny(backbones=(TINY_NET, TINY_NET))
    first, second = build(settings, 0, 14)[0], build(settings, 1, 14)[0]
    again = build(settings, 0, 14)[0]
    weights = [net.head[-1].weight for net in (first, second, again)]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_every_spot_is_seen_once_per_epoch_in_another_order(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    run = training(slides, tiny(), tmp_path)
    orders = [np.concatenate(run.batches(epoch)) for epoch in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(len(slides[0].xy)))
    assert not np.array_equal(*orders)


def test_no_batch_holds_a_single_spot(slides: tuple[Slide, Slide], tmp_path: Path) -> None:
    run = training((some_spots(slides[0], 17), slides[1]), tiny(batch_size=8), tmp_path)
    assert [len(batch) for batch in run.batches(0)] == [6, 6, 5]


def test_fewer_spots_per_epoch_can_be_asked_for(
    slides: tuple[Slide, Slide], tmp_path: Path
) -> None:
    run = training(slides, tiny(epoch_spots=10), tmp_path)
    drawn = [np.concatenate(run.batches(epoch)) for epoch in (0, 1)]
    assert [len(np.unique(spots)) for spots in drawn] == [10, 10]
    assert set(drawn[0]) != set(drawn[1])
