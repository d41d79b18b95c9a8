"""Batches of patches: every patch once, in an order that completes chunks, from bands or whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from histoboost.featurize import patches
from histoboost.featurize.stream import Bands, PatchStream, Work, plan
from histoboost.slides.pixels import SlidePixels

HEIGHT, WIDTH = 300, 50
PIXELS = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
XY = np.random.default_rng(2).random((60, 2)) * [WIDTH, HEIGHT]
XY[:4] = [[0, 0], [WIDTH, HEIGHT], [0, HEIGHT], [WIDTH, 0]]
MISSING = {8: [slice(0, 25), slice(50, 60)], 33: [slice(0, 25), slice(25, 50), slice(50, 60)]}
CPU = torch.device("cpu")


class CountingPixels(SlidePixels):
    """Says how many rows were asked for at a time."""

    most = 0

    def rows(self, start: int, stop: int) -> np.ndarray:
        self.most = max(self.most, stop - start)
        return super().rows(start, stop)


def pixels() -> CountingPixels:
    return CountingPixels((HEIGHT, WIDTH), "digest", HEIGHT, PIXELS)


@pytest.mark.parametrize("banded", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
def test_a_plan_holds_every_missing_patch_once_and_finishes_chunk_by_chunk(banded, mixed):
    work = plan(MISSING, XY, HEIGHT, banded=banded, mixed=mixed)
    expected = {(px, s) for px, parts in MISSING.items() for p in parts for s in range(60)[p]}
    pairs = list(zip(work.px.tolist(), work.spot.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    chunk = np.searchsorted([25, 50], work.spot, side="right")
    assert (np.diff(chunk) >= 0).all()
    if banded:
        for number in range(3):
            for px in (8, 33) if not mixed else (None,):
                own = (chunk == number) & ((work.px == px) | (px is None))
                tops = [
                    max(0, int(np.floor(XY[s, 1] - p / 2 + 0.5))) for p, s in pairs_of(work, own)
                ]
                # Patches over the lower border mirror rows from further up: leave these out.
                low = [
                    t
                    for t, (p, _) in zip(tops, pairs_of(work, own), strict=True)
                    if t + p <= HEIGHT
                ]
                assert low == sorted(low)


def pairs_of(work: Work, own: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(work.px[own].tolist(), work.spot[own].tolist(), strict=True))


def test_nothing_missing_is_an_empty_plan():
    assert len(plan({8: []}, XY, HEIGHT, banded=True, mixed=True)) == 0


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_of_one_size_only_where_sizes_cannot_mix(size: int):
    work = plan(MISSING, XY, HEIGHT, banded=False, mixed=False)
    done = 0
    while done < len(work):
        part = work.batch(done, size, 10**6, mixed=False)
        assert 1 <= len(part) <= size
        assert len(set(part.px.tolist())) == 1
        done += len(part)
    assert done == len(work)


def test_a_batch_of_large_patches_holds_fewer_of_them():
    work = Work(np.array([30, 30, 5000, 5000, 40]), np.arange(5))
    sizes, done = [], 0
    while done < 5:
        part = work.batch(done, 16, 10**6, mixed=True)
        sizes.append(part.px.tolist())
        done += len(part)
    assert sizes == [[30, 30], [5000], [5000], [40]]


@pytest.mark.parametrize("rows", [1, 40, 100, 299])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_bands_of_any_height_give_the_patches_of_the_whole_slide(rows: int, batch: int):
    work = plan(MISSING, XY, HEIGHT, banded=True, mixed=True)
    source = pixels()
    banded = PatchStream(Bands(source, CPU, rows * WIDTH * 3), HEIGHT, XY, MISSING, 16)
    done = 0
    while done < len(work):
        part = work.batch(done, batch, 10**6, mixed=True)
        out = banded.batch(part)
        for patch, px, spot in zip(out, part.px.tolist(), part.spot.tolist(), strict=True):
            starts = patches.window_starts(XY[spot : spot + 1], px)
            plain = patches.crop(torch.from_numpy(PIXELS), starts, px, height=HEIGHT)
            assert torch.equal(patch, patches.resize(plain, 16)[0])
        done += len(part)
    # A band is as tall as the budget allows, or as one patch needs.
    assert source.most <= max(rows, 33)


def test_a_slide_within_the_budget_is_loaded_once():
    source = pixels()
    bands = Bands(source, CPU)
    first, _ = bands.covering(5, 9)
    second, top = bands.covering(200, 300)
    assert first is second
    assert top == 0
    assert source.most == HEIGHT
