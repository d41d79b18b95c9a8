"""All units run once each, and few at a time are at the scheduler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from histoboost import cluster as module
from histoboost.cluster import run_units
from histoboost.errors import BadInput, HistoboostError


def double(number: int) -> int:
    if number < 0:
        raise BadInput(f"{number} is below 0")
    return 2 * number


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers in this process."""
    options = {"processes": False, "dashboard_address": None}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **options) as local,
        Client(local) as made,
    ):
        yield made


def run(client: Client, numbers: list[int]) -> Iterator[tuple[int, int]]:
    return run_units(
        client,
        double,
        [(number,) for number in numbers],
        names=[f"number {number}" for number in numbers],
        description="doubling",
        unit="numbers",
    )


def test_every_unit_runs_once_however_few_are_submitted_at_a_time(client, monkeypatch):
    monkeypatch.setattr(module, "IN_FLIGHT", 3)
    waiting = []
    done = {}
    for place, result in run(client, list(range(50))):
        assert place not in done
        done[place] = result
        waiting.append(len(client.futures))
    assert done == {number: 2 * number for number in range(50)}
    assert max(waiting) <= 4 * 2 + 1, "more units were submitted than keep the workers busy"


def test_without_units_nothing_runs(client):
    assert list(run(client, [])) == []


def test_a_unit_that_fails_is_named_and_ends_the_run(client):
    with pytest.raises(HistoboostError, match="^number -1: -1 is below 0$"):
        list(run(client, [1, 2, -1, *range(3, 500)]))
    assert not [key for key, future in client.futures.items() if future.status == "pending"]
