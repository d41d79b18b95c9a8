"""No import cycles, and no file over 12 kB."""

from __future__ import annotations

import graphlib
from pathlib import Path

import grimp

import histoboost

LARGEST = 12 * 1024


def test_there_are_no_import_cycles() -> None:
    graph = grimp.build_graph("histoboost", cache_dir=None)
    # The package itself imports its public names lazily.
    modules = graph.modules - {"histoboost"}
    imports = {module: graph.find_modules_directly_imported_by(module) for module in modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError


def test_no_file_is_over_12_kb() -> None:
    folder = Path(histoboost.__file__).parent
    sizes = {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*.py")}
    assert {str(path): size for path, size in sizes.items() if size > LARGEST} == {}
