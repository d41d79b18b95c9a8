"""Write the self-contained pages of `explore` and `report`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from histoboost.io import write_text
from histoboost.outputs.html import VERSION, html_page

__all__ = ["SUFFIXES", "VERSION", "write_page"]

SUFFIXES = (".html", ".htm")


def write_page(path: str | Path, *, title: str, kind: str, data: dict[str, Any]) -> Path:
    """Write a self-contained page atomically.

    `kind`, ``"explore"`` or ``"report"``, selects the page in ``assets``; `data`, JSON without NaN,
    is what its script draws.
    """
    from plotly.offline import get_plotlyjs

    path = Path(path)
    scripts = [_asset(name) for name in ("common.js", "map.js", f"{kind}.js")]
    text = html_page(
        title, _asset(f"{kind}.html"), data, [get_plotlyjs(), "\n".join(scripts)], True
    )
    write_text(path, text)
    return path


def _asset(name: str) -> str:
    return files("histoboost.report").joinpath("assets", name).read_text(encoding="utf-8")
