"""The house is in order: no circle of imports."""

from __future__ import annotations

import graphlib

import grimp


def test_no_modules_import_each_other_in_any_number_of_steps() -> None:
    graph = grimp.build_graph("histoboost", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # names the circle where there is one
