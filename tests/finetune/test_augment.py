"""Every augmentation acts as named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from histoboost.finetune.augment import augmentation
from histoboost.finetune.presets import Settings

PX = 32
EACH = {"flip": True, "rotation": 180.0} | dict.fromkeys(
    ("zoom", "brightness", "contrast", "translation"), 0.3
)


def views(n: int = 6) -> Tensor:
    """(n, 2, 3, PX, PX): a bright disc off the centre on a gradient; both views alike."""
    y, x = torch.meshgrid(torch.arange(PX), torch.arange(PX), indexing="ij")
    disc = (((x - 20) ** 2 + (y - 9) ** 2) < 16) * 80
    image = torch.stack([60 + 2 * x + disc, 60 + 2 * y + disc, 100 + x - y]).to(torch.uint8)
    return image.expand(n, 2, 3, PX, PX).clone()


def changed(seed: int = 0, group: int = 1, **choices: object) -> Tensor:
    torch.manual_seed(seed)
    return augmentation(Settings(augment_group=group, **choices), PX)(views())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*EACH])
def test_each_augmentation_is_drawn_per_spot_and_alike_for_its_fields_of_view(name: str) -> None:
    out = changed(**{name: EACH[name]})
    assert out.shape == views().shape
    assert out.dtype == torch.uint8
    assert not torch.equal(out, views())
    assert not all(torch.equal(out[0], spot) for spot in out)
    assert torch.equal(out[:, 0], out[:, 1])


def test_without_augmentations_nothing_changes() -> None:
    assert torch.equal(changed(), views())


def test_spots_of_a_group_share_a_draw() -> None:
    out = changed(rotation=180.0, group=3)
    assert torch.equal(out[0], out[2])
    assert not torch.equal(out[2], out[3])


def test_a_flip_is_one_of_the_four_mirror_images() -> None:
    image = views()[0]
    mirrors = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    seen = set()
    for seed in range(4):
        for spot in changed(seed, flip=True):
            which = [i for i, mirror in enumerate(mirrors) if torch.equal(spot, mirror)]
            assert len(which) == 1
            seen.update(which)
    assert seen == {0, 1, 2, 3}


def test_brightness_scales_all_pixels_alike() -> None:
    ratio = changed(brightness=0.2).float() / views().float()
    for spot in ratio:
        assert 0.79 < float(spot.median()) < 1.21
        assert float(spot.std()) < 0.01


def test_contrast_keeps_the_mean_and_changes_the_spread() -> None:
    before, after = views().float(), changed(contrast=0.3).float()
    assert (after.mean((1, 2, 3, 4)) - before.mean((1, 2, 3, 4))).abs().max() < 6
    assert (after.std((1, 2, 3, 4)) - before.std((1, 2, 3, 4))).abs().max() > 2


def disc_position(spot: Tensor) -> Tensor:
    """Centre of what is brighter than the gradient alone could be."""
    red, green = spot[0, 0].float(), spot[0, 1].float()
    bright = ((red + green) > 255).nonzero().float()
    return bright.mean(0)


def test_translation_moves_the_picture_by_at_most_the_fraction() -> None:
    start = disc_position(views()[0])
    moved = torch.stack([disc_position(spot) - start for spot in changed(translation=0.1)])
    assert moved.abs().max() > 1
    assert moved.abs().max() < 0.1 * PX + 1.5


def test_zoom_changes_the_area_of_the_disc() -> None:
    areas = [float(((s[0, 0].float() + s[0, 1].float()) > 255).sum()) for s in changed(zoom=0.4)]
    assert max(areas) > 1.3 * min(areas)


def test_rotation_keeps_the_distance_from_the_centre() -> None:
    centre = torch.tensor([(PX - 1) / 2] * 2)
    start = (disc_position(views()[0]) - centre).norm()
    spots = [disc_position(spot) - centre for spot in changed(rotation=30.0)]
    assert all(abs(float(at.norm() - start)) < 2.5 for at in spots)
    assert max(float((a - b).norm()) for a in spots for b in spots) > 3


@pytest.mark.parametrize(
    "choice", [{"rotation": 180.0}, {"translation": 0.3}, {"zoom": 0.5}, {"rotation": 45.0}]
)
def test_no_black_corners_come_into_view(choice: dict[str, object]) -> None:
    for seed in range(5):
        assert int(changed(seed, **choice).min()) >= 40
