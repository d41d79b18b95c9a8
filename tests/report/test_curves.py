"""Where learning curves are evaluated."""

from __future__ import annotations

from histoboost.regress.setup import Setup
from histoboost.report.curves import round_counts, slide_counts


def test_rounds_double_up_to_all_of_them():
    assert round_counts([320, 400]) == [12, 25, 50, 100, 200, 400]
    assert round_counts([3]) == [1, 2, 3]


def test_a_third_and_two_thirds_of_the_slides_are_tried():
    assert slide_counts(6, Setup()) == [2, 4]
    assert slide_counts(2, Setup()) == [1]
    assert slide_counts(1, Setup()) == []


def test_early_stopping_always_keeps_a_slide_to_stop_by():
    assert slide_counts(2, Setup(options={"early_stopping": 20})) == []
    assert slide_counts(4, Setup(options={"early_stopping": 20})) == [2, 3]
