"""Web pages on data and models; `from histoboost.report import report` is the function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histoboost.report.model_report import report as report

__all__ = ["report"]


def __getattr__(name: str) -> object:
    if name != "report":
        raise AttributeError(f"module 'histoboost.report' has no attribute {name!r}")
    from histoboost.report.model_report import report

    return report
