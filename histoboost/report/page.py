"""The shell of a page: one HTML file that needs nothing else, now or later.

A content security policy inside the file forbids every request, so that "works offline" and
"sends nothing anywhere" are enforced by the browser and not only promised.
"""

from __future__ import annotations

import html
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from histoboost.io import check_output, write_text

#: `unsafe-eval` is for plotly's WebGL traces, which compile their own shader calls.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)

SUFFIXES = (".html", ".htm")
VERSION = version("histoboost")

_SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="histoboost {version}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript><p class="note">This page needs JavaScript to draw its plots.</p></noscript>
{body}
<script type="application/json" id="data">{data}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def write_page(path: str | Path, *, title: str, kind: str, data: dict[str, Any]) -> Path:
    """Write a self-contained page.

    Parameters
    ----------
    path : str or Path
        The HTML file; replaced in one step, so a page that is open elsewhere is never half there.
    title : str
        Shown by the browser.
    kind : str
        ``"explore"`` or ``"report"``: which of the pages in ``assets`` to fill.
    data : dict
        What the page's script draws; must be JSON without NaN.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    HistoboostError
        If `path` has another suffix than `SUFFIXES`, is a directory, or its own directory is
        missing or not writable.
    """
    path = Path(path)
    check_output(path, SUFFIXES)
    from plotly.offline import get_plotlyjs

    text = _SHELL.format(
        policy=_POLICY,
        version=VERSION,
        title=html.escape(title),
        style=_asset("page.css"),
        body=_asset(f"{kind}.html"),
        # "</script>" or "<!--" inside the data would end or swallow the element that carries it.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        plotly=get_plotlyjs().replace("</script", "<\\/script"),
        script="\n".join(_asset(name) for name in ("common.js", "map.js", f"{kind}.js")),
    )
    write_text(path, text)
    return path


def _asset(name: str) -> str:
    return files("histoboost.report").joinpath("assets", name).read_text(encoding="utf-8")
