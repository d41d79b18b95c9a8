"""The house is in order: no circle of imports, and no file too long to be read in one go."""

from __future__ import annotations

import graphlib
from pathlib import Path

import grimp

import histoboost

LARGEST = 12 * 1024


def test_no_modules_import_each_other_in_any_number_of_steps() -> None:
    graph = grimp.build_graph("histoboost", cache_dir=None)
    # The package itself only says where each public name lies, and imports none of them.
    modules = graph.modules - {"histoboost"}
    imports = {module: graph.find_modules_directly_imported_by(module) for module in modules}
    graphlib.TopologicalSorter(imports).prepare()  # names the circle where there is one


def test_no_file_is_over_12_kb() -> None:
    folder = Path(histoboost.__file__).parent
    sizes = {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*.py")}
    assert {str(path): size for path, size in sizes.items() if size > LARGEST} == {}
