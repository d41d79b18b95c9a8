"""Run all commands and snippets in the README and the manual, page by page.

The ``console`` blocks (lines that begin with ``$``) and ``python`` blocks of a page are run from
top to bottom in a new directory with ``slides.h5``: on the page `index` each in its own process, on
other pages in this process, which imports everything only once. Blocks that cannot run here
(clusters, installations, real slides, downloads) are ``sh``, ``text`` or ``{code-block} python``;
only their syntax and the names of their histoboost commands and options are checked.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import h5py
import pytest
from click.testing import CliRunner
from numpy.lib import recfunctions

from histoboost.cli import main
from histoboost.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```(console|python|sh|{code-block} python)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def commands(text: str) -> list[str]:
    """List the commands after ``$``, joined with their continuation lines."""
    lines, taken = [], False
    for line in text.splitlines():
        if line.startswith("$ "):
            lines.append(line[2:])
        elif taken:
            lines[-1] = lines[-1].removesuffix("\\") + line
        taken = line.endswith("\\")
    return lines


def check_options(text: str) -> None:
    """Check that each ``histoboost COMMAND --option ...`` line of a shell script parses."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("histoboost "):
            command, arguments = main, shlex.split(line, comments=True)[1:]
            while isinstance(command, click.Group):
                name, *arguments = arguments
                command = command.commands[name]
            command.make_parser(click.Context(command)).parse_args(arguments)


@pytest.fixture(scope="session")
def slides_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "slides.h5"
    write_phantom(path, seed=1, spots=16)
    with h5py.File(path, "r+") as file:  # keep 4 of 14 cell types, to save time
        for where in [f"spots/Train/S_{n}" for n in (1, 2, 3)]:
            table = file[where][()]
            del file[where]
            file[where] = recfunctions.repack_fields(table[["x", "y", "C1", "C2", "C3", "C4"]])
    return path


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, for `--weights pretrained` to find instead of a download."""
    import torch
    from torchvision.models import ResNet18_Weights, resnet18

    folder = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file = folder / ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(resnet18().state_dict(), file)
    return folder.parents[1]


@pytest.fixture
def desk(tmp_path: Path, slides_h5: Path) -> Path:
    """A directory with `slides.h5` and `histoboost` for the PATH."""
    (tmp_path / "slides.h5").symlink_to(slides_h5)
    shim = tmp_path / ".bin" / "histoboost"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m histoboost "$@"\n')
    shim.chmod(0o755)
    return tmp_path


def run_in_a_process(arguments: list[str], desk: Path) -> None:
    path = os.pathsep.join(
        [str(desk / ".bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    done = subprocess.run(
        arguments, cwd=desk, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments[-1]}\n{done.stdout}\n{done.stderr}"


def run_here(command: str) -> None:
    result = CliRunner().invoke(main, shlex.split(command)[1:], prog_name="histoboost")
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_command_on_the_page_works(
    page: Path, desk: Path, torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    apart = page.stem == "index"
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "sh":
            run_in_a_process(["bash", "-n", "-c", text], desk)
            check_options(text)
        elif kind == "{code-block} python":
            compile(text, page.name, "exec")
        elif kind == "python" and apart:
            run_in_a_process([sys.executable, "-c", text], desk)
        elif kind == "python":
            exec(compile(text, page.name, "exec"), {"__name__": "__main__"})  # noqa: S102
        else:
            for command in commands(text):
                if command.startswith("histoboost ") and not apart and "|" not in command:
                    run_here(command)
                else:
                    run_in_a_process(["bash", "-c", command], desk)


def test_every_fenced_block_has_a_known_language() -> None:
    known = {"console", "python", "sh", "text", "toml", "json", "csv", "bibtex"}
    for page in PAGES:
        for language in re.findall(r"^```([^\n`]+)$", page.read_text("utf-8"), re.MULTILINE):
            assert language in known or language.startswith("{"), f"{page.name}: {language}"


def test_every_path_in_contributing_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`((?:histoboost|docs|tests|benchmarks|\.ci)/[^`<]*)`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
