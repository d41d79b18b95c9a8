"""Slides beyond a memory budget: what a run holds of them is bounded, whatever their size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

SPOTS = 300

# A small slide first, so that libraries, engine and buffers are there before the peak is reset.
RUN = """
import sys
from pathlib import Path
from histoboost.featurize import pixels
from histoboost.featurize.embed import featurize

def peak_bytes():
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024

budget, small, large, store = int(sys.argv[1]), *sys.argv[2:]
pixels.read_pixels.__defaults__ = (budget,)
pixels.READ_BYTES = min(pixels.READ_BYTES, budget // 16)
options = dict(backbone="resnet18", weights="random", patch=[64, 256], engine="torch")
featurize(small, store + "-small", **options)
Path("/proc/self/clear_refs").write_text("5")
before = peak_bytes()
featurize(large, store, **options)
print(peak_bytes() - before)
"""


def write_slide(path: Path, side: int, seed: int = 0) -> Path:
    """A uint8 slide with `side` rows and columns in compressed chunks, written in bands."""
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 256, (256, 256, 3), np.uint8)
    table = np.zeros(SPOTS, [("x", "i8"), ("y", "i8")])
    table["x"], table["y"] = rng.integers(0, side, (2, SPOTS))
    with h5py.File(path, "w") as file:
        image = file.create_dataset(
            "images/Test/S_7",
            (side, side, 3),
            "u1",
            chunks=(256, 256, 3),
            compression="gzip",
            compression_opts=1,
        )
        band = np.tile(tile, (1, -(-side // 256), 1))[:, :side]
        for top in range(0, side, 256):
            image[top : top + 256] = band[: side - top]
        file["spots/Test/S_7"] = table
    return path


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("side", "budget"),
    [
        pytest.param(9_000, 64 * 2**20, id="243 MB in bands of 64 MB"),
        pytest.param(
            20_000, 512 * 2**20, id="1.2 GB in bands of 512 MB, as it comes", marks=pytest.mark.soak
        ),
    ],
)
def test_a_large_slide_takes_less_than_one_and_a_half_times_its_bands(tmp_path, side, budget):
    small = write_slide(tmp_path / "small.h5", 700)
    large = write_slide(tmp_path / "large.h5", side)
    command = [sys.executable, "-c", RUN, str(budget), str(small), str(large)]
    done = subprocess.run(
        [*command, str(tmp_path / "store")], capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.splitlines()[-1])
    assert side * side * 3 > 2 * budget
    assert grown < 1.5 * budget, f"{grown / 2**20:.0f} MB for bands of {budget / 2**20:.0f} MB"
