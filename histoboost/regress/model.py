"""A trained model: fit it on a store's labelled slides, save it, predict with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError
from histoboost.regress.bundle import read_bundle, write_bundle
from histoboost.regress.compatibility import check_alike, check_present, warn_of_training_slides
from histoboost.regress.crossval import run_folds
from histoboost.regress.expression import parse_features
from histoboost.regress.features import assemble, describe
from histoboost.regress.fitting import Predictor, fit_predictor, warn_if_constant
from histoboost.regress.folds import labelled_slides, warn_of_awaited
from histoboost.regress.heads.base import make_head
from histoboost.regress.intervals import Residuals
from histoboost.regress.reduce import Reduction
from histoboost.regress.setup import Setup
from histoboost.regress.targets import Target, normalize

if TYPE_CHECKING:
    from distributed import Client

    from histoboost.cache.store import EmbeddingStore

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one slide.

    Attributes
    ----------
    slide : str
    values : ndarray of shape (N, T)
        In the units asked for, spots in the order of the store.
    low, high : ndarray of shape (N, T), or None
        Bounds of the interval, where one was asked for.
    """

    slide: str
    values: Array
    low: Array | None = None
    high: Array | None = None


class CompositionRegressor:
    """Cell-type composition of spots from their cached embeddings.

    Parameters
    ----------
    features : str
        Feature-set expression; see `Setup` for it and the other parameters.
    model : str
        Name of the head.
    target : str
        ``"rank"``, ``"log"`` or ``"raw"``.
    **more
        Further fields of `Setup`.

    Attributes
    ----------
    setup : Setup
        After `fit`, its features have their globs resolved.
    cell_types : tuple of str
    training_slides : tuple of str
    recipes : dict
        Embedding name to the slide-independent fields of its recipe.

    Examples
    --------
    >>> from histoboost import CompositionRegressor, EmbeddingStore
    >>> store = EmbeddingStore("store.zarr", mode="r")  # doctest: +SKIP
    >>> model = CompositionRegressor("resnet50@64").fit(store)  # doctest: +SKIP
    >>> model.predict(store, ["S_7"])[0].values.shape  # doctest: +SKIP
    (2088, 35)
    """

    def __init__(
        self,
        features: str | None = None,
        model: str | None = None,
        target: str | None = None,
        **more: Any,
    ) -> None:
        given: dict[str, Any] = {"features": features, "model": model, "target": target, **more}
        self.setup = Setup(**{key: value for key, value in given.items() if value is not None})
        self.cell_types: tuple[str, ...] = ()
        self.training_slides: tuple[str, ...] = ()
        self.recipes: dict[str, dict[str, Any]] = {}
        self._predictor: Predictor | None = None
        self._residuals: Residuals | None = None

    def fit(
        self,
        store: EmbeddingStore,
        slides: Sequence[str] | None = None,
        *,
        jobs: int | None = None,
        intervals: bool = False,
        client: Client | None = None,
    ) -> CompositionRegressor:
        """Train on labelled slides.

        Parameters
        ----------
        store : EmbeddingStore
            Embeddings, coordinates and abundances.
        slides : sequence of str, optional
            Labelled slides to train on; all by default.
        jobs : int, optional
            Cores to use at most.
        intervals : bool
            Also train once with each slide (or group) held out, and keep those predictions: what
            `predict` needs to give intervals.
        client : distributed.Client, optional
            Train on the workers of this Dask cluster, which divide the cell types.

        Returns
        -------
        CompositionRegressor
            This object.
        """
        chosen = labelled_slides(store, slides)
        layout = describe(store, chosen, self.setup.features)
        self.setup = replace(self.setup, features=layout.features)
        self._residuals = None
        if intervals:
            folds = run_folds(
                store,
                self.setup,
                slides=chosen,
                jobs=jobs,
                client=client,
                description="predict held-out slides, for intervals",
            )
            self._residuals = folds.residuals(store)
        if client is None:
            matrix = assemble(store, chosen, self.setup.features, self.setup.standardize)
            self._predictor = fit_predictor(matrix, range(len(chosen)), self.setup, jobs)
        else:
            from histoboost.regress.distribute import fit_on_cluster

            self._predictor = fit_on_cluster(client, store, layout, self.setup)
        self.cell_types = layout.spots[0].cell_types
        self.training_slides = tuple(chosen)
        self.recipes = layout.recipes
        return self

    def predict(
        self,
        store: EmbeddingStore,
        slides: Sequence[str] | None = None,
        *,
        normalize_to: str = "rank",
        interval: float | None = None,
    ) -> list[Prediction]:
        """Predict slides, labelled or not.

        Parameters
        ----------
        store : EmbeddingStore
            Must hold the embeddings that the model was trained on, made alike.
        slides : sequence of str, optional
            All without labels by default.
        normalize_to : str
            ``"rank"``, ``"rank-slide"``, ``"softmax"``, ``"minmax"``, ``"abundance"`` or
            ``"none"``; see `normalize`.
        interval : float, optional
            Share of spots that the bounds are to hold, such as 0.9, type by type.

        Returns
        -------
        list of Prediction
            One for each slide.

        Raises
        ------
        HistoboostError
            If the store lacks an embedding, or has it made differently; if intervals are asked
            of a model that was trained without.
        """
        predictor = self._trained()
        if interval is not None and self._residuals is None:
            raise BadInput("interval: the model was trained without; train it with --intervals")
        chosen = list(slides) if slides is not None else unlabelled_slides(store)
        check_present(store, chosen, self.recipes)
        layout = describe(store, chosen, self.setup.features)
        check_alike(self.recipes, layout.recipes)
        warn_of_training_slides(chosen, self.training_slides)
        found = []
        for slide in chosen:  # one at a time: a slide's features depend on no other's
            matrix = assemble(store, [slide], self.setup.features, self.setup.standardize)
            raw = predictor.predict(matrix.values, matrix.layout.spots[0].xy)
            if self.setup.model not in ("mean", "mean-rank"):
                warn_if_constant(raw, f"slide {slide}")
            values = normalize(raw, normalize_to, predictor.target)
            if not np.isfinite(values).all():
                raise BadInput(f"slide {slide}: predictions are not finite; train again")
            if interval is None or self._residuals is None:
                found.append(Prediction(slide, values))
                continue
            half = self._residuals.half_width(interval, normalize_to, predictor.target)
            low, high = self._residuals.limits(normalize_to, predictor.target)
            lower, upper = (np.clip(values + side, low, high) for side in (-half, half))
            found.append(Prediction(slide, values, lower, upper))
        return found

    @property
    def target(self) -> Target:
        """What its predictions are in units of before they are normalised."""
        return self._trained().target

    def importances(self) -> dict[str, float]:
        """Share of each term of the features in the model; empty where the head cannot tell.

        A `pca` term counts as a whole.
        """
        predictor = self._trained()
        shares = predictor.fitted.importance()
        if shares is None:
            return {}
        names = [str(term) for term in parse_features(self.setup.features)]
        ends = np.cumsum([part.width for part in predictor.reduction.parts])
        parts = np.split(shares, ends[:-1])
        return {name: float(part.sum()) for name, part in zip(names, parts, strict=True)}

    def save(self, folder: str | Path) -> None:
        """Write the bundle: `model.json`, LightGBM's text models and plain arrays.

        Raises
        ------
        HistoboostError
            If `folder` exists and is not a bundle.
        """
        predictor = self._trained()
        head, texts, arrays = predictor.fitted.to_files()
        arrays = {f"head-{name}": array for name, array in arrays.items()}
        spans, fitted_arrays = predictor.reduction.to_files()
        arrays |= fitted_arrays
        if self._residuals is not None:
            arrays |= self._residuals.to_files()
        fields = {
            "setup": self.setup.to_json(),
            "cell_types": list(self.cell_types),
            "training_slides": list(self.training_slides),
            "recipes": self.recipes,
            "columns": spans,
            "target": predictor.target.to_json(),
            "head": head,
        }
        write_bundle(Path(folder), fields, texts, arrays)

    @classmethod
    def load(cls, folder: str | Path) -> CompositionRegressor:
        """Read what `save` wrote.

        Raises
        ------
        HistoboostError
            If it is not a bundle, or damaged.
        """
        folder = Path(folder)
        fields, texts, arrays = read_bundle(folder)
        try:
            return cls._from_bundle(fields, texts, arrays)
        except HistoboostError as error:
            raise BadInput(f"{folder}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise BadInput(
                f"{folder}/model.json: does not describe a model ({what}); train it again"
            ) from error

    @classmethod
    def _from_bundle(
        cls, fields: dict[str, Any], texts: dict[str, str], arrays: dict[str, NDArray[Any]]
    ) -> CompositionRegressor:
        model = cls()
        model.setup = Setup.from_json(fields["setup"])
        model.cell_types = tuple(map(str, fields["cell_types"]))
        model.training_slides = tuple(map(str, fields["training_slides"]))
        model.recipes = {str(k): dict(v) for k, v in fields["recipes"].items()}
        own = {k.removeprefix("head-"): a for k, a in arrays.items() if k.startswith("head-")}
        fitted = make_head(model.setup.model).load(fields["head"], texts, own)
        reduction = Reduction.from_files(fields["columns"], arrays)
        width = reduction.parts[-1].stop
        target = Target.from_json(fields["target"])
        model._predictor = Predictor(target, reduction, fitted, model.setup.smooth)
        try:
            tried = fitted.predict(reduction.apply(np.zeros((1, width), np.float32)))
        except Exception as error:  # noqa: BLE001  (LightGBM and numpy each raise their own)
            raise ValueError(f"its parts do not fit each other ({error})") from error
        if tried.shape != (1, len(model.cell_types)):
            raise ValueError(f"{len(model.cell_types)} cell types, but models for {tried.shape[1]}")
        model._residuals = Residuals.from_files(arrays, len(model.cell_types))
        return model

    def _trained(self) -> Predictor:
        if self._predictor is None:
            raise BadInput("model: is not trained; call fit or load first")
        return self._predictor


def unlabelled_slides(store: EmbeddingStore) -> list[str]:
    """Names of the slides without abundances.

    Raises
    ------
    HistoboostError
        If there is none.
    """
    warn_of_awaited(store)
    names = [slide for slide in store.slides() if not store.spots(slide).labelled]
    if not names:
        raise BadInput(
            f"{store.location}: every slide has labels; name those to predict with --slides"
        )
    return names
