"""The names that `import histoboost` offers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import histoboost


def test_every_public_name_is_there_and_can_be_called() -> None:
    for name in histoboost.__all__:
        if name != "__version__":
            assert callable(getattr(histoboost, name)), name


def test_featurize_stays_a_function_after_its_room_was_imported(
    phantom_h5: Path, tmp_path: Path
) -> None:
    import_module("histoboost.slides.slide")
    store = tmp_path / "store.zarr"
    done = histoboost.featurize(phantom_h5, store, backbone="none")
    assert done.slides == histoboost.EmbeddingStore(store, mode="r").slides()


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(histoboost, "featurise")
