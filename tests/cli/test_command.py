"""The command line as a whole: imports little, reports bad input in one line, stops on Ctrl-C."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.cli.command import Group
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import UNITS
from histoboost.doctor import CORE, OPTIONAL
from histoboost.errors import BadInput
from histoboost.regress.setup import Setup
from histoboost.regress.units import UNITS as PREDICTION_UNITS
from histoboost.spots import SpotTable

NO_NETWORK = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket = refuse
import histoboost, histoboost.cli
heavy = {"torch", "lightgbm", "zarr", "anndata", "pandas", "plotly"} & set(sys.modules)
assert not heavy, heavy
"""


def every_command(
    command: click.Command, path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        inner = [every_command(c, (*path, n)) for n, c in sorted(command.commands.items())]
        return [pair for pairs in inner for pair in pairs]
    return [(path, command)]


COMMANDS = every_command(main)
IDS = [" ".join(path) for path, _ in COMMANDS]


def test_import_opens_no_socket_and_loads_nothing_heavy():
    subprocess.run([sys.executable, "-c", NO_NETWORK], check=True)


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=IDS)
def test_every_command_has_an_example_and_every_option_a_help_text(path, command):
    assert CliRunner().invoke(main, [*path, "--help"]).exit_code == 0
    assert "histoboost " + " ".join(path) in (command.help or ""), "no example in the help text"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help text"


@pytest.mark.parametrize(
    "command",
    [f"{name} --config a --config b" for name in IDS]
    + ["train s.zarr new --slides S_1 --slides S_2", "predict s.zarr m -o a.csv --output b.csv"],
)
def test_an_option_that_takes_one_value_is_not_repeated_silently(command):
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 2
    remedy = "only the last one is used" if "--config" in command else "give it once"
    assert f"is given 2 times; {remedy}" in result.stderr


@click.group(cls=Group)
def toy() -> None:
    pass


@toy.command()
@click.option("--batch-size", default=1, help="A number.")
@click.option("--name", default="none", help="A name.")
@click.option("--loud", is_flag=True, help="Louder.")
def show(batch_size: int, name: str, loud: bool) -> None:
    click.echo(f"{batch_size} {name}")


@toy.command()
@click.argument("store")
@click.option("--fruit", type=click.Choice(["apple", "pear"]), required=True, help="A fruit.")
def pick(store: str, fruit: str) -> None:
    click.echo(f"{store} {fruit}")


@toy.command()
@json_option()
def produce(json_path: str | None) -> None:
    from rich.console import Console

    click.echo("The answer is 42.")
    write_json(json_path, {"answer": 42})
    Console().print("A table")


@toy.command(interrupted="nothing was left")
def hang() -> None:
    """Wait for a worker, as a pool does, after Ctrl-C."""
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    worker.start()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
    finally:
        worker.join()


@toy.command()
def fail_badly() -> None:
    raise BadInput("slides.h5: no group 'spots';\nis it the challenge's layout?")


@toy.command()
def fail_on_disk() -> None:
    raise PermissionError(13, "Permission denied", "/store")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("fail-badly", "slides.h5: no group 'spots'; is it the challenge's layout?"),
        ("fail-on-disk", "/store: Permission denied"),
    ],
)
def test_bad_input_is_one_line_on_stderr_with_exit_code_2(command, line):
    result = CliRunner().invoke(toy, [command])
    assert result.exit_code == 2
    assert result.stderr == f"Error: {line}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to itself")
def test_ctrl_c_ends_the_workers_and_a_second_one_the_process(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    ended: list[int] = []
    monkeypatch.setattr("histoboost.cli.command.os._exit", ended.append)
    try:
        result = CliRunner().invoke(toy, ["hang"])
        assert result.exit_code == 130
        assert result.stderr.splitlines()[1:] == ["Interrupted: nothing was left"]
        assert multiprocessing.active_children() == []
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [130]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("show --batch-sise 3", "no such option --batch-sise; did you mean --batch-size?"),
        ("show --hepl", "no such option --hepl; did you mean --help?"),
        ("show --batch-size many", "--batch-size: 'many' is not a valid integer"),
        ("show --name", "option '--name' requires an argument"),
        ("show spare", "got unexpected extra argument (spare)"),
        ("pick", "missing argument STORE; expected toy pick STORE"),
        ("pick here", "missing option --fruit; choose one of apple, pear"),
        (
            "pick here --fruit aple",
            "--fruit: 'aple' is not one of 'apple', 'pear'; did you mean apple?",
        ),
        ("pick here --store x", "no such option --store"),
        ("show --keep", "no such option --keep"),
        ("showw", "no such command showw; did you mean show?"),
        ("--name x show", "no such option --name"),
    ],
)
def test_a_usage_error_is_one_line_that_names_the_help(given, line):
    result = CliRunner().invoke(toy, given.split(), prog_name="toy")
    assert result.exit_code == 2
    name = given.split()[0]
    command = f"toy {name}" if name in toy.commands else "toy"
    assert result.stderr == f"Error: {line} ({command} --help)\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("predict --store x", "no such option --store"),
        ("featurize --source x", "no such option --source"),
        ("evaluate s --keep", "no such option --keep"),
        (
            "evaluate s --set n_estimator=3",
            "--set: unknown parameter n_estimator; did you mean n_estimators?",
        ),
    ],
)
def test_only_similar_options_are_suggested_as_typed(command, line):
    stderr = CliRunner().invoke(main, command.split(), prog_name="histoboost").stderr
    assert stderr == f"Error: {line} (histoboost {command.split()[0]} --help)\n"


def test_a_config_file_may_set_arguments(tmp_path):
    config = tmp_path / "histoboost.toml"
    config.write_text("[show]\nmodel = 'nowhere'\n")
    result = CliRunner().invoke(main, ["show", "--config", str(config)])
    assert result.stderr.startswith("Error: nowhere: ")
    config.write_text("[train]\njson = 'x'\n")
    line = CliRunner().invoke(main, ["train", "s", "m", "--config", str(config)]).stderr
    listed = line.partition("has no option 'json'; it has ")[2].strip().split(", ")
    assert {"features", "store"} <= set(listed)
    config.write_text("[evaluat]\njson = 'x'\n")
    line = CliRunner().invoke(main, ["train", "s", "m", "--config", str(config)]).stderr
    assert line.endswith("[evaluat] is not a command; did you mean evaluate?\n")


def test_a_group_without_a_command_shows_its_help():
    result = CliRunner().invoke(main, ["cache"])
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_command_line_beats_config_file_beats_built_in(tmp_path):
    config = tmp_path / "histoboost.toml"
    config.write_text("name = 'bare'\n[show]\nbatch-size = 7\n")
    run = CliRunner().invoke
    assert run(toy, ["show"]).output == "1 none\n"
    assert run(toy, ["show", "--config", str(config)]).output == "7 bare\n"
    assert run(toy, ["show", "--name", "own", "--config", str(config)]).output == "7 own\n"
    found = tmp_path / "found.json"  # from --json, although the parameter is json_path
    config.write_text(f"[produce]\njson = '{found}'\n")
    assert run(toy, ["produce", "--config", str(config)]).exit_code == 0
    assert json.loads(found.read_text()) == {"answer": 42}


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("set = 'n_estimators=20'", 'set must be a list; write set = ["n_estimators=20"]'),
        ("set = { max_bin = 9 }", 'set must be a list; write set = ["max_bin=9"]'),
        ("[cache]\njson = 'x'", "group of commands; write [export], [gc], [import], [list], [rel"),
    ],
)
def test_a_config_file_with_the_wrong_type_is_one_line_with_the_right_one(tmp_path, text, remedy):
    config = tmp_path / "histoboost.toml"
    config.write_text(f"[evaluate]\n{text}\n")
    result = CliRunner().invoke(main, ["evaluate", "no.zarr", "--config", str(config)])
    assert result.exit_code == 2
    assert remedy in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_suggested_content_of_a_config_file_is_accepted(tmp_path):
    config, store = tmp_path / "histoboost.toml", tmp_path / "s.zarr"
    EmbeddingStore(store)
    config.write_text('[evaluate]\nset = ["n_estimators=20"]\nslides = 1\n[list]\njson = "-"\n')
    known = ["evaluate", str(store), "--model", "mean", "--config", str(config)]
    refused = CliRunner().invoke(main, known).stderr
    assert "option n_estimators: model mean does not take it" in refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name: x\n", "not valid TOML"),
        (b"\xff\xfen\x00", "not valid TOML"),
        (b"name = '\xe9'\n", "not valid TOML"),
        (b"name = " + b"[" * 9000, "not valid TOML"),
        (b"batch-size = " + b"9" * 9000, "not valid TOML"),
        (b"name = true\n", "name must be text or a number"),
        (b"name = 2026-01-01\n", "name must be text or a number"),
        (b"[show]\nname = { a = 1 }\n", "name must be text or a number"),
        (b"[show.name]\na = 1\n", "name must be text or a number"),
        (b"[[show]]\nname = 'x'\n", "no command has an option 'show'"),
        (b"show = 'name'\n", "no command has an option 'show'"),
        (b"batch-size = nan\n", "batch-size must be text or a number"),
        (b"batch-size = [inf]\n", "batch-size must be text or a number"),
        (b"loud = 'maybe'\n", "loud must be true or false"),
        (b"loud = 1\n", "loud must be true or false"),
        (b"[shown]\nname = 'x'\n", "[shown] is not a command; did you mean show?"),
        (b"batchsize = 7\n", "an option 'batchsize'; did you mean batch-size?"),
        (b"[show]\nbatchsize = 7\n", "[show] has no option 'batchsize'; did you mean batch-size?"),
    ],
)
def test_a_config_file_of_odd_content_is_named_in_one_line(tmp_path, text, message):
    config = tmp_path / "histoboost.toml"
    config.write_bytes(text)
    result = CliRunner().invoke(toy, ["show", "--config", str(config)])
    assert result.exit_code == 2, result.output
    assert f"{config}: " in result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_with_json_to_stdout_everything_else_goes_to_stderr():
    result = CliRunner().invoke(toy, ["produce", "--json", "-"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"answer": 42}
    assert result.stderr == "The answer is 42.\nA table\n"
    result = CliRunner().invoke(toy, ["produce"])
    assert (result.stdout, result.stderr) == ("The answer is 42.\nA table\n", "")


def test_an_unwritable_json_file_is_refused_before_the_work(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "found.json"):
        result = CliRunner().invoke(toy, ["produce", "--json", str(path)])
        assert result.exit_code == 2
        assert str(path) in result.stderr
        assert result.stdout == ""


@pytest.mark.parametrize(
    "command", ["inspect", "align", "explore", "featurize new --backbone none", "finetune new"]
)
def test_an_unknown_format_is_named_with_the_known_ones(command, tmp_path):
    (tmp_path / "slides.xyz").touch()
    name, *rest = command.split()
    arguments = [name, str(tmp_path / "slides.xyz"), *rest, "--format", "hdf6"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "'hdf6'" in result.stderr
    assert "hdf5" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_HISTOBOOST_COMPLETE" in result.output


def test_doctor_knows_every_dependency_and_every_extra():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    assert list(CORE) == [re.split("[<>=]", line)[0] for line in project["dependencies"]]
    extras = project["optional-dependencies"]
    assert {extra for extra, _ in OPTIONAL.values()} == extras.keys() - {"all", "test", "docs"}
    for package, (extra, _) in OPTIONAL.items():
        assert any(line.startswith(package) for line in extras[extra])


@pytest.mark.parametrize(
    "command",
    [
        "featurize PHANTOM new.zarr --backbone stain-texture --patch 9",
        "finetune PHANTOM out",
        "demo --out made",
        "predict PHANTOM ensemble -o table.csv",
    ],
)
def test_a_command_that_needs_torch_says_how_to_install_it(
    command, phantom_h5, tmp_path, monkeypatch
):
    monkeypatch.setattr("histoboost.errors.find_spec", lambda package: None)
    monkeypatch.chdir(tmp_path)
    Path("ensemble").mkdir()
    Path("ensemble/finetune.json").write_text("{}")
    result = CliRunner().invoke(main, command.replace("PHANTOM", str(phantom_h5)).split())
    assert result.exit_code == 2
    assert result.stderr.endswith("needs torch; pip install 'histoboost[torch]'\n")
    assert {file.name for file in tmp_path.iterdir()} == {"ensemble"}


def test_doctor_shows_versions_cores_and_weights():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    for part in ("python", "torch", "cores this process may use", "cache of downloaded weights"):
        assert part in result.output


STORE = "histoboost.cache.store.EmbeddingStore."
MODEL = "histoboost.regress.model.CompositionRegressor."


NOTHING = "nothing was written; run the same command again"
RESUME = "finished work is kept; run the same command again to resume"


@pytest.mark.parametrize(
    ("options", "where", "line"),
    [
        ("train s.zarr model", MODEL + "fit", NOTHING),
        ("predict s.zarr model -o p.csv", MODEL + "load", NOTHING),
        ("evaluate s.zarr", STORE + "slides", NOTHING),
        ("ablate s.zarr --features a --features b --fresh", STORE + "slides", NOTHING),
        ("explore s.zarr", STORE + "slides", NOTHING),
        ("report s.zarr model", MODEL + "load", NOTHING),
        ("cache export s.zarr out.h5ad", STORE + "slides", NOTHING),
        (
            "align PHANTOM",
            "histoboost.slides.align.run.align",
            "the table was not written; run the same command again",
        ),
        ("featurize PHANTOM s.zarr --backbone none", STORE + "write_spots", RESUME),
        ("ablate s.zarr --features a --features b", STORE + "slides", RESUME),
        ("evaluate s.zarr --scheduler tcp://here:8786", "histoboost.cluster.connect", RESUME),
        ("cache import s.zarr name folder", STORE + "import_arrays", RESUME),
        ("finetune PHANTOM out", "histoboost.finetune.run.train_models", RESUME),
        ("demo", "histoboost.demo.run", RESUME),
    ],
)
def test_ctrl_c_tells_what_is_left_and_how_to_go_on(
    tmp_path, phantom_h5, monkeypatch, options, where, line
):
    def interrupt(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    labels = np.eye(2, dtype=np.float32), ("t", "u")
    EmbeddingStore("s.zarr").write_spots(SpotTable("S_1", np.eye(2), ("a", "b"), *labels))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with monkeypatch.context() as patched:
        patched.setattr(where, interrupt)
        result = CliRunner().invoke(main, options.replace("PHANTOM", str(phantom_h5)).split())
    ours = [module for name, module in sys.modules.items() if name.startswith("histoboost")]
    bound = [module for module in ours if any(v is interrupt for v in vars(module).values())]
    assert not bound, "imported under the patch, which would interrupt the next test"
    assert result.exit_code == 130
    assert result.stderr.strip() == f"Interrupted: {line}"
    if line != RESUME:
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", ["evaluate", "ablate", "train"])
def test_the_defaults_in_the_help_are_those_of_the_model(name):
    used = Setup()
    shown = {
        option.name: option.default
        for option in main.commands[name].params
        if option.name in asdict(used) and option.name not in ("features", "options")
    }
    assert shown == {key: getattr(used, key) for key in shown}
    assert len(shown) == 8


def test_the_command_line_offers_all_units_of_predictions():
    assert set(UNITS) == set(PREDICTION_UNITS)
