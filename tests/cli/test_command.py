"""The command line as a whole: quick, quiet at import, one line for bad input."""

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
from click.shell_completion import BashComplete
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.cli.command import Group
from histoboost.cli.json_output import json_option, write_json
from histoboost.doctor import CORE, OPTIONAL
from histoboost.errors import BadInput, HistoboostError
from histoboost.regress.setup import Setup
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


def test_import_opens_no_socket_and_loads_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", NO_NETWORK], check=True)


def test_module_and_console_script_are_the_same_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "histoboost", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "version" in done.stdout


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=IDS)
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], command: click.Command
) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "histoboost " + " ".join(path) in (command.help or ""), "no example in the help text"


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=IDS)
def test_every_option_says_what_it_does(path: tuple[str, ...], command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help text"


def test_an_unknown_command_is_refused_with_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["featurise"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: no such command featurise; did you mean featurize? (")


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


@toy.command(interrupted="nothing is left")
def hang() -> None:
    """Wait for a worker, as a pool does, although Ctrl-C has come."""
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


def test_bad_input_is_one_line_on_stderr_with_exit_code_2() -> None:
    result = CliRunner().invoke(toy, ["fail-badly"])
    assert result.exit_code == 2
    assert result.stderr == "Error: slides.h5: no group 'spots'; is it the challenge's layout?\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to itself")
def test_ctrl_c_ends_the_workers_and_a_second_one_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGINT)
    ended: list[int] = []
    monkeypatch.setattr("histoboost.cli.command.os._exit", ended.append)
    try:
        result = CliRunner().invoke(toy, ["hang"])
        assert result.exit_code == 130
        assert result.stderr.splitlines()[1:] == ["Interrupted: nothing is left"]
        assert multiprocessing.active_children() == []
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [130]
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_of_the_file_system_names_the_file() -> None:
    result = CliRunner().invoke(toy, ["fail-on-disk"])
    assert result.exit_code == 2
    assert result.stderr == "Error: /store: Permission denied\n"


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
    ],
)
def test_a_slip_on_the_command_line_is_one_line_that_says_where_help_is(
    given: str, line: str
) -> None:
    result = CliRunner().invoke(toy, given.split(), prog_name="toy")
    assert result.exit_code == 2
    assert result.stderr == f"Error: {line} (toy {given.split()[0]} --help)\n"
    assert result.stdout == ""


def test_an_option_before_the_command_is_refused_in_one_line_too() -> None:
    result = CliRunner().invoke(toy, ["--name", "x", "show"], prog_name="toy")
    assert result.exit_code == 2
    assert result.stderr == "Error: no such option --name (toy --help)\n"


def test_a_group_without_a_command_shows_its_help() -> None:
    result = CliRunner().invoke(main, ["cache"])
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_command_line_beats_config_file_beats_built_in(tmp_path: Path) -> None:
    config = tmp_path / "histoboost.toml"
    config.write_text("name = 'bare'\n[show]\nbatch-size = 7\n")
    run = CliRunner().invoke
    assert run(toy, ["show"]).output == "1 none\n"
    assert run(toy, ["show", "--config", str(config)]).output == "7 bare\n"
    assert run(toy, ["show", "--name", "own", "--config", str(config)]).output == "7 own\n"


def test_an_option_has_the_same_name_in_the_config_file(tmp_path: Path) -> None:
    config, found = tmp_path / "histoboost.toml", tmp_path / "found.json"
    config.write_text(f"[produce]\njson = '{found}'\n")
    assert CliRunner().invoke(toy, ["produce", "--config", str(config)]).exit_code == 0
    assert json.loads(found.read_text()) == {"answer": 42}


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("set = 'n_estimators=20'", 'set must be a list; write set = ["n_estimators=20"]'),
        ("set = { max_bin = 9 }", 'set must be a list; write set = ["max_bin=9"]'),
        (
            "[cache]\njson = 'x'",
            "group of commands; write [export], [gc], [import], [list], [rel",
        ),
    ],
)
def test_a_config_file_of_the_wrong_shape_is_told_what_to_write(
    tmp_path: Path, text: str, remedy: str
) -> None:
    config = tmp_path / "histoboost.toml"
    config.write_text(f"[evaluate]\n{text}\n")
    result = CliRunner().invoke(main, ["evaluate", "no.zarr", "--config", str(config)])
    assert result.exit_code == 2
    assert remedy in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_a_config_file_is_told_to_write_is_taken(tmp_path: Path) -> None:
    config, store = tmp_path / "histoboost.toml", tmp_path / "s.zarr"
    EmbeddingStore(store)
    config.write_text('[evaluate]\nset = ["n_estimators=20"]\n[list]\njson = "-"\n')
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
def test_a_config_file_of_odd_content_is_named_in_one_line(
    tmp_path: Path, text: bytes, message: str
) -> None:
    config = tmp_path / "histoboost.toml"
    config.write_bytes(text)
    result = CliRunner().invoke(toy, ["show", "--config", str(config)])
    assert result.exit_code == 2, result.output
    assert f"{config}: " in result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_json_into_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoboostError, match="is a directory"):
        write_json(str(tmp_path), {})


def test_json_to_stdout_is_all_there_is_on_stdout() -> None:
    result = CliRunner().invoke(toy, ["produce", "--json", "-"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"answer": 42}
    assert result.stderr == "The answer is 42.\nA table\n"


def test_a_json_file_that_cannot_be_written_shows_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "found.json"):
        result = CliRunner().invoke(toy, ["produce", "--json", str(path)])
        assert result.exit_code == 2
        assert str(path) in result.stderr
        assert result.stdout == ""


def test_without_json_what_is_for_people_goes_to_stdout() -> None:
    result = CliRunner().invoke(toy, ["produce"])
    assert (result.stdout, result.stderr) == ("The answer is 42.\nA table\n", "")


READS_DATA = ["inspect", "align", "explore", "featurize", "finetune", "predict"]


@pytest.mark.parametrize("name", READS_DATA)
def test_every_command_that_reads_slides_takes_their_format(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert "--format" in result.output


@pytest.mark.parametrize("name", ["inspect", "align", "explore"])
def test_a_format_that_does_not_exist_is_named_with_those_that_do(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "slides.xyz").touch()
    result = CliRunner().invoke(main, [name, str(tmp_path / "slides.xyz"), "--format", "hdf6"])
    assert result.exit_code == 2
    assert "'hdf6'" in result.stderr
    assert "hdf5" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_HISTOBOOST_COMPLETE" in result.output


def test_completion_completes_a_command() -> None:
    completer = BashComplete(main, {}, "histoboost", "_HISTOBOOST_COMPLETE")
    assert [item.value for item in completer.get_completions([], "doc")] == ["doctor"]


def test_doctor_knows_every_dependency_and_every_extra() -> None:
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
    command: str, phantom_h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("histoboost.errors.find_spec", lambda package: None)
    monkeypatch.chdir(tmp_path)
    Path("ensemble").mkdir()
    Path("ensemble/finetune.json").write_text("{}")
    result = CliRunner().invoke(main, command.replace("PHANTOM", str(phantom_h5)).split())
    assert result.exit_code == 2
    assert result.stderr.endswith("needs torch; pip install 'histoboost[torch]'\n")
    assert {file.name for file in tmp_path.iterdir()} == {"ensemble"}


def test_doctor_names_versions_cores_and_what_is_missing() -> None:
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    for part in ("python", "torch", "cores this process may use", "cache of downloaded weights"):
        assert part in result.output


STORE = "histoboost.cache.store.EmbeddingStore."
MODEL = "histoboost.regress.model.CompositionRegressor."


def interrupted(monkeypatch: pytest.MonkeyPatch, where: str, command: list[str]) -> str:
    """What a command says on stderr if Ctrl-C comes when it gets to `where`."""

    def interrupt(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, interrupt)
        patched.setenv("XDG_CACHE_HOME", "cache")
        result = CliRunner().invoke(main, command)
    ours = [module for name, module in sys.modules.items() if name.startswith("histoboost")]
    bound = [module for module in ours if any(v is interrupt for v in vars(module).values())]
    assert not bound, "imported meanwhile, so that the next test is interrupted too"
    assert result.exit_code == 130
    assert "Aborted" not in result.output
    line = result.stderr.strip()
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ("train s.zarr model", MODEL + "fit"),
        ("predict s.zarr model -o p.csv", MODEL + "load"),
        ("evaluate s.zarr", STORE + "slides"),
        ("ablate s.zarr --features a --features b --fresh", STORE + "slides"),
        ("explore s.zarr", STORE + "slides"),
        ("report s.zarr model", MODEL + "load"),
        ("cache export s.zarr out.h5ad", STORE + "slides"),
    ],
)
def test_ctrl_c_says_of_a_command_that_keeps_nothing_that_nothing_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    EmbeddingStore("s.zarr").write_spots(SpotTable("S_1", np.zeros((1, 2)), ("a",)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    line = interrupted(monkeypatch, where, options.split())
    assert line == "Interrupted: nothing was written; run the same command again"
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert after == before


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ("featurize PHANTOM new.zarr --backbone stain-texture --patch 9", STORE + "write_spots"),
        ("ablate s.zarr --features a --features b", STORE + "slides"),
        ("evaluate s.zarr --scheduler tcp://here:8786", "histoboost.cluster.connect"),
        ("cache import s.zarr name folder", STORE + "import_arrays"),
        ("finetune PHANTOM out", "histoboost.finetune.run.train_models"),
        ("demo", "histoboost.demo.run"),
    ],
)
def test_ctrl_c_says_of_a_command_that_keeps_what_it_did_how_to_go_on(
    tmp_path: Path, phantom_h5: Path, monkeypatch: pytest.MonkeyPatch, options: str, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = np.eye(2, dtype=np.float32), ("t", "u")
    EmbeddingStore("s.zarr").write_spots(SpotTable("S_1", np.eye(2), ("a", "b"), *labels))
    command = [str(phantom_h5) if word == "PHANTOM" else word for word in options.split()]
    line = interrupted(monkeypatch, where, command)
    assert line.endswith("finished work is kept; run the same command again to resume")


def test_ctrl_c_leaves_no_table_of_alignments(
    tmp_path: Path, phantom_h5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "alignment.csv"
    command = ["align", str(phantom_h5), "-o", str(table)]
    line = interrupted(monkeypatch, "histoboost.slides.align.estimate.align", command)
    assert line == "Interrupted: the table was not written; run the same command again"
    assert not table.exists()


def test_a_number_in_a_config_file_stands_for_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[evaluate]\nslides = 1\n")
    command = ["evaluate", str(tmp_path / "no.zarr"), "--config", str(tmp_path / "c.toml")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "no such store" in result.stderr


@pytest.mark.parametrize("name", ["evaluate", "ablate", "train"])
def test_the_defaults_that_help_shows_are_those_that_are_used(name: str) -> None:
    used = Setup()
    shown = {
        option.name: option.default
        for option in main.commands[name].params
        if option.name in asdict(used) and option.name not in ("features", "options")
    }
    assert shown == {key: getattr(used, key) for key in shown}
    assert len(shown) == 8
