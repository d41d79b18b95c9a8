"""Large slides: memory is bounded, whatever their size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

SPOTS = 100

RUN = """
import sys
from pathlib import Path
from histoboost.slides import tile_cache
from histoboost.featurize import featurize

budget, slide, store = int(sys.argv[1]), *sys.argv[2:]
tile_cache.SMALL = 8 * 2**20
tile_cache.TileCache.__init__.__defaults__ = (budget,)
featurize(slide, store, backbone="mobilenet_v2", weights="random", patch=[64, 256], engine="torch")
line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
print(int(line.split()[1]) * 1024)
"""


def peak_bytes(slide: Path, budget: int) -> int:
    """Peak memory of a process that embeds a slide, including all libraries."""
    command = [sys.executable, "-c", RUN, str(budget), str(slide), f"{slide}-store"]
    # Otherwise glibc keeps freed memory in one arena per thread: 30 MB of noise between runs.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def write_slide(path: Path, side: int, seed: int = 0) -> Path:
    """A uint8 slide with `side` rows and columns in compressed chunks, written in bands."""
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 256, (256, 256, 3), np.uint8)
    table = np.zeros(SPOTS, [("x", "i8"), ("y", "i8")])
    table["x"], table["y"] = rng.integers(0, side, (2, SPOTS))
    with h5py.File(path, "w") as file:
        options = {"chunks": (256, 256, 3), "compression": "gzip", "compression_opts": 1}
        image = file.create_dataset("images/Test/S_7", (side, side, 3), "u1", **options)
        band = np.tile(tile, (1, -(-side // 256), 1))[:, :side]
        for top in range(0, side, 256):
            image[top : top + 256] = band[: side - top]
        file["spots/Test/S_7"] = table
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("side", "budget"),
    [
        pytest.param(7_500, 48 * 2**20, id="169 MB, of which 48 MB are kept"),
        pytest.param(20_000, 192 * 2**20, id="1.2 GB, as it comes", marks=pytest.mark.soak),
    ],
)
def test_a_large_slide_takes_little_more_memory_than_its_cache(tmp_path, side, budget):
    small, large = write_slide(tmp_path / "small.h5", 700), write_slide(tmp_path / "large.h5", side)
    assert side * side * 3 > 2 * budget
    grown = peak_bytes(large, budget) - peak_bytes(small, budget)
    # In addition, four bands of rows for the digest and the thumbnail.
    assert grown < 1.2 * budget + 4 * 2**24, f"{grown / 2**20:.0f} MB for {budget / 2**20:.0f} MB"
