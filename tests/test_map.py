"""Maps of slides without spots equal predictions at the model's pitch and resolution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoboost import CompositionRegressor, map_slide
from histoboost.errors import BadInput, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.featurize.run import Run
from histoboost.phantom import phantom_slide
from histoboost.slides.images import open_image
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.tiff import TiffImage
from histoboost.slides.resample import Resampled
from histoboost.slides.slide import Dataset, Slide


@pytest.fixture(scope="module")
def section() -> Slide:
    """A slide unknown to the model, with spots."""
    slide = phantom_slide("section", seed=9, spots=60)
    return replace(slide, abundance=None, cell_types=())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, section: Slide) -> Path:
    """``model``, trained on two phantoms, and ``section.ome.tif``, a pyramid without spots."""
    import tifffile

    folder = tmp_path_factory.mktemp("map")
    known = [phantom_slide(f"S_{k}", seed=k, spots=50) for k in range(2)]
    data = Dataset(folder, [*known, section])
    featurize(data, folder / "store.zarr", backbone="stain-texture", patch=[32, "200um"])
    model = CompositionRegressor(model="ridge", features="*+*:ring1").fit(folder / "store.zarr")
    model.save(folder / "model")
    pixels = section.image.read_rows(0, section.image.shape[0])
    scale = {"PhysicalSizeX": 4.0, "PhysicalSizeY": 4.0}
    with tifffile.TiffWriter(folder / "section.ome.tif", ome=True) as tiff:
        tiff.write(pixels, subifds=1, tile=(64, 64), photometric="rgb", metadata=scale)
        tiff.write(pixels[::2, ::2], subfiletype=1, tile=(64, 64), photometric="rgb")
    return folder


def _values(slide: Path | Slide, folder: Path, **options: object) -> pd.DataFrame:
    [found] = map_slide(slide, folder / "model", **options)  # type: ignore[arg-type]
    return found.to_frame().set_index("spot")


def test_at_the_same_spots_a_map_equals_the_prediction(folder: Path, section: Slide) -> None:
    slide = replace(section, image=open_image(folder / "section.ome.tif"))
    [mapped] = map_slide(slide, folder / "model")
    model = CompositionRegressor.load(folder / "model")
    [predicted] = model.predict(folder / "store.zarr", "section", units="share")
    assert np.array_equal(mapped.values, predicted.values)
    assert mapped.spots.spot_ids == predicted.spots.spot_ids


def test_a_map_has_the_pitch_of_the_model(folder: Path) -> None:
    [found] = map_slide(folder / "section.ome.tif", folder / "model")
    assert found.spots.lattice is not None
    assert found.spots.lattice["pitch_px"] == pytest.approx(25, rel=0.01)
    assert found.spots.um_per_px == 4.0
    assert np.allclose(found.values.sum(axis=1), 1)


def test_a_finer_map_agrees_with_the_coarse_one_at_its_spots(folder: Path) -> None:
    coarse = _values(folder / "section.ome.tif", folder)
    fine = _values(folder / "section.ome.tif", folder, finer=2)
    distance = np.hypot(
        *(coarse[axis].to_numpy()[:, None] - fine[axis].to_numpy() for axis in "xy")
    )
    same = fine.index[distance.argmin(axis=1)]
    assert distance.min(axis=1).max() < 1e-9
    assert len(fine) > 3.5 * len(coarse)
    assert fine.index.is_monotonic_increasing
    types = list(fine.columns[3:17])
    assert np.array_equal(fine.loc[same, types], coarse[types])


def test_a_finer_scan_of_the_same_tissue_gives_the_same_map(folder: Path, section: Slide) -> None:
    height, width = section.image.shape
    pixels = Image.fromarray(section.image.read_rows(0, height))
    larger = np.asarray(pixels.resize((4 * width, 4 * height), Image.Resampling.LANCZOS))
    finer = replace(section, image=ArrayImage(larger), xy=4 * section.xy, um_per_px=1.0)
    same = _values(section, folder)
    [mapped] = map_slide(finer, folder / "model")
    assert mapped.warnings == ()
    scanned = mapped.to_frame().set_index("spot")
    assert np.allclose(scanned[["x", "y"]], 4 * same[["x", "y"]])
    for name in same.columns[3:17]:
        assert np.corrcoef(same[name], scanned[name])[0, 1] > 0.99, name


def test_a_resampled_image_does_not_depend_on_the_region_read(section: Slide) -> None:
    image = Resampled(section.image, 1.7)
    height, width = image.shape
    whole = image.read_region(0, 0, 0, width, height)
    assert np.array_equal(image.read_region(0, 31, 45, 60, 50), whole[45:95, 31:91])
    assert np.array_equal(image.read_rows(7, 9), whole[7:9])


def test_a_second_run_with_a_store_reads_no_pixel(folder, tmp_path, monkeypatch):
    first = _values(folder / "section.ome.tif", folder, store=tmp_path / "store.zarr", finer=2)

    monkeypatch.setattr(Run, "make_engine", None)
    monkeypatch.setattr(TiffImage, "read_region", None)
    again = _values(folder / "section.ome.tif", folder, store=tmp_path / "store.zarr", finer=2)
    pd.testing.assert_frame_equal(first, again)


def test_a_changed_image_gets_a_new_lattice(folder: Path, section: Slide, tmp_path: Path) -> None:
    path, store = tmp_path / "s.png", tmp_path / "store.zarr"
    pixels = section.image.read_rows(0, section.image.shape[0]).copy()
    Image.fromarray(pixels).save(path)
    first = _values(path, folder, store=store, um_per_px=4.0)
    pixels[: len(pixels) // 2] = pixels[:2, :2].mean(axis=(0, 1))
    Image.fromarray(pixels).save(path)
    with pytest.raises(BadInput, match="stored with a different spot table"):
        _values(path, folder, store=store, um_per_px=4.0)
    assert len(_values(path, folder, um_per_px=4.0)) < len(first)


def test_warnings_about_all_copies_of_a_slide_are_issued_once(folder: Path, section: Slide) -> None:
    px = CompositionRegressor(model="ridge", features="stain-texture@32").fit(folder / "store.zarr")
    with pytest.warns(HistoboostWarning) as caught:
        [found] = map_slide(replace(section, um_per_px=None), px, finer=2)
    lines = [str(one.message) for one in caught]
    assert len(lines) == len(set(lines)) == len(found.warnings)
    assert not any("of4" in line for line in lines)


def test_an_unknown_scale_falls_back_to_pixels_with_a_warning(folder: Path, section: Slide) -> None:
    model = CompositionRegressor.load(folder / "model")
    px = CompositionRegressor(model="ridge", features="stain-texture@32").fit(folder / "store.zarr")
    unknown = replace(section, um_per_px=None)
    with pytest.warns(HistoboostWarning, match="micrometres per pixel of it are unknown"):
        [found] = map_slide(unknown, px)
    assert any("--um-per-px" in line for line in found.warnings)
    with pytest.raises(BadInput, match="the model needs them .*; give --um-per-px"):
        map_slide(unknown, model)
    [known], [given] = map_slide(section, model), map_slide(unknown, model, um_per_px=4.0)
    assert np.array_equal(known.values, given.values)


def test_a_coarser_slide_and_one_without_tissue_are_refused(folder: Path, section: Slide) -> None:
    glass = ArrayImage(np.full((300, 300, 3), 240, np.uint8))
    blank = Slide("blank", glass, np.empty((0, 2)), (), um_per_px=4.0, plain=True)
    with pytest.raises(BadInput, match="coarser than the 4 of the model's training slides"):
        map_slide(replace(section, um_per_px=8.0), folder / "model")
    with pytest.raises(BadInput, match="slide blank: no tissue found"):
        map_slide(blank, folder / "model")


def test_another_pitch_is_refused_with_rings_at_once_and_warned_of_with_areas(
    folder: Path, section: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas = CompositionRegressor(model="ridge", features="*+*:area1").fit(folder / "store.zarr")
    plain = replace(section, xy=np.zeros((0, 2)), spot_ids=(), plain=True)
    with pytest.warns(HistoboostWarning, match="smallest areas are other distances") as caught:
        [found] = map_slide(plain, areas, pitch="200um")
    assert len(caught) == len(found.warnings) == 1
    monkeypatch.setattr("histoboost.featurize.recalled_lattice.lay_or_recall", None)
    with pytest.raises(BadInput, match="2 times the spot pitch .*; omit --pitch$"):
        map_slide(plain, folder / "model", pitch="200um")


def test_weights_other_than_those_of_training_are_refused(folder, section, tmp_path, tiny_net):
    import torch

    from histoboost.featurize.backbones.factory import load_backbone

    state = load_backbone(tiny_net, "random", seed=1).module.state_dict()
    torch.save(state, tmp_path / "trained.pth")
    torch.save({name: 2 * value for name, value in state.items()}, tmp_path / "other.pth")
    data = Dataset(
        tmp_path, [phantom_slide("S_1", spots=20), phantom_slide("S_2", seed=1, spots=20)]
    )
    trained = str(tmp_path / "trained.pth")
    featurize(data, tmp_path / "s.zarr", backbone=tiny_net, patch=32, weights=trained)
    model = CompositionRegressor(model="ridge").fit(tmp_path / "s.zarr")
    with pytest.raises(BadInput, match="other.pth: are not the weights"):
        map_slide(section, model, weights=str(tmp_path / "other.pth"))
    with pytest.raises(BadInput, match="pretrained: .*give those of training with --weights PATH"):
        map_slide(section, model)
    with pytest.warns(HistoboostWarning, match="other.pth: is not used; no backbone of"):
        [found] = map_slide(section, model, weights=[str(tmp_path / "other.pth"), trained])
    assert len(found.values) == len(section.xy)


@pytest.mark.parametrize("features", ["*", "coords"])
def test_unused_weights_are_warned_of(folder, section, tmp_path, features):
    (tmp_path / "needless.pth").write_bytes(b"")
    model = CompositionRegressor(features=features, model="ridge").fit(folder / "store.zarr")
    with pytest.warns(HistoboostWarning, match="needless.pth: is not used"):
        map_slide(section, model, weights=str(tmp_path / "needless.pth"))


def test_a_map_loads_a_backbone_and_makes_its_engine_once(folder, monkeypatch):
    from histoboost.featurize.backbones import factory

    calls: list[str] = []
    for owner, name in ((factory, "load_backbone"), (Run, "make_engine")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *a, real=real, name=name: calls.append(name) or real(*a)
        )
    map_slide(phantom_slide("small", spots=12), folder / "model")
    assert sorted(calls) == ["load_backbone", "make_engine"]


def test_the_command_writes_every_output_and_a_summary(succeeds, folder: Path, tmp_path: Path):
    names = ("map.geojson", "map.ome.tif", "map.csv", "map.h5ad")
    outputs = [part for name in names for part in ("-o", tmp_path / name)]
    region = {"type": "Polygon", "coordinates": [[[0, 0], [900, 0], [900, 900], [0, 900], [0, 0]]]}
    (tmp_path / "drawn.geojson").write_text(json.dumps(region))
    options = ["--regions", tmp_path / "drawn.geojson", "--json", tmp_path / "map.json"]
    done = succeeds("map", folder / "section.ome.tif", folder / "model", *outputs, *options)
    assert "tissue on" in done.output
    [slide] = json.loads((tmp_path / "map.json").read_text())["slides"]
    assert slide["slide"] == "section"
    assert slide["spots"] == len(pd.read_csv(tmp_path / "map.csv"))
    assert [Path(path).name for path in slide["outputs"]] == [*names, "map.regions.csv"]
    assert all(Path(path).exists() for path in slide["outputs"])


@pytest.mark.parametrize("finer", [1, 2])
def test_mapping_a_training_slide_warns_once(folder, section, tmp_path, finer):
    known = replace(section, name="S_1", xy=np.zeros((0, 2)), spot_ids=(), plain=True)
    with pytest.warns(HistoboostWarning, match="S_1: the model was trained on") as caught:
        [found] = map_slide(known, folder / "model", finer=finer)
    assert sum("was trained on" in str(one.message) for one in caught) == 1
    assert sum("was trained on" in line for line in found.warnings) == 1


def test_maps_of_several_slides_are_written_to_a_folder(succeeds, folder: Path, tmp_path: Path):
    slides = [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"]
    for slide in slides:
        slide.write_bytes((folder / "section.ome.tif").read_bytes())
    succeeds("map", *slides, folder / "model", "-o", f"{tmp_path}/maps/")
    maps = (tmp_path / "maps").glob("*.geojson")
    assert sorted(path.name for path in maps) == ["a.geojson", "b.geojson"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("FOLDER/typo.svs -o m.csv", "typo.svs: no such file"),
        ("SLIDE -o m.xyz", "unknown suffix '.xyz'"),
        ("SLIDE -o m.csv --regions drawn.geojson", "drawn.geojson: No such file"),
        ("SLIDE -o m.csv --pitch 2", "rings would span other distances; omit --pitch; for a finer"),
        ("SLIDE -o m.csv --tissue glass", "glass is neither auto, all nor"),
        ("SLIDE -o {Slide}.csv", "unknown field {Slide}; write {slide}"),
        ("SLIDE -o m.csv --weights no.pth", "no.pth"),
    ],
)
def test_a_wrong_argument_is_one_line(refusal, folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = arguments.replace("SLIDE", "FOLDER/section.ome.tif")
    arguments = arguments.replace(" -o", " FOLDER/model -o").replace("FOLDER", str(folder))
    assert message in refusal("map", *arguments.split())


@pytest.mark.parametrize(
    "arguments",
    [
        "slides MODEL -o slides/",
        "slides MODEL -o slides/{slide}.png",
        "slides/a.png MODEL -o slides/a.png",
        "slides/a.png MODEL -o m.csv --json slides/a.png",
        *[
            f"slides/a.png MODEL {option} drawn/{{slide}}.geojson -o {output}"
            for option in ("--regions", "--tissue")
            for output in ("drawn/a.geojson", "drawn/{slide}.geojson", "drawn/")
        ],
    ],
)
def test_a_map_never_replaces_an_input(refusal, folder, section, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    inputs = [Path("slides/a.png"), Path("drawn/a.geojson")]
    for path in inputs:
        path.parent.mkdir()
    Image.fromarray(section.image.read_rows(0, section.image.shape[0])).save(inputs[0])
    ring = [[0, 0], [999, 0], [999, 999], [0, 0]]
    inputs[1].write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    before = [path.read_bytes() for path in inputs]
    model = str(folder / "model")
    line = refusal("map", *arguments.replace("MODEL", model).split(), "--um-per-px", 4)
    assert [path.read_bytes() for path in inputs] == before
    assert "is an input of this command; choose another output" in line
