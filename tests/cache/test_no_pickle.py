"""Nothing in the package unpickles: a store or model from elsewhere can run no code here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import histoboost

SOURCES = sorted(Path(histoboost.__file__).parent.rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}


def calls(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_module_can_unpickle(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # The name of an error that torch raises is no way to unpickle.
            assert {n for n in names if n.split(".")[0] in UNPICKLERS} <= {"pickle.UnpicklingError"}
    for name, arguments in calls(tree):
        assert name.split(".")[0] not in UNPICKLERS, f"{source}: {name}"
        assert name.split(".")[-1] not in ("read_pickle", "Unpickler", "unpickle"), source
        assert name not in ("joblib.load", "torch.jit.load", "torch.hub.load"), source
        assert name not in ("eval", "exec"), source
        if name == "torch.load":
            assert arguments.get("weights_only") == "True", f"{source}: {name}"
        if name in ("np.load", "numpy.load"):
            assert arguments.get("allow_pickle", "False") == "False", f"{source}: {name}"


def test_the_test_looks_at_the_whole_package():
    assert len(SOURCES) > 20
