"""Fixtures of all tests."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from histoboost.errors import HistoboostError

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
