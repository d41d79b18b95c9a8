"""Multi-target LightGBM: features binned once, one model per target."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from histoboost.errors import BadInput
from histoboost.regress.budget import allowed_cores, processes
from histoboost.regress.lightgbm_text import checked_trees
from histoboost.regress.lightgbm_workers import Blocks, Task, bin_features, train_all

if TYPE_CHECKING:
    import lightgbm as lgb

#: Rows that bin borders are estimated from; at 31 bins, more only cost time and memory.
BINNING_ROWS = 2000


class MultiTargetLGBM(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """One LightGBM regressor per target, on features that are binned once.

    The defaults suit thousands of dense features and a few thousand rows: small trees, few bins,
    and few features per tree.

    Parameters
    ----------
    n_estimators : int
        Boosting rounds.
    learning_rate : float
        Shrinkage of each tree.
    num_leaves : int
        Maximum number of leaves of a tree.
    max_bin : int
        Maximum number of bins of a feature.
    feature_fraction : float
        Fraction of features per tree, at least 32 of them.
    min_child_samples : int
        Minimum number of rows in a leaf.
    reg_lambda : float
        L2 penalty on leaf values.
    bagging_fraction : float
        Fraction of rows per tree.
    extra_trees : bool
        Use one random threshold per feature.
    n_jobs : int, optional
        Number of parallel processes; all available cores by default.
    random_state : int
        Seed.

    Attributes
    ----------
    texts_ : list of str
        Models in LightGBM's text format.
    rounds_ : ndarray of shape (T,), int
        Number of trees of each model.
    feature_importances_ : ndarray of shape (F,), float64
        Total gain of each feature over all models, scaled to sum 1 (0 without splits).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 5))
    >>> y = np.column_stack([X[:, 0], -X[:, 1]])
    >>> model = MultiTargetLGBM(n_estimators=50, n_jobs=1).fit(X, y)
    >>> model.predict(X).shape
    (200, 2)
    """

    def __init__(
        self,
        *,
        n_estimators: int = 400,
        learning_rate: float = 0.05,
        num_leaves: int = 7,
        max_bin: int = 31,
        feature_fraction: float = 0.02,
        min_child_samples: int = 20,
        reg_lambda: float = 0.0,
        bagging_fraction: float = 1.0,
        extra_trees: bool = False,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.max_bin = max_bin
        self.feature_fraction = feature_fraction
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda
        self.bagging_fraction = bagging_fraction
        self.extra_trees = extra_trees
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MultiTargetLGBM:
        """Train one model per column of `y`.

        Parameters
        ----------
        X : array-like of shape (N, F)
            Features.
        y : array-like of shape (N,) or (N, T)
            Targets.
        sample_weight : array-like of shape (N,), optional
            Weight of each row.
        """
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float32, order="C"
        )
        if len(X) < 2:
            raise ValueError("MultiTargetLGBM needs 2 samples or more; got 1 sample")
        targets = np.asarray(y, dtype=np.float64)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        self.fit_blocks([X], targets.reshape(len(X), -1), weight)
        self._flat = targets.ndim == 1
        return self

    def fit_blocks(
        self,
        blocks: Blocks,
        targets: NDArray[np.float64],
        weight: NDArray[np.float64] | None = None,
        *,
        stop_on: tuple[Blocks, NDArray[np.float64]] | None = None,
        patience: int = 0,
    ) -> MultiTargetLGBM:
        """`fit` on the rows of several arrays (n, F), float32, without concatenating them.

        With `stop_on`, held-out rows and targets, a model stops after `patience` rounds without
        improvement there.
        """
        cores = allowed_cores("jobs", self.n_jobs)
        params = self.lightgbm_params(blocks[0].shape[1])
        data = bin_features(blocks, params, cores, weight)
        held_out = None
        if stop_on is not None:
            binned = bin_features(stop_on[0], params, cores, reference=data)
            held_out = (binned, stop_on[1])
        start = check_random_state(self.random_state).randint(2**31 - 1) % 2**24
        seeds = [start + 127 * index for index in range(targets.shape[1])]
        task = Task(data, targets, params, self.n_estimators, seeds, held_out, patience)
        return self._take(train_all(task, processes(targets.shape[1], cores)))

    def lightgbm_params(self, n_features: int) -> dict[str, Any]:
        """Parameters of `lightgbm.train`, except seed and threads."""
        enough = min(1.0, 32 / n_features)  # 2 % of 18 features would be none
        return {
            "objective": "regression",
            "metric": "l2",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "max_bin": self.max_bin,
            "feature_fraction": max(self.feature_fraction, enough),
            "min_data_in_leaf": self.min_child_samples,
            "lambda_l2": self.reg_lambda,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": int(self.bagging_fraction < 1),
            "extra_trees": self.extra_trees,
            "bin_construct_sample_cnt": BINNING_ROWS,
            # Dense features cannot be bundled, and the attempt takes longer than binning.
            "enable_bundle": False,
            # By column, only the few features of a tree are read.
            "force_col_wise": True,
            "deterministic": True,
            "verbosity": -1,
        }

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict every target.

        Parameters
        ----------
        X : array-like of shape (N, F)
            Features.

        Returns
        -------
        ndarray of shape (N, T), or (N,) where `y` was one-dimensional
        """
        check_is_fitted(self, "texts_")
        X = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        predicted = self.predict_rows(X)
        return predicted[:, 0] if self._flat else predicted

    def predict_rows(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """`predict` (N, T) from features (N, F), float32, without validation."""
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"{X.shape[1]} features, but models of {self.n_features_in_}")

        def one(booster: lgb.Booster) -> NDArray[np.float64]:
            # Raw scores of a plain regression are the predictions.
            return np.asarray(booster.predict(X, raw_score=True, num_threads=1))

        with ThreadPoolExecutor(allowed_cores("jobs", self.n_jobs)) as pool:
            return np.stack(list(pool.map(one, self._boosters)), axis=1)

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Total gain of each feature over all models, scaled to sum 1."""
        check_is_fitted(self, "texts_")
        gain = np.sum([each.feature_importance("gain") for each in self._boosters], axis=0)
        return np.asarray(gain / total if (total := gain.sum()) > 0 else gain)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> MultiTargetLGBM:
        """Load models from LightGBM's text format, for prediction only; refuse invalid texts."""
        trees = [checked_trees(text, f"model {index}") for index, text in enumerate(texts)]
        model = cls()._take(trees)
        model.texts_ = list(texts)
        return model

    def _take(self, texts: Sequence[str]) -> MultiTargetLGBM:
        import lightgbm as lgb

        self.texts_ = list(texts)
        self._flat = False
        self._boosters = [lgb.Booster(model_str=text) for text in texts]
        widths = {booster.num_feature() for booster in self._boosters}
        if len(widths) != 1:
            raise BadInput(f"models of {sorted(widths)} features; train it again")
        self.n_features_in_ = widths.pop()
        self.rounds_ = np.array([booster.current_iteration() for booster in self._boosters])
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
