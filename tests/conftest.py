"""Fixtures of all tests."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from click.testing import CliRunner, Result

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError
from histoboost.spots import SpotTable

ODD_WORDS = [b"", *b'NaN -1 1e999 null [] {} true " \xff A'.split(), b"9" * 30]


class Hangs(BaseException):
    """Reading took twenty seconds."""


def damaged(sound: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes, or a word of a text file, or truncate."""
    data = bytearray(sound)
    words = [word.span() for word in re.finditer(rb"[\w.+-]+", data)]
    if words and b"\0" not in data and rng.random() < 0.5:
        start, stop = words[rng.integers(len(words))]
        data[start:stop] = ODD_WORDS[rng.integers(len(ODD_WORDS))]
        return bytes(data)
    # Headers and metadata are at the ends.
    reach = len(data) if rng.random() < 0.4 else min(len(data), 1000)
    for at in rng.integers(0, reach, rng.integers(1, 8)):
        data[at if rng.random() < 0.7 else -1 - at] = rng.integers(0, 256)
    if rng.random() < 0.2:
        del data[rng.integers(0, len(data)) :]
    return bytes(data)


@pytest.fixture
def fuzz() -> Callable[[Path, int, Callable[[], object]], None]:
    """``fuzz(folder, count, use)``: with any file damaged, `use` works or fails in one line."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise Hangs

    def fuzz(folder: Path, count: int, use: Callable[[], object]) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        files = [path for path in files if path.stat().st_size]
        rng = np.random.default_rng(count)
        use()
        before = signal.signal(signal.SIGALRM, hangs)
        try:
            for _ in range(count):
                path = files[rng.integers(len(files))]
                sound = path.read_bytes()
                path.write_bytes(damaged(sound, rng))
                signal.alarm(20)
                with contextlib.suppress(HistoboostError):  # always one line
                    use()
                signal.alarm(0)
                path.write_bytes(sound)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    return fuzz


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real slides and weights beside the checkout; skips if absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "mob.h5").exists():
        pytest.skip(f"real slides and weights are absent: no {folder}/data/mob.h5")
    return folder


@pytest.fixture(scope="session")
def phantom_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled phantom slides S_1..S_3 and the unlabelled S_4, 14 cell types; read only."""
    from histoboost.phantom import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom") / "phantom.h5")


@pytest.fixture(scope="session")
def tiny_net() -> str:
    """Name of a backbone that trains in a second."""
    from torch import nn

    from histoboost.featurize.backbones.base import Architecture
    from histoboost.featurize.backbones.factory import REGISTRY

    name = "tiny-net-of-the-tests"
    if name not in REGISTRY:

        def tiny_net() -> Architecture:
            """Two convolutions, 16 numbers."""
            module = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            return Architecture(
                module=module, head="head", layer="pool", input_px=32, pretrained=module.state_dict
            )

        REGISTRY[name] = tiny_net

    return name


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Run histoboost with these arguments."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)), prog_name="histoboost")

    return run


@pytest.fixture(scope="session")
def succeeds(run) -> Callable[..., Result]:
    """Run histoboost with these arguments, which must succeed."""

    def succeeds(*arguments: object) -> Result:
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return result

    return succeeds


@pytest.fixture(scope="session")
def refusal(run) -> Callable[..., str]:
    """Run histoboost with bad input and return its one line of error, below any warnings."""

    def refusal(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        *warnings, line = result.stderr.splitlines()
        assert all(warning.startswith("Warning: ") for warning in warnings)
        return line

    return refusal


@pytest.fixture(scope="session")
def make_store() -> Callable[..., str]:
    """Make a store with an imported embedding, "mine", that is informative of the cell types."""

    def make_store(folder: Path, types: str, spots: Mapping[str, int], unlabelled: str = "") -> str:
        store, rng = EmbeddingStore(folder / "s.zarr"), np.random.default_rng(0)
        weights = rng.normal(size=(3, len(types)))
        (folder / "arrays").mkdir()
        for slide, n in spots.items():
            latent = rng.normal(size=(n, 3)).astype(np.float32)
            abundance = np.exp(latent @ weights + np.arange(len(types))).astype(np.float32)
            labels = () if slide == unlabelled else (abundance, tuple(types))
            xy = 20.0 * np.stack(np.divmod(np.arange(n), 6)[::-1], axis=1)
            store.write_spots(SpotTable(slide, xy, tuple(map(str, range(n))), *labels))
            np.save(folder / "arrays" / f"{slide}.npy", latent)
        store.import_arrays("mine", folder / "arrays")
        return str(folder / "s.zarr")

    return make_store
