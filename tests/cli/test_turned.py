"""`featurize --turned` and `evaluate --turned`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from histoboost.cli import main
from histoboost.phantom import write_phantom

EMBED = ["--backbone", "stain-texture", "--patch", "32"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turned")
    write_phantom(folder / "p.h5", spots=40)
    for name, more in (("up", []), ("half", ["--turned", "180"])):
        done = CliRunner().invoke(
            main, ["featurize", str(folder / "p.h5"), str(folder / name), *EMBED, *more]
        )
        assert done.exit_code == 0, done.output
    return folder


def test_what_does_not_know_up_from_down_loses_nothing_when_turned(stores: Path) -> None:
    out = stores / "s.json"
    arguments = ["evaluate", str(stores / "up"), "--model", "kernel", "--json", str(out)]
    done = CliRunner().invoke(main, [*arguments, "--turned", str(stores / "half")])
    assert done.exit_code == 0, done.output
    assert "held-out slides turned as in" in done.output
    found = json.loads(out.read_text())
    [turned] = found["turned"].values()
    assert turned["spot_spearman"] == pytest.approx(found["mean"]["spot_spearman"], abs=0.01)


def test_slides_are_not_turned_and_aligned(stores: Path) -> None:
    arguments = ["featurize", str(stores / "p.h5"), str(stores / "x"), *EMBED]
    done = CliRunner().invoke(main, [*arguments, "--turned", "90", "--alignment", "auto"])
    assert done.exit_code == 2
    assert "--turned: alignments are of upright slides" in done.output
