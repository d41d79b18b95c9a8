"""Sphinx settings: `sphinx-build -W docs site` builds the documentation."""

from histoboost import __version__

project = "histoboost"
author = "the histoboost developers"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"histoboost {version}"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autosummary_generate = False
exclude_patterns = ["**.ipynb"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
