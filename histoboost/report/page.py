"""Pages of `explore` and `report`: one HTML file that needs nothing else, now or later."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from histoboost.io import check_output, write_text
from histoboost.outputs.html import VERSION, html_page

__all__ = ["SUFFIXES", "VERSION", "write_page"]

SUFFIXES = (".html", ".htm")


def write_page(path: str | Path, *, title: str, kind: str, data: dict[str, Any]) -> Path:
    """Write a self-contained page, in one step: one that is open elsewhere is never half there.

    `kind`, ``"explore"`` or ``"report"``, is the page in ``assets`` to fill, and `data` what its
    script draws: JSON without NaN.
    """
    path = Path(path)
    check_output(path, SUFFIXES)
    from plotly.offline import get_plotlyjs

    scripts = [_asset(name) for name in ("common.js", "map.js", f"{kind}.js")]
    text = html_page(
        title, _asset(f"{kind}.html"), data, [get_plotlyjs(), "\n".join(scripts)], True
    )
    write_text(path, text)
    return path


def _asset(name: str) -> str:
    return files("histoboost.report").joinpath("assets", name).read_text(encoding="utf-8")
