"""Write the self-contained pages of `explore` and `report`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from histoboost.io import write_text
from histoboost.outputs.html import html_page

SUFFIXES = (".html", ".htm")


def write_page(path: str | Path, kind: str, data: dict[str, Any]) -> Path:
    """Write the page `kind`, ``"explore"`` or ``"report"``, of ``assets``; see `html_page`."""
    from plotly.offline import get_plotlyjs

    path = Path(path)
    own = "\n".join(_asset(name) for name in ("common.js", "map.js", f"{kind}.js"))
    write_text(path, html_page(_asset(f"{kind}.html"), data, [get_plotlyjs(), own], plotly=True))
    return path


def _asset(name: str) -> str:
    return files("histoboost.report").joinpath("assets", name).read_text(encoding="utf-8")
