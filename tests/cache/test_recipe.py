"""A recipe is equal exactly when the numbers are."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from histoboost.cache.recipe import DIGESTS, Recipe
from histoboost.errors import HistoboostError

FIELDS = {
    "slide_pixels": "p" * 64,
    "spots": "s" * 64,
    "alignment": [0.0, 0.0, 1.0],
    "backbone": "mobilenet_v2",
    "layer": "avgpool",
    "weights": "w" * 64,
    "patch_px": 64,
    "mean": [0.485, 0.456, 0.406],
    "stain": "none",
    "views": 1,
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_changes_the_identity_and_is_named(field):
    changed = Recipe({**FIELDS, field: "other"})
    assert changed.digest != Recipe(FIELDS).digest
    (difference,) = Recipe(FIELDS).differences(changed)
    assert difference.startswith(f"{field}: ") or difference == DIGESTS[field]


def test_differences_of_digests_are_explained_in_words():
    old = Recipe({"slide_pixels": "ab12", "spots": "cd34", "weights": "ef56", "views": 1})
    new = Recipe({"slide_pixels": "12ab", "spots": "34cd", "weights": "56ef", "views": 8})
    assert old.differences(new) == [
        "the image of the slide has changed",
        "the spots have moved",
        "views: 1, not 8",
        "the weights have changed",
    ]


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_a_difference(field):
    less = Recipe({k: v for k, v in FIELDS.items() if k != field})
    assert less != Recipe(FIELDS)
    assert Recipe(FIELDS).differences(less)[0].endswith("not absent")


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}, True),
        ({"x": (1.0, 2.0)}, {"x": [1.0, 2.0]}, True),
        *[({"x": one}, {"x": 1}, False) for one in (1.0, True, "1", None)],
        ({"x": 0}, {"x": False}, False),
    ],
)
def test_recipes_are_compared_as_json(a, b, equal):
    assert (Recipe(a) == Recipe(b)) == equal
    assert (Recipe(a).differences(Recipe(b)) == []) == equal


def test_models_ignore_the_fields_of_the_slide():
    other = {**FIELDS, "slide_pixels": "q", "spots": "t", "alignment": [1.0, 0.0, 1.0]}
    assert Recipe(FIELDS).without_slide() == Recipe(other).without_slide()
    assert Recipe(FIELDS).without_slide() != Recipe({**FIELDS, "views": 8}).without_slide()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, object()])
def test_values_that_are_not_json_are_refused(value):
    with pytest.raises(HistoboostError, match="must be JSON values"):
        Recipe({"x": value})


# Busy machines are slow.
unhurried = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@unhurried
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_recipe_round_trips_through_json(fields):
    recipe = Recipe(fields)
    assert Recipe(recipe.fields) == recipe
    assert Recipe(recipe.fields).digest == recipe.digest
    assert recipe.differences(Recipe(recipe.fields)) == []


@unhurried
@given(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
def test_recipes_are_equal_exactly_when_no_field_differs(a, b):
    assert (Recipe(a) == Recipe(b)) == (Recipe(a).differences(Recipe(b)) == [])
    assert (Recipe(a).digest == Recipe(b).digest) == (Recipe(a) == Recipe(b))
