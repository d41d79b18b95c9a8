"""Assemble a self-contained HTML page.

Its content security policy makes the browser block every request, so the page works offline and
sends nothing.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

VERSION = version("histoboost")

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'{eval}; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
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
{scripts}
</body>
</html>
"""


def html_page(body: str, data: dict[str, Any], scripts: Sequence[str], plotly: bool = False) -> str:
    """Assemble a self-contained page.

    `body` and `scripts` are trusted and not escaped. `data`, JSON without NaN, is what the scripts
    draw, and has the ``"title"``. `plotly` allows ``eval``, which the WebGL traces of plotly need.
    """
    data = {**data, "made": f"histoboost {VERSION}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    return _SHELL.format(
        policy=_POLICY.format(eval=" 'unsafe-eval'" if plotly else ""),
        version=VERSION,
        title=html.escape(data["title"]),
        style=asset("page.css"),
        body=body,
        # "</script>" or "<!--" in the data would end the element or swallow what follows.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        scripts="\n".join(
            "<script>" + script.replace("</script", "<\\/script") + "</script>"
            for script in scripts
        ),
    )


def asset(name: str) -> str:
    """Read a file of the folder ``assets``."""
    return files("histoboost.outputs").joinpath("assets", name).read_text(encoding="utf-8")
