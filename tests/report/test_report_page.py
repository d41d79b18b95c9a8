"""The report of a model in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.regress.baselines import SCORES
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.targets import fit_target
from histoboost.regress.units import to_units
from histoboost.report.model_report import report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, store_path: Path, model_path: Path, page):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(store_path, model_path, path, jobs=1)
    page.open(path)
    return page


def test_hovering_shows_truth_and_prediction_on_both_maps(reported, store_path):
    spots = EmbeddingStore(store_path, mode="r").spots("S_2")
    reported.select("slide", "S_2")
    reported.select("type", "C5")
    reported.until(lambda: reported.text("#maps-title") == "S_2: C5")
    label = reported.hover("truth", 4, expect=f"spot {spots.spot_ids[4]}C5")
    shown = float(re.search(r"truth: rank \S+, abundance ([\d.e+-]+?)prediction", label)[1])
    assert shown == pytest.approx(spots.abundance[4, 4], rel=0.005)
    assert "per-spot Spearman" in label
    reported.until(lambda: reported.text("#predicted .hoverlayer") == label)
    assert f"spot {spots.spot_ids[4]}" in reported.text("#readout")


def test_ranks_on_the_map_are_those_of_the_truth(reported, store_path):
    truth = EmbeddingStore(store_path, mode="r").spots("S_1").abundance
    reported.select("slide", "S_1")
    reported.select("type", "C2")
    reported.until(lambda: reported.text("#maps-title") == "S_1: C2")
    values = reported.until(
        lambda: reported.js(
            "return Array.from(document.getElementById('truth').data[0].marker.color)"
        )
    )
    written = to_units(truth, "rank", fit_target("raw", truth))
    assert values == pytest.approx(written[:, 1], abs=1e-6)
    label = reported.hover("truth", 3, expect="spot 3C2")
    assert float(re.search(r"truth: rank ([\d.]+),", label)[1]) == pytest.approx(
        written[3, 1], rel=0.005
    )


def test_the_table_of_folds_shows_five_scores_of_the_model_and_of_three_baselines(reported):
    rows = reported.js(
        "return [...document.querySelectorAll('#folds-table tr')]"
        ".map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    five = ["per-spot Spearman", "per-type Spearman", "per-type Pearson", "RMSE of shares"]
    assert rows[0] == ["held out", "spots", *five, "JSD of shares", "fit, s"]
    names = [row[0].split(" (")[0] for row in rows[1:]]
    assert names == ["S_1", "S_2", "mean", "mean", "mean-rank", "coords"]
    scores = reported.js("return DATA.scores")
    found = [*scores["folds"], scores["mean"]]
    found += [scores["baselines"][name] for name in names[3:]]
    for row, values in zip(rows[1:], found, strict=True):
        for cell, score in zip(row[2:7], SCORES, strict=True):
            assert float(cell.replace("\u2212", "-")) == pytest.approx(values[score], abs=6e-4)


def test_the_verdict_names_slides_on_which_a_baseline_is_as_good(reported):
    folds, said = reported.js("return DATA.scores.folds"), reported.text("#verdict")
    constants, position = "a constant profile is as good", "position alone is as good"
    named: list[str] = []
    for phrase, names in ((constants, ("mean", "mean-rank")), (position, ("coords",))):
        behind = [
            fold["name"]
            for fold in folds
            if fold["spot_spearman"] <= max(fold["baselines"][n]["spot_spearman"] for n in names)
            and fold["name"] not in named
        ]
        named += behind
        assert (f"On {'; '.join(behind)}, {phrase}" in said) == bool(behind)


def test_good_and_bad_verdicts_have_different_colours(reported):
    colours = [
        reported.js(
            "const note = document.getElementById('verdict');"
            "note.classList.toggle('good', arguments[0]);"
            "return getComputedStyle(note).borderLeftColor",
            good,
        )
        for good in (True, False)
    ]
    assert colours[0] != colours[1]


def test_a_slide_without_labels_shows_its_prediction(reported):
    reported.select("slide", "S_4 (no labels)")
    reported.until(lambda: "no labels" in reported.text("#maps-hint"))
    label = reported.hover("predicted", 3, expect="spot 3C")
    assert "truth" not in label


def test_novelty_is_shown_as_a_map(reported):
    reported.select("slide", "S_4 (no labels)")
    reported.select("type", "novelty of every spot")
    reported.until(lambda: "S_4: novelty of every spot" in reported.text("#maps-title"))
    assert "novelty" in reported.hover("predicted", 3, expect="spot 3")
    assert "held-out training slides" in reported.text("#novelty-hint")


def test_a_worst_spot_can_be_shown_on_the_map(reported):
    reported.js("document.querySelector('#worst button').click()")
    worst = reported.text("#worst tbody tr td:nth-child(2)")
    reported.until(lambda: f"spot {worst} " in reported.text("#readout"))
    assert "score of every spot" in reported.text("#maps-title")
    ring = reported.until(lambda: reported.js("return document.getElementById('truth').data[1].x"))
    assert len(ring) == 1


def test_plots_are_readable_in_both_themes(reported):
    for theme, ink in (("dark", "#ece8f2"), ("light", "#221c2b")):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        reported.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for plot in ("folds", "types", "truth", "gain", "rounds"):
            reported.until(
                lambda plot=plot, ink=ink: (
                    reported.js(
                        "return document.getElementById(arguments[0])._fullLayout.font.color", plot
                    )
                    == ink
                )
            )


def test_a_phone_shows_the_page_without_scrolling_sideways(reported):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    reported.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        reported.until(lambda: reported.js("return window.innerWidth") == 390)
        reported.until(lambda: reported.js("return document.documentElement.scrollWidth") <= 390)
    finally:
        reported.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_was_requested_and_the_console_stayed_silent(reported):
    assert reported.requests() == []
    assert reported.errors() == []


def test_the_text_explains_the_importances_of_this_model(reported, store_path, tmp_path):
    assert "what splits on them gained" in reported.text("#importance-section .hint")
    model = CompositionRegressor("stain-texture@*", "kernel")
    model.fit(EmbeddingStore(store_path, mode="r"), ["S_1", "S_2"], jobs=1).save(tmp_path / "m")
    report(store_path, tmp_path / "m", tmp_path / "report.html", jobs=1)
    reported.open(tmp_path / "report.html")
    text = reported.text("#importance-section .hint")
    assert "squared slopes" in text
    assert "gain" not in text
    assert "trees" not in text


def test_warnings_are_shown_on_the_page(reported, store_path, tmp_path):
    assert reported.js("return document.getElementById('warnings').hidden")
    model = CompositionRegressor("stain-texture@16", "stack", options={"n_estimators": 4})
    model.fit(EmbeddingStore(store_path, mode="r"), ["S_1", "S_2"], jobs=1).save(tmp_path / "m")
    with pytest.warns(HistoboostWarning, match="kernel ridge is used alone"):
        report(store_path, tmp_path / "m", tmp_path / "report.html", jobs=1)
    reported.open(tmp_path / "report.html")
    assert "trained without S_1: stack: one training slide" in reported.text("#warnings")
    assert reported.text("#warnings h2") == "2 warnings"
