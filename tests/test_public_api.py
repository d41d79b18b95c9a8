"""Public names of `histoboost`, and what they return."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import histoboost


def test_every_public_name_is_there_and_can_be_called() -> None:
    for name in histoboost.__all__:
        if name != "__version__":
            assert callable(getattr(histoboost, name)), name


def test_functions_named_like_their_package_are_exported_by_it() -> None:
    import histoboost.report.model_report
    from histoboost.featurize import featurize
    from histoboost.report import report

    assert featurize is histoboost.featurize.featurize
    assert report is histoboost.report.report


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(histoboost, "featurise")
    assert not hasattr(histoboost.report, "rapport")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> Path:
    """Path of a store of the phantom slides."""
    from histoboost.featurize import featurize

    path = tmp_path_factory.mktemp("api") / "store.zarr"
    done = featurize(phantom_h5, path, backbone="stain-texture", patch=16)
    assert done.slides == histoboost.EmbeddingStore(path, mode="r").slides()
    return path


def test_the_slides_of_a_path_are_inspected_and_aligned(phantom_h5: Path, tmp_path: Path) -> None:
    found = histoboost.inspect(phantom_h5)
    assert repr(found).startswith("<Inspection: 4 slides, ")
    table = found.to_frame()
    assert list(table["slide"]) == ["S_1", "S_2", "S_3", "S_4"]
    assert list(table["problems"]) == [0, 0, 0, 0]
    aligned = histoboost.align(phantom_h5)
    assert repr(aligned).startswith("<Alignments: 4 slides, ")
    assert list(aligned.to_frame()["slide"]) == list(table["slide"])
    aligned.save(tmp_path / "alignment.csv")
    assert (tmp_path / "alignment.csv").read_text().startswith("slide,dx,dy,scale")


def test_stage_2_takes_the_path_of_a_store_and_returns_frames(store: Path, tmp_path: Path) -> None:
    model = histoboost.CompositionRegressor(model="ridge").fit(store, jobs=1)
    predicted = model.predict(store, "S_4")
    assert "S_4" in repr(predicted)
    assert list(predicted.to_frame().columns[:4]) == ["slide", "spot", "x", "y"]
    scores = histoboost.cross_validate(store, model="ridge", jobs=1)
    assert len(scores.to_frame()) == 3
    compared = histoboost.ablate(store, ["stain-texture@16", "coords"], model="ridge", jobs=1)
    assert len(compared.to_frame()) == 6  # two feature sets, three folds
    model.save(tmp_path / "m")
    assert histoboost.describe_model(tmp_path / "m")["training_slides"] == ["S_1", "S_2", "S_3"]
    page = histoboost.explore(store, tmp_path / "explore.html")
    assert page == tmp_path / "explore.html"
    assert np.isfinite(predicted.to_frame().iloc[:, 2:].to_numpy(dtype=float)).all()
