"""Data of the exploration page."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cli import main
from histoboost.report.explore import explore
from histoboost.report.projection import project, sample


def test_every_slide_and_type_is_on_the_page(tmp_path, phantom_h5, page_data):
    explore(phantom_h5, tmp_path / "e.html")
    data = page_data(tmp_path / "e.html")
    assert [slide["name"] for slide in data["slides"]] == ["S_1", "S_2", "S_3", "S_4"]
    assert [slide["labelled"] for slide in data["slides"]] == [True, True, True, False]
    assert all(slide["image"].startswith("data:image/jpeg") for slide in data["slides"])
    types = len(data["types"])
    assert types == 14
    for measure in ("median", "sparsity", "zeros", "moran", "rank"):
        assert np.shape(data["statistics"][measure]) == (3, types)
    assert sorted(data["correlation"]["order"]) == list(range(types))
    assert data["problems"] == []


def test_unusable_spots_are_left_out_and_named_on_top(tmp_path, phantom_h5, page_data):
    with h5py.File(tmp_path / "bad.h5", "w") as bad, h5py.File(phantom_h5) as good:
        good.copy("images", bad)
        good.copy("spots", bad)
        table = bad["spots/Train/S_1"]
        rows = table[()]
        rows["C2"][3] = np.inf
        table[...] = rows
    explore(tmp_path / "bad.h5", tmp_path / "e.html")
    data = page_data(tmp_path / "e.html")
    assert data["slides"][0]["n"] == len(rows) - 1
    assert "3" not in data["slides"][0]["ids"]
    assert [(p["slide"], p["kind"]) for p in data["problems"]] == [("S_1", "abundance")]


def test_a_dataset_without_labels_can_be_explored(tmp_path, phantom_h5, page_data):
    with h5py.File(tmp_path / "test.h5", "w") as bare, h5py.File(phantom_h5) as good:
        for kind in ("images", "spots"):
            good.copy(f"{kind}/Test", bare.require_group(kind))
    explore(tmp_path / "test.h5", tmp_path / "e.html")
    data = page_data(tmp_path / "e.html")
    assert data["statistics"] is None
    assert data["types"] == []


def test_the_command_names_the_page_and_refuses_bad_paths(tmp_path, phantom_h5):
    def explore_to(data: Path, page: Path):
        return CliRunner().invoke(main, ["explore", str(data), "-o", str(page)])

    assert "e.html" in explore_to(phantom_h5, tmp_path / "e.html").output
    page = tmp_path / "x.txt"
    for data, output, message in (
        (tmp_path / "no.h5", tmp_path / "f.html", "no such file; check the path"),
        (phantom_h5, page, f"{page}: unknown suffix '.txt'; give .html, .htm"),
    ):
        result = explore_to(data, output)
        assert result.exit_code == 2
        assert result.stderr.endswith(f"{message}\n")
        assert not output.exists()


def test_a_sample_is_proportional_to_the_slides():
    rows = sample([2000, 1000, 3], limit=300)
    assert [len(r) for r in rows] == [199, 99, 1]
    assert all(len(set(r)) == len(r) for r in rows)
    assert [len(r) for r in sample([20, 10], limit=300)] == [20, 10]


def test_pca_finds_the_plane_of_the_spots():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 6))
    embedding = np.column_stack([plane, np.ones(80)]).astype(np.float16)
    views, explained = project(embedding)
    assert explained.sum() == pytest.approx(1, abs=1e-3)
    assert views["PCA"].shape == views["t-SNE"].shape == (80, 2)


def test_few_spots_are_projected_without_tsne():
    views, _ = project(np.random.default_rng(0).normal(size=(5, 4)))
    assert list(views) == ["PCA"]
