"""Progress of computed, kept and slow units."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from histoboost import progress as module
from histoboost.progress import Pace, progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that only the test moves."""

    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_kept_units_do_not_count_for_the_rate(clock):
    pace = Pace(1000)
    clock.now += 1
    pace.advance(600, kept=True)
    assert pace.rate is None
    assert pace.left_s is None
    clock.now += 10
    pace.advance(100)
    assert pace.rate == pytest.approx(10)
    assert pace.left_s == pytest.approx(30)
    clock.now += 500
    pace.advance(200, kept=True)
    assert pace.rate == pytest.approx(10)
    assert pace.left_s == pytest.approx(10)


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.02, "50.0 s each"), (0.4, "2.5 s each"), (2.5, "2.5 slides/s"), (4321, "4,321 slides/s")],
)
def test_a_rate_is_never_shown_as_zero(clock, rate: float, words: str):
    pace = Pace(10)
    clock.now += 1 / rate
    pace.advance(1)
    assert pace.rate_in_words("slides") == words


def test_plain_lines_show_rate_and_remaining_time(clock, capsys: pytest.CaptureFixture[str]):
    with progress("embedding", 100, "patches") as advance:
        advance(50, kept=True)
        clock.now += 20
        advance(10)
        clock.now += 80
        advance(40)
    assert capsys.readouterr().err.splitlines() == [
        "embedding: 60/100 patches, 2.0 s each, 80 s left",
        "embedding: 100/100 patches, 2.0 s each, 0 s left",
    ]


def test_a_run_that_computes_nothing_shows_no_rate(clock, capsys: pytest.CaptureFixture[str]):
    with progress("embedding", 100, "patches") as advance:
        clock.now += 1
        advance(100, kept=True)
    assert capsys.readouterr().err == "embedding: 100/100 patches\n"


def test_the_progress_bar_shows_the_same(clock, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    with progress("embedding", 300, "patches") as advance:
        advance(100, kept=True)
        clock.now += 50
        advance(50)
    shown = capsys.readouterr().err
    for part in ("150/300", "1.0 patches/s", "0:02:30"):
        assert part in shown
