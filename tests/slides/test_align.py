"""Alignment recovers known shifts and scales, and knows when it cannot."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.phantom import phantom_slide
from histoboost.slides.align.apply import aligned, alignment_choices, alignment_of, move_spots
from histoboost.slides.align.estimate import align, misalignment
from histoboost.slides.align.registration import Transform
from histoboost.slides.align.table import COLUMNS, read_table, write_table
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.inspect import inspect
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset
from histoboost.spots import spot_pitch


def resolve_alignment(dataset, alignment):
    choices = alignment_choices(dataset, alignment)
    return {slide.name: alignment_of(slide, choices[slide.name]) for slide in dataset.slides}


def displace(slide, dx, dy, scale):
    """Displace the spots so that the transform (dx, dy, scale) restores them."""
    centre = np.array(slide.image.shape[::-1]) / 2
    return replace(slide, xy=(slide.xy - centre - [dx, dy]) / scale + centre)


def error_in_pitches(moved, alignment, true_xy):
    placed = move_spots(moved, alignment).xy
    return np.hypot(*(placed - true_xy).T).mean() / spot_pitch(true_xy)


def random_case(number):
    rng = np.random.default_rng([7, number])
    slide = phantom_slide(seed=7000 + number, spots=int(rng.choice([80, 150, 400])))
    return slide, displace(slide, *rng.uniform(-100, 100, 2), rng.uniform(0.96, 1.04))


@pytest.mark.parametrize(
    ("cases", "confident", "wrong", "limit"),
    [(6, 4, 0, 0.75), pytest.param(100, 80, 1, 1, marks=pytest.mark.soak)],
)
def test_known_shifts_and_scales_are_found(cases, confident, wrong, limit):
    errors, sure = [], []
    for slide, moved in map(random_case, range(cases)):
        found = align(moved)
        assert found.confident or not found.changes
        errors.append(error_in_pitches(moved, replace(found, **vars(found.estimate)), slide.xy))
        sure.append(found.confident)
    assert np.median(errors) < 0.25
    assert np.sum(sure & (np.array(errors) > limit)) <= wrong
    assert sum(sure) >= confident


@pytest.mark.parametrize("seed", range(3))
def test_an_aligned_slide_is_not_moved(seed):
    slide = phantom_slide(seed=8000 + seed)
    found = align(slide)
    assert error_in_pitches(slide, found, slide.xy) < 0.25
    assert misalignment(slide, found) is None


def test_a_table_moves_spots_about_the_centre_of_the_image():
    slide = phantom_slide(spots=20)
    height, width = slide.image.shape
    moved = Transform(dx=3, dy=-4, scale=1.5).apply(slide.xy, (height, width))
    assert np.allclose(moved[:, 0], 1.5 * (slide.xy[:, 0] - width / 2) + width / 2 + 3)
    assert np.allclose(moved[:, 1], 1.5 * (slide.xy[:, 1] - height / 2) + height / 2 - 4)


def nothing_but_tissue(_):
    slide = phantom_slide(seed=1, spots=400)
    height, width = slide.image.shape
    low = np.array([width, height]) * 0.3
    keep = ((slide.xy > low) & (slide.xy < [width - low[0], height - low[1]])).all(axis=1)
    column, row = low.astype(int)
    pixels = slide.image.pixels[row : height - row, column : width - column]
    return replace(slide, image=ArrayImage(pixels), xy=slide.xy[keep] - [column, row])


def noise(slide, low, high):
    pixels = np.random.default_rng(0).integers(low, high, (*slide.image.shape, 3), np.uint8)
    return replace(slide, image=ArrayImage(pixels))


def anywhere(slide):
    return np.random.default_rng(0).uniform(0, 1, slide.xy.shape) * slide.image.shape[::-1]


UNDECIDED = {
    "nothing but tissue": nothing_but_tissue,
    "evenly stained": lambda slide: noise(slide, 120, 180),
    "empty": lambda slide: noise(slide, 240, 241),
    "dusty": lambda slide: noise(slide, 225, 245),
    "a tiny image": lambda slide: replace(slide, image=ArrayImage(np.zeros((1, 1, 3), np.uint8))),
    "all outside": lambda slide: replace(slide, xy=slide.xy + 3 * slide.image.shape[1]),
    "no spots": lambda slide: replace(slide, xy=np.zeros((0, 2))),
    "all in one place": lambda slide: replace(slide, xy=np.full_like(slide.xy, 100.0)),
    "anywhere": lambda slide: replace(slide, xy=anywhere(slide)),
    "spots of another slide": lambda _: replace(
        phantom_slide(seed=1, spots=150), xy=phantom_slide(seed=2, spots=150).xy
    ),
}


@pytest.mark.parametrize("kind", UNDECIDED)
def test_spots_stay_where_the_image_is_uninformative(kind):
    found = align(UNDECIDED[kind](phantom_slide(seed=1)))
    assert not found.confident
    assert not found.changes
    assert found.reason


def test_one_outlying_spot_does_not_matter():
    slide = phantom_slide(seed=8000)
    moved = displace(slide, 30, -25, 1)
    lost = replace(moved, xy=np.concatenate([moved.xy, [[1e9, -1e9]]]))
    found = align(lost)
    assert found.confident, found.reason
    assert error_in_pitches(moved, found, slide.xy) < 0.5


def test_a_sample_of_many_spots_suffices(monkeypatch):
    monkeypatch.setattr("histoboost.slides.align.votes.MAX_VOTES", 200)
    slide = phantom_slide(seed=8001, spots=400)
    moved = displace(slide, -60, 35, 1.02)
    assert error_in_pitches(moved, align(moved), slide.xy) < 0.5


def test_black_padding_is_not_tissue():
    slide = phantom_slide(seed=8000)
    padded = np.pad(slide.image.pixels, ((40, 40), (40, 40), (0, 0)))
    moved = replace(slide, image=ArrayImage(padded), xy=slide.xy + 40 - [30, -25])
    found = align(moved)
    assert found.confident
    assert error_in_pitches(moved, found, slide.xy + 40) < 0.5


def test_the_same_slide_gives_the_same_answer():
    _, moved = random_case(3)
    assert align(moved) == align(moved)


def test_a_table_that_was_written_is_read_back(tmp_path):
    found = [align(random_case(number)[1]) for number in (0, 1)]
    found = [replace(one, slide=f"S_{i}") for i, one in enumerate(found)]
    write_table(tmp_path / "a.csv", found)
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    read = read_table(tmp_path / "a.csv")
    assert [read[one.slide].transform for one in found] == [one.transform for one in found]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,dx,dy\nS_1,1,2\n", "no column 'scale'"),
        ("slide,dx,dy,scale\nS_1,1,two,1\n", "'two', which is not a number"),
        ("slide,dx,dy,scale\nS_1,1,nan,1\n", "column 'dy' is empty or nan; give a number"),
        ("slide,dx,dy,scale\nS_1,1,inf,1\n", "'inf', which is not a number"),
        ("slide,dx,dy,scale\nS_1,1,2,0\n", "scale must be above 0"),
        ("slide,dx,dy,scale\nS_1,1,2,1\nS_1,1,2,1\n", "'S_1' twice"),
        ("slide,dx,dy,scale\nS_9,1,2,1\n", "no row for slide S_1"),
    ],
)
def test_an_unusable_table_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    data = Dataset(tmp_path, [phantom_slide("S_1", spots=20)])
    with pytest.raises(HistoboostError, match=message):
        resolve_alignment(data, tmp_path / "a.csv")


def test_a_missing_table_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(HistoboostError, match="histoboost align"):
        resolve_alignment(Dataset(tmp_path, []), tmp_path / "no.csv")


def test_none_moves_nothing_but_warns_about_a_misaligned_slide(recwarn):
    slide = phantom_slide("S_1", seed=8000)
    resolved = resolve_alignment(Dataset(Path("x.h5"), [slide]), "none")
    assert not resolved["S_1"].changes
    assert not [one for one in recwarn if one.category is HistoboostWarning]
    with pytest.warns(HistoboostWarning, match="S_1: the spots look misaligned"):
        resolved = resolve_alignment(Dataset(Path("x.h5"), [displace(slide, 70, -40, 1)]), "none")
    assert not resolved["S_1"].changes


def test_auto_moves_confident_slides_and_warns_about_others():
    good = phantom_slide("S_1", seed=8000)
    data = Dataset(
        Path("x.h5"), [displace(good, 70, -40, 1), noise(replace(good, name="S_2"), 240, 241)]
    )
    with pytest.warns(HistoboostWarning, match="S_2: alignment leaves the spots"):
        resolved = resolve_alignment(data, "auto")
    assert error_in_pitches(data.slides[0], resolved["S_1"], good.xy) < 0.5
    assert not resolved["S_2"].changes


def test_inspect_names_a_misaligned_slide():
    slide = phantom_slide("S_1", seed=8000)
    shifted = displace(replace(slide, name="S_2"), 70, -40, 1)
    found = inspect(Dataset(Path("x.h5"), [slide, shifted]))
    problems = [one for one in found["problems"] if one["kind"] == "misaligned"]
    assert [one["slide"] for one in problems] == ["S_2"]


def test_featurize_cuts_patches_where_the_alignment_puts_the_spots(tmp_path):
    true = phantom_slide("S_1", seed=8000, spots=40)
    shifted = replace(true, xy=true.xy - [6, -4])
    table = tmp_path / "a.csv"
    table.write_text("slide,dx,dy,scale\nS_1,6,-4,1\n")
    options = {"backbone": "stain-texture", "patch": [32]}
    for name, slide, alignment in (("true", true, "none"), ("moved", shifted, table)):
        data = Dataset(tmp_path / "x.h5", [slide])
        featurize(data, tmp_path / name, alignment=alignment, **options)
    stores = [EmbeddingStore(tmp_path / name, mode="r") for name in ("true", "moved")]
    one, other = (store.read("S_1", "stain-texture@32") for store in stores)
    assert np.array_equal(one, other)
    assert np.array_equal(stores[1].spots("S_1").xy, shifted.xy)
    with pytest.raises(HistoboostError, match="alignment"):
        featurize(Dataset(tmp_path / "x.h5", [shifted]), tmp_path / "moved", **options)


def test_the_command_writes_table_pictures_and_json(tmp_path, phantom_h5, succeeds):
    out = tmp_path / "alignment.csv"
    succeeds("align", phantom_h5, "-o", out, "--json", tmp_path / "a.json")
    names = [slide.name for slide in open_dataset(phantom_h5).slides]
    assert list(read_table(out)) == names
    pictures = sorted(path.stem for path in (tmp_path / "alignment_overlays").iterdir())
    assert pictures == [f"{name}_alignment" for name in names]
    found = json.loads((tmp_path / "a.json").read_text())
    assert [one["slide"] for one in found["slides"]] == names
    assert "cx" in found["convention"]


def test_an_existing_table_survives_bad_input(tmp_path, run):
    out = tmp_path / "alignment.csv"
    out.write_text("slide,dx,dy,scale\nS_1,1,2,1\n")
    assert run("align", tmp_path / "no.h5", "-o", out).exit_code == 2
    assert "S_1,1,2,1" in out.read_text()


@pytest.mark.real
def test_shifts_applied_to_real_slides_are_found(shared):
    data = open_dataset(shared / "data" / "her2st.h5")
    rng = np.random.default_rng(0)
    for slide in data.slides:
        if slide.labelled:
            moved = displace(slide, *rng.uniform(-100, 100, 2), rng.uniform(0.96, 1.04))
            found = align(moved)
            if found.confident:
                assert error_in_pitches(moved, found, slide.xy) < 0.5


def test_spots_that_a_table_moves_outside_are_blamed_on_the_table(tmp_path):
    slide, table = phantom_slide("S", spots=30), tmp_path / "al.csv"
    table.write_text("slide,dx,dy,scale\nS,5000,0,1\n")
    data, options = Dataset(tmp_path, [slide]), {"backbone": "stain-texture", "patch": 32}
    with pytest.raises(HistoboostError, match="correct its dx, dy and scale, given in .*al.csv"):
        featurize(data, tmp_path / "s.zarr", alignment=table, **options)
    with pytest.raises(HistoboostError, match="given in .*al.csv"):
        aligned(data, table)
    outside = Dataset(tmp_path, [replace(slide, xy=slide.xy + 9000)])
    with pytest.raises(HistoboostError, match="check that x and y are in its pixels"):
        featurize(outside, tmp_path / "s.zarr", alignment=table, **options)


def test_labels_that_are_all_0_are_warned_of(tmp_path):
    slide = phantom_slide("S", spots=30)
    data = Dataset(tmp_path, [replace(slide, abundance=np.zeros_like(slide.abundance))])
    with pytest.warns(HistoboostWarning, match="slide S: all its abundances are 0; correct them"):
        featurize(data, tmp_path / "s.zarr", backbone="none")
