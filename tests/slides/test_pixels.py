"""Pixels of a slide: read once in order, the same from memory and from the temporary file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import HistoboostError
from histoboost.slides import pixels as module
from histoboost.slides.pixels import read_pixels

SHAPE = (301, 40)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


@dataclass
class BandedImage:
    """An image in bands of 16 rows that writes down what was read."""

    shape: tuple[int, int] = SHAPE
    source_dtype: str = "uint8"
    band_rows: int = 16
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        self.reads.append((start, stop))
        return PIXELS[start:stop].copy()


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BYTES", 40 * 3 * 40)  # two bands of 16 rows


@pytest.mark.parametrize("budget", [10**6, 40 * 3 * 50])
def test_every_band_is_read_once_in_order(budget: int):
    image = BandedImage()
    with read_pixels(image, budget) as pixels:
        assert pixels.resident == (budget == 10**6)
        assert image.reads[0][0] == 0
        assert image.reads[-1][1] == 301
        for (_, stop), (start, _) in zip(image.reads, image.reads[1:], strict=False):
            assert start == stop
            assert start % 16 == 0
        for start, stop in [(0, 301), (17, 40), (300, 301), (100, 150)]:
            np.testing.assert_array_equal(pixels.rows(start, stop), PIXELS[start:stop])


def test_the_digest_does_not_depend_on_the_way_of_reading():
    with read_pixels(BandedImage(), 10**6) as a, read_pixels(BandedImage(), 6000) as b:
        assert a.digest == b.digest
        assert b.band_rows == 50
    with read_pixels(BandedImage(band_rows=301), 10**6) as whole:
        assert whole.digest == a.digest


def test_pixels_and_shape_change_the_digest(monkeypatch: pytest.MonkeyPatch):
    with read_pixels(BandedImage()) as before:
        pass
    changed = PIXELS.copy()
    changed[300, 39, 2] ^= 1
    monkeypatch.setitem(globals(), "PIXELS", changed)
    with read_pixels(BandedImage()) as after:
        assert before.digest != after.digest
    monkeypatch.setitem(globals(), "PIXELS", PIXELS.reshape(602, 20, 3))


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch):
    class Full:
        def write(self, data: object) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(module.tempfile, "TemporaryFile", Full)
    with pytest.raises(HistoboostError, match="No space left on device; .* set TMPDIR"):
        read_pixels(BandedImage(), 6000)


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    with read_pixels(BandedImage(), 6000):
        pass
    assert list(tmp_path.iterdir()) == []
