"""Trees for some cell types, or none; kernel ridge alone predicts the others."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from histoboost import CompositionRegressor
from histoboost.cli import main
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.heads import stack
from histoboost.regress.heads.ridge import KernelHead
from histoboost.regress.heads.stack import StackHead
from histoboost.regress.joint import split
from histoboost.regress.setup import Setup

from .test_stack import joint_training, make_training

FEW = {"n_estimators": 4}


@pytest.mark.parametrize("trees", [[], [1], [0, 3, 4]])
def test_types_without_trees_are_those_of_the_kernel_and_the_others_are_not(trees):
    training, new = joint_training(), make_training(1, seed=1).blocks[0]
    kernel = split(KernelHead().fit(training).predict(new))
    fitted = StackHead().fit(replace(training, trees=trees))
    found = split(fitted.predict(new))
    for part in ("order", "map", "share"):
        differs = (getattr(found, part) != getattr(kernel, part)).any(axis=0)
        np.testing.assert_array_equal(np.flatnonzero(differs), trees)
    loaded = StackHead().load(fitted.to_files())
    np.testing.assert_array_equal(loaded.predict(new), fitted.predict(new))
    assert len(fitted.to_files().texts) == 2 * len(trees)


def test_trees_of_one_target_are_limited_too_and_trees_for_all_types_are_the_default():
    training, new = replace(make_training(), options=FEW), make_training(1, seed=1).blocks[0]
    kernel = KernelHead().fit(training).predict(new)
    default, every, some = (
        StackHead().fit(replace(training, trees=trees)).predict(new)
        for trees in (None, [0, 1, 2, 3], [2])
    )
    np.testing.assert_array_equal(every, default)
    np.testing.assert_array_equal((some != kernel).any(axis=0), [False, False, True, False])


@pytest.mark.parametrize("types", [[7], [-1], [1, 1], [2, 0]])
def test_a_bundle_whose_trees_are_of_no_type_is_refused(types):
    files = StackHead().fit(replace(joint_training(), trees=[0, 1][: len(types)])).to_files()
    files.fields["tree_types"] = types
    with pytest.raises(ValueError, match="other cell types"):
        StackHead().load(files)


def test_very_many_trees_are_announced(monkeypatch):
    monkeypatch.setattr(stack, "MANY", 9)
    with pytest.warns(HistoboostWarning, match="10 models of trees.*limit them with --trees"):
        StackHead().fit(joint_training())


def test_trees_of_a_setup_are_optional_checked_and_kept():
    plain, some = Setup(model="stack"), Setup(trees=["A", "B", "A"])
    assert "trees" not in plain.to_json()
    assert some.trees == ("A", "B")
    for setup in (plain, some):
        assert Setup.from_json(setup.to_json()) == setup
    with pytest.raises(HistoboostError, match="trees: model kernel"):
        Setup(model="kernel", trees=())
    with pytest.raises(HistoboostError, match="no cell type 'X'; there are A, B"):
        Setup(trees=["X"]).tree_types(["A", "B"])


def test_cell_types_without_trees_are_named_by_every_command_and_kept_in_the_model(store, tmp_path):
    types = store.spots("A").cell_types
    few = ["--features", "coords", "--set", "n_estimators=2", "--jobs", "1"]
    model, run = str(tmp_path / "model"), CliRunner().invoke
    where, trees = str(store.location), ["--trees", types[0]]
    said = [
        run(main, ["train", where, model, *few, *trees]),
        run(main, ["show", model]),
        run(main, ["evaluate", where, *few, *trees]),
        run(main, ["ablate", where, *few, "--features", "net@32", *trees, "--fresh"]),
    ]
    for result in said:
        assert result.exit_code == 0, result.output
        line = " ".join(result.output.split())
        assert f"for 1 cell types; kernel ridge alone predicts {len(types) - 1}" in line
    assert CompositionRegressor.load(model).setup_.trees == (types[0],)
    none = run(main, ["train", where, model, *few, "--trees", "none"])
    assert "none: kernel ridge" in none.output
    assert CompositionRegressor.load(model).setup_.trees == ()
    wrong = run(main, ["evaluate", where, *few, "--trees", "nobody"])
    assert (wrong.exit_code, "no cell type 'nobody'" in wrong.output) == (2, True)
