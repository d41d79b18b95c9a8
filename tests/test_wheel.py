"""The wheel contains the whole package and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel of this checkout, built offline with the installed hatchling."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *command, str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "histoboost").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    metadata = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert held - metadata == package


def test_the_wheel_installs_the_command_the_licence_and_the_type_marker(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name.split("/", 1)[1]: name for name in archive.namelist()}
        commands = archive.read(held["entry_points.txt"]).decode()
    assert "histoboost = histoboost.cli:main" in commands.splitlines()
    assert {
        "licenses/LICENSE",
        "py.typed",
        "report/assets/report.html",
        "outputs/assets/map.js",
    } <= held.keys()
