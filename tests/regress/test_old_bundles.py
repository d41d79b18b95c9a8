"""Models written by histoboost 0.1.0 are read and predict the same."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.regress.bundle import read_bundle
from histoboost.regress.model import CompositionRegressor


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A store of one slide, three bundles, and predictions of two of them at commit 6c83f06."""
    folder = tmp_path_factory.mktemp("0.1.0")
    with zipfile.ZipFile(Path(__file__).parent / "data" / "bundle-0.1.0.zip") as packed:
        packed.extractall(folder)
    return folder


@pytest.mark.parametrize("name", ["stack", "lightgbm"])
def test_a_model_of_0_1_0_predicts_to_the_last_digit(archive, name):
    expected = json.loads((archive / "expected.json").read_text())
    model = CompositionRegressor.load(archive / name)
    store = EmbeddingStore(archive / "store.zarr", mode="r")
    # Other kinds of processors round float32 products differently.
    rows, root = (np.load(archive / "stack" / f"head-{n}.npy") for n in ("landmarks", "root"))
    here = hashlib.sha256(np.exp(rows @ rows.T @ root).tobytes()).hexdigest()
    exact = 1e-12 if here == expected["arithmetic"] else 1e-5
    for units in ("none", "rank", "abundance", "softmax"):
        [found] = model.predict(store, units=units, interval=0.8)
        assert found.novelty is None  # 0.1.0 did not store training spots
        for one, other in zip(
            (found.values, found.low, found.high), expected[f"{name}/{units}"], strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=0, atol=exact)
    assert model.importances() == pytest.approx(expected[f"{name}/importances"], abs=exact)


def test_a_model_of_0_1_0_is_written_again_as_it_was(archive, tmp_path):
    CompositionRegressor.load(archive / "stack").save(tmp_path / "m")
    old, new = read_bundle(archive / "stack"), read_bundle(tmp_path / "m")
    assert old.texts == new.texts
    assert old.arrays.keys() == new.arrays.keys()
    for name, array in old.arrays.items():
        np.testing.assert_array_equal(array, new.arrays[name])
    ours = {"histoboost_model", "digest"}
    assert {k: v for k, v in new.fields.items() if k not in ours} == {
        k: v for k, v in old.fields.items() if k not in ours
    }


def test_a_blend_of_0_1_0_is_refused_with_the_way_to_another(archive):
    with pytest.raises(HistoboostError, match="blend.*train it again") as caught:
        CompositionRegressor.load(archive / "blend")
    assert "\n" not in str(caught.value)
