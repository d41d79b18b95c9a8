"""`CompositionRegressor`: train, predict, save and load a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostError, pass_on, warnings_kept
from histoboost.regress.bundle import read_bundle, write_bundle
from histoboost.regress.compatibility import check_alike, trained_on
from histoboost.regress.crossval import run_folds
from histoboost.regress.distribute import fit_on_cluster
from histoboost.regress.fitting import Predictor, features_for, fit_predictor
from histoboost.regress.folds import make_folds
from histoboost.regress.guard import Guard, fit_guard
from histoboost.regress.heads.base import Files
from histoboost.regress.intervals import NO_INTERVALS, Residuals, check_level
from histoboost.regress.layout import describe
from histoboost.regress.predict_slide import predict_slide
from histoboost.regress.predictions import Predictions
from histoboost.regress.scale import check_scale
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides, open_store, stored_names, unlabelled_slides

if TYPE_CHECKING:
    from distributed import Client


class CompositionRegressor(BaseEstimator):  # type: ignore[misc]
    """Predict the cell-type composition of spots from stored embeddings.

    Parameters
    ----------
    features : str
        Feature-set expression.
    model : str
        ``"stack"``, ``"lightgbm"``, ``"ridge"``, ``"kernel"``, ``"coords"``, ``"mean"`` or
        ``"mean-rank"``.
    target : str
        ``"joint"``, ``"rank"``, ``"log"``, ``"raw"`` or ``"share"``.
    group_by : str
        Unit held out by folds and inner folds: ``"slide"``, ``"group"`` (patient), or ``"auto"``,
        the group wherever known.
    standardize : str
        ``"slide"``: embeddings to mean 0 and variance 1 within each slide, clipped at 3;
        ``"training"``: to mean 0 and variance 1 over all training spots; ``"none"``.
    balance : str
        ``"slide"``: equal weight for every training slide; ``"none"``: for every spot.
    smooth : float
        Fraction of each prediction taken from the mean of the neighbouring spots, 0 to 1.
    seed : int
        Random seed.
    options : mapping, optional
        LightGBM parameters that differ from the defaults; for ridge ``alpha``, the penalty.
    trees : sequence of str, optional
        Cell types that `stack` grows trees for, all by default; kernel ridge alone predicts the
        others.

    Attributes
    ----------
    setup_ : Setup
        Parameters, with globs in the features resolved.
    cell_types_ : tuple of str
        Names of the cell types.
    training_slides_ : tuple of str
        Names of the training slides.
    recipes_ : dict
        Embedding name to the slide-independent fields of its recipe.
    predictor_ : Predictor
        The fitted model.
    residuals_ : Residuals or None
        Held-out predictions, if intervals were requested.
    guard_ : Guard
        Checks whether slides and spots are unlike those of training.
    um_per_px_, pitch_px_, pitch_um_ : float or None
        Median resolution and spot pitch of the training slides; None if unknown.

    Examples
    --------
    >>> from histoboost import CompositionRegressor
    >>> model = CompositionRegressor("resnet50@64").fit("store.zarr")  # doctest: +SKIP
    >>> model.predict("store.zarr", "S_7", units="share").to_frame()  # doctest: +SKIP
    """

    def __init__(
        self,
        features: str = Setup.features,
        model: str = Setup.model,
        target: str = Setup.target,
        group_by: str = Setup.group_by,
        standardize: str = Setup.standardize,
        balance: str = Setup.balance,
        smooth: float = Setup.smooth,
        seed: int = Setup.seed,
        options: Mapping[str, Any] | None = None,
        trees: Sequence[str] | None = None,
    ) -> None:
        self.features = features
        self.model = model
        self.target = target
        self.group_by = group_by
        self.standardize = standardize
        self.balance = balance
        self.smooth = smooth
        self.seed = seed
        self.options = options
        self.trees = trees

    def fit(
        self,
        store: EmbeddingStore | str | Path,
        slides: str | Sequence[str] | None = None,
        *,
        jobs: int | None = None,
        intervals: bool = False,
        client: Client | None = None,
    ) -> CompositionRegressor:
        """Train on labelled slides.

        Parameters
        ----------
        store : EmbeddingStore or path
            Embeddings, coordinates and abundances.
        slides : str or sequence of str, optional
            Labelled slides to train on; all by default.
        jobs : int, optional
            Cores to use at most.
        intervals : bool
            Also cross-validate, so that `predict` can give intervals.
        client : distributed.Client, optional
            Train on a worker of this Dask cluster.

        Raises
        ------
        HistoboostError
            If a parameter is invalid, or a slide or embedding is missing in the store.
        """
        setup = Setup(**{**self.get_params(), "options": dict(self.options or {})})
        opened = open_store(store)
        spots = labelled_slides(opened, slides)
        layout = describe(opened, spots, setup.features)
        setup = replace(setup, features=layout.features)
        residuals = None
        if intervals:
            make_folds(spots, setup.group_by, purpose="--intervals (intervals=True in Python)")
            title = "predict held-out slides, for intervals"
            folds = run_folds(opened, setup, spots, jobs=jobs, client=client, description=title)
            residuals = Residuals.concatenate(folds.residuals())
        if client is None:
            features = features_for(opened, layout, setup)
            self.predictor_ = fit_predictor(features, range(len(spots)), setup, jobs)
        else:
            self.predictor_ = fit_on_cluster(client, opened, layout, setup)
        self.setup_ = setup
        self.residuals_ = residuals
        self.cell_types_ = spots[0].cell_types
        self.training_slides_ = layout.slides
        self.recipes_ = layout.recipes
        self.guard_ = fit_guard(opened, layout, setup)
        return self

    def predict(
        self,
        store: EmbeddingStore | str | Path,
        slides: str | Sequence[str] | None = None,
        *,
        units: str = "rank",
        interval: float | None = None,
    ) -> Predictions:
        """Predict slides, labelled or not.

        Parameters
        ----------
        store : EmbeddingStore or path
            Must have the embeddings that the model was trained on, made the same way.
        slides : str or sequence of str, optional
            All unlabelled ones by default.
        units : str
            ``"rank"`` within each spot, ``"rank-slide"`` of each type over the slide, ``"share"``
            (sums to 1), ``"softmax"``, ``"minmax"``, ``"abundance"`` as in the labels, or
            ``"none"``, as predicted.
        interval : float, optional
            Level of prediction intervals for each cell type, such as 0.9.

        Returns
        -------
        Predictions
            One `Prediction` for each slide.

        Raises
        ------
        HistoboostError
            If an embedding is missing or was made differently; if the model was trained without
            intervals.
        """
        predictor, opened = self._trained(), open_store(store)
        residuals = self.residuals_
        if interval is not None:
            check_level(interval)
            if residuals is None:
                raise BadInput(f"model: {NO_INTERVALS}")
        names = unlabelled_slides(opened) if slides is None else stored_names(opened, slides)
        made = check_alike(self.recipes_, opened, names)
        pass_on(trained_on(names, self.training_slides_))
        found = []
        for slide in names:
            with warnings_kept() as heard:
                table = opened.spots(slide)
                check_scale(self.guard_.scale, table, self.setup_.features, made[slide])
                layout = describe(opened, [table], self.setup_.features)
                matrix = features_for(opened, layout, self.setup_)
                predicted = predict_slide(
                    predictor, self.setup_, self.cell_types_, matrix, units, interval, residuals
                )
                predicted = self.guard_.judge(predicted, opened, made[slide])
            pass_on(heard)
            heard += trained_on([slide], self.training_slides_)
            found.append(replace(predicted, warnings=tuple(heard)))
        return Predictions(found)

    @property
    def um_per_px_(self) -> float | None:
        return self.guard_.scale.um_per_px

    @property
    def pitch_px_(self) -> float | None:
        return self.guard_.scale.pitch_px

    @property
    def pitch_um_(self) -> float | None:
        return self.guard_.scale.pitch_um

    def importances(self) -> dict[str, float]:
        """Share of each term of the features in the model; empty if undefined for the model."""
        return self._trained().importances(self.setup_.features)

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder of JSON, LightGBM texts and plain arrays.

        Raises
        ------
        HistoboostError
            If `folder` exists and is not a model.
        """
        trained = self._trained()
        files = self.guard_.add_to(trained.to_files())
        if self.residuals_ is not None:
            files.arrays.update(self.residuals_.to_files())
        document = {
            "setup": self.setup_.to_json(),
            "cell_types": list(self.cell_types_),
            "training_slides": list(self.training_slides_),
            "recipes": self.recipes_,
            **files.fields,
        }
        write_bundle(Path(folder), files._replace(fields=document))

    @classmethod
    def load(cls, folder: str | Path) -> CompositionRegressor:
        """Read a model written by `save`.

        Raises
        ------
        HistoboostError
            If it is not a model, or damaged.
        """
        folder = Path(folder)
        try:
            return cls._from_bundle(read_bundle(folder))
        except HistoboostError as error:
            prefix = "" if str(error).startswith(str(folder)) else f"{folder}: "
            raise BadInput(f"{prefix}{error}") from error
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadInput(
                f"{folder}/model.json: does not describe a model ({what}); train it again"
            ) from error

    @classmethod
    def _from_bundle(cls, files: Files) -> CompositionRegressor:
        document = files.fields
        setup = Setup.from_json(document["setup"])
        model = cls(**{field.name: getattr(setup, field.name) for field in fields(setup)})
        model.setup_ = setup
        model.cell_types_ = tuple(map(str, document["cell_types"]))
        model.training_slides_ = tuple(map(str, document["training_slides"]))
        model.recipes_ = {str(k): dict(v) for k, v in document["recipes"].items()}
        model.guard_ = Guard.from_files(files)
        types = len(model.cell_types_)
        model.predictor_ = Predictor.from_files(files, setup, types)
        width = model.predictor_.target.width(types)
        model.residuals_ = Residuals.from_files(files.arrays, types, width)
        return model

    def _trained(self) -> Predictor:
        if not hasattr(self, "predictor_"):
            raise BadInput("model: is not trained; call fit or load first")
        predictor: Predictor = self.predictor_
        return predictor
