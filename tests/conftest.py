"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real slides and weights beside the checkout; skips where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "mob.h5").exists():
        pytest.skip(f"real slides and weights are absent: no {folder}/data/mob.h5")
    return folder


@pytest.fixture(scope="session")
def phantom_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled phantom slides S_1..S_3 and the unlabelled S_4, 14 cell types; read only."""
    from histoboost.phantom import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom") / "phantom.h5")
