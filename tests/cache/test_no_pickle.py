"""Nothing in the package unpickles: untrusted stores and models cannot run code."""

from __future__ import annotations

import ast
import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest

import histoboost

SOURCES = sorted(Path(histoboost.__file__).parent.rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}


def calls(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def test_no_module_can_unpickle():
    assert len(SOURCES) > 20
    for source in SOURCES:
        check(source)


def check(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # An error class cannot unpickle.
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


class Runs:
    """Creates a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_a_zarr_array_of_pickled_objects_runs_nothing(tmp_path):
    import numcodecs
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    codec = numcodecs.Pickle()
    group.create_array("x", shape=(1,), chunks=(1,), dtype="<f8", filters=[codec], compressors=None)
    (tmp_path / "a.zarr/x/0").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises((RuntimeError, ValueError), match="[Pp]ickle"):
        zarr.open_group(tmp_path / "a.zarr", mode="r")["x"][:]
    assert not (tmp_path / "ran").exists()


def test_variable_length_objects_in_hdf5_are_text_and_never_unpickled(tmp_path):
    import h5py

    data = pickle.dumps(Runs(tmp_path / "ran"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [np.void(data)]
        texts = file.create_dataset("y", (1,), h5py.vlen_dtype(np.uint8))
        texts[0] = np.frombuffer(data, np.uint8)
        file.attrs["z"] = np.void(data)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert bytes(file["x"][0]) == data
        assert bytes(file["y"][0]) == data
        assert bytes(file.attrs["z"]) == data
    assert not (tmp_path / "ran").exists()


def test_no_dependency_may_be_older_than_its_known_holes():
    project = Path(__file__).parents[2] / "pyproject.toml"
    allowed = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    lines = [*allowed["dependencies"], *allowed["optional-dependencies"]["torch"]]
    floors = dict(line.split(">=") for line in lines)
    # Older ones run code in numcodecs' pickle codec or despite torch's weights_only.
    for name, floor in {"numcodecs": (0, 16, 6), "torch": (2, 6)}.items():
        assert tuple(map(int, floors[name].split("."))) >= floor
