"""The names that `import histoboost` offers."""

from __future__ import annotations

from pathlib import Path

import histoboost


def test_every_public_name_is_there_and_can_be_called() -> None:
    for name in histoboost.__all__:
        if name != "__version__":
            assert callable(getattr(histoboost, name)), name


def test_featurize_is_a_function_of_its_room(phantom_h5: Path, tmp_path: Path) -> None:
    from histoboost.featurize import featurize

    store = tmp_path / "store.zarr"
    done = featurize(phantom_h5, store, backbone="none")
    assert done.slides == histoboost.EmbeddingStore(store, mode="r").slides()
    assert featurize is histoboost.featurize.featurize


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(histoboost, "featurise")
