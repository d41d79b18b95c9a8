"""Models edited by an attacker, with valid digests, are refused in one line or predict."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.regress.heads import MODELS
from histoboost.regress.model import CompositionRegressor

from .conftest import replace_file, rewrite

ODD = [None, True, 0, -1, 3, 1e308, 10**30, "", "x", "9" * 400, [], [[]], {}, [None], {"a": 1}]


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every container below `value` with each of its keys."""
    keys = value if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    below = [value[key] for key in keys if isinstance(value[key], dict | list)]
    return found + [place for each in below for place in places(each)]


def reshaped(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the array with another shape, dtype or odd values."""
    odd = np.where(rng.random(array.shape) < 0.3, rng.choice([0, 1e300, -1e-300, 2**53]), array)
    both = np.concatenate([array, array])
    smaller = [array[:-1], array[..., :-1], array[:0], array.ravel()[:1], np.float64(1)]
    return [*smaller, array.T, array[None], odd, -array, 0 * array, array.astype("f2"), both][
        rng.integers(12)
    ]


def change_document(document: dict[str, Any], rng: np.random.Generator) -> None:
    container, key = (found := places(document))[rng.integers(len(found))]
    if rng.random() < 0.3:
        del container[key]
    else:
        container[key] = ODD[rng.integers(len(ODD))]


def attack(bundle: Path, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        rewrite(bundle, lambda document: change_document(document, rng))
        return
    files = json.loads((bundle / "model.json").read_text())["files"]
    name = list(files)[rng.integers(len(files))]
    stem, _, suffix = name.rpartition(".")
    data = bytearray((bundle / f"{stem}-{files[name]}.{suffix}").read_bytes())
    if suffix == "npy" and rng.random() < 0.8:
        buffer = io.BytesIO()
        np.save(buffer, reshaped(np.load(io.BytesIO(data)), rng))
        data = bytearray(buffer.getvalue())
    else:
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
    replace_file(bundle, name, bytes(data))


def used(bundle: Path, store: EmbeddingStore) -> str:
    """Load a model and predict with it; the error, if any."""
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            model = CompositionRegressor.load(bundle)
            model.importances()
            (found,) = model.predict(store, "D", units="share", interval=0.8)
    except HistoboostError as error:
        return str(error)
    assert found.values.shape == (72, len(model.cell_types_))
    return "predicted"


@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_edited_is_refused_in_one_line_or_predicts(store, tmp_path, name, count):
    features = {"coords": "coords", "stack": "net@32+coords"}.get(
        name, "pca:3(net@32)+net@64:area10"
    )
    model = CompositionRegressor(features, name, smooth=0.2)
    if "n_estimators" in MODELS[name].options:
        model.options = {"n_estimators": 5, "num_leaves": 4}
    with warnings.catch_warnings(action="ignore"):
        model.fit(store, jobs=1, intervals=True).save(tmp_path / "sound")
    assert used(tmp_path / "sound", store) == "predicted"
    rng = np.random.default_rng(count)
    for _ in range(count):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        shutil.copytree(tmp_path / "sound", tmp_path / "m")
        attack(tmp_path / "m", rng)
        assert "\n" not in used(tmp_path / "m", store)
