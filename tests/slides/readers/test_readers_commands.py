"""Data of other formats on the command line."""

from __future__ import annotations

import pytest

from histoboost.cache.store import EmbeddingStore


def test_a_space_ranger_folder_is_embedded_in_micrometres(tmp_path, write_outs, source, succeeds):
    pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")
    sample = write_outs()
    store = tmp_path / "store.zarr"
    args = ["featurize", sample, store, "--backbone", "stain-texture", "--patch", "55um,110um"]
    succeeds(*args, "--stain", "reinhard", "--format", "spaceranger")
    recipes = EmbeddingStore(store, mode="r").embeddings("P_1")
    assert sorted(recipes) == ["stain-texture@110um", "stain-texture@55um"]
    fields = recipes["stain-texture@55um"].fields
    assert fields["slide_scale"]["patch_px"] == round(55 / source.um_per_px)
    assert "reinhard" in fields["stain"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--format", "spacranger"], "format 'spacranger': unknown; known are spaceranger"),
        (["--format", "manifest"], "its format is images, not manifest; omit --format"),
        (["--patch", "0.5um"], "less than one of its pixels"),
        (["--backbone", "timm:resnet_18"], "did you mean timm:resnet18"),
        (["--backbone", "no_such_module:net"], "No module named 'no_such_module'"),
    ],
)
def test_a_mistake_is_one_line_and_no_store(tmp_path, write_outs, run, more, message):
    if "timm:resnet_18" in more:
        pytest.importorskip("timm", reason="pip install 'histoboost[timm]'")
    path = write_outs()
    if "manifest" in more:
        path = path / "outs" / "spatial" / "tissue_hires_image.png"
    args = ["--backbone", "stain-texture", "--patch", "20", *more]
    result = run("featurize", path, tmp_path / "store.zarr", *args)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "store.zarr").exists()
