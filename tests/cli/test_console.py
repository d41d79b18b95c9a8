"""What commands print: names from files steer no terminal, and no terminal is too narrow."""

from __future__ import annotations

import io
import sys

import pytest

from histoboost.cli.command import _make_streams_safe
from histoboost.cli.console import echo, echo_fact, plain, print_table

HOSTILE = [
    "[/x]",
    "[bold red]T[/]",
    "[link=file:///etc/passwd]T[/link]",
    ":skull: T",
    "\x1b[2J\x1b]0;owned\x07T",
    "T\rError: none",
    "a\u202eb",
    "T\ncell",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_printed_as_it_is_written_without_control_characters(name, capsys):
    echo(f"type {name}")
    print_table(["type", "score"], [[name, "1"], None, ["mean", "2"]])
    shown = capsys.readouterr().out
    assert plain(name) in shown.splitlines()[0]
    assert shown.count(plain(name)) == 2
    assert not any(control in shown for control in "\x1b\r\x07\u202e")


@pytest.mark.parametrize("columns", [1, 10, 40, 200])
def test_a_terminal_of_any_width_shows_every_cell(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_table(["slide", "abundance"], [["S_1", "0.1 to 9"]], wrap={"abundance": 9})
    assert "S_1" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [30, 45, 200])
def test_facts_are_folded_between_words_on_a_terminal(columns, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    value = ", ".join(f"type-{k}" for k in range(12))
    echo_fact("cell types", value)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cell types          type-0,")
    assert " ".join(line[20:] for line in lines) == value
    assert max(map(len, lines)) <= max(columns, 40)


def test_a_reader_that_has_gone_does_not_stop_the_work(monkeypatch, tmp_path):
    with (tmp_path / "pipe").open("w") as pipe:
        monkeypatch.setattr(sys, "stdout", _Gone(pipe))
        echo("one")
        print_table(["a"], [["b"]])


class _Gone(io.StringIO):
    def __init__(self, file):
        super().__init__()
        self.fileno = file.fileno

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_streams_that_are_closed_or_of_a_small_character_set_take_every_name(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(sys, "stderr", None)
    _make_streams_safe()
    echo("Zelltyp \N{GREEK SMALL LETTER BETA} \udcff")
    echo("lost", err=True)
    narrow.flush()
    assert narrow.buffer.getvalue() == b"Zelltyp \\u03b2 \\udcff\n"
