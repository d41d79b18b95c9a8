"""Train a model on some slides and predict others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import warn
from histoboost.regress.budget import one_blas_thread
from histoboost.regress.expression import COORDS, Term, parse_features
from histoboost.regress.features import Features, StoredFeatures, assemble, unit_coords
from histoboost.regress.folds import group_keys
from histoboost.regress.heads import find_model
from histoboost.regress.heads.base import Array, Files, Fitted, Training
from histoboost.regress.heads.blocks import Block as BlockOfSlide
from histoboost.regress.heads.blocks import rows_of
from histoboost.regress.heads.constant import Constant, target_of
from histoboost.regress.layout import Block, Columns, Layout, abundance_of, ranks_of
from histoboost.regress.neighbors import smooth
from histoboost.regress.pieces import Sections, fit_sections
from histoboost.regress.reduce import Reduction, fit_reduction
from histoboost.regress.setup import Setup
from histoboost.regress.targets import Target, fit_target
from histoboost.regress.units import to_units
from histoboost.spots import SpotTable

#: Models that can be fitted on pieces of rows.
ROWWISE = ("stack", "kernel")
#: Features of more bytes are read from the store on access, for these models.
MOST_BYTES = 3 << 28
#: Share of variance between spots below which predictions count as one constant profile.
HARDLY_VARIES = 1e-3


@dataclass(frozen=True)
class Predictor:
    """A trained model with its pre- and postprocessing."""

    target: Target
    reduction: Reduction
    fitted: Fitted
    smooth: float
    sections: Sections | None = None

    def predict_slide(self, matrix: Features, slide: int) -> Array:
        """Predict one slide of a matrix, which may cover only part of a section."""
        table = matrix.layout.spots[slide]
        values: BlockOfSlide = matrix.block(slide)
        moments = None if self.sections is None else matrix.moments_of(slide)
        if self.sections is not None and moments is not None and self.sections.coverage(table) < 1:
            similar = None if self.reduction.changes else self.fitted.similarities
            with one_blas_thread():
                columns = matrix.layout.columns
                values = self.sections.adjust(rows_of(values), moments, table, columns, similar)
        return self.predict(values, table.xy)

    def predict(self, values: BlockOfSlide, xy: Array) -> Array:
        """Predict the target, (N, width), from features (N, F) and centres (N, 2) of one slide."""
        with one_blas_thread():
            predicted = self.fitted.predict(self.reduction.apply(values))
        return smooth(predicted, xy, self.smooth)

    def composition(self, values: BlockOfSlide, xy: Array) -> Array:
        """`predict` as one prediction (N, T) whose order and map can be scored."""
        return to_units(self.predict(values, xy), "none", self.target)

    def importances(self, features: str) -> dict[str, float]:
        """Share of each term of `features` in the model; empty if undefined."""
        shares = self.fitted.importance()
        if shares is None:
            return {}
        names = [str(term) for term in parse_features(features)]
        ends = np.cumsum([part.width for part in self.reduction.parts])
        parts = np.split(shares, ends[:-1])
        return {name: float(part.sum()) for name, part in zip(names, parts, strict=True)}

    def to_files(self) -> Files:
        files = self.fitted.to_files()
        spans, arrays = self.reduction.to_files()
        arrays |= {f"head-{name}": array for name, array in files.arrays.items()}
        fields = {"columns": spans, "target": self.target.to_json(), "head": files.fields}
        if self.sections is not None:
            fields["sections"], found = self.sections.to_files()
            arrays |= found
        return Files(fields, files.texts, arrays)

    @classmethod
    def from_files(cls, files: Files, setup: Setup, types: int) -> Predictor:
        """Inverse of `to_files`; KeyError, TypeError or ValueError if inconsistent."""
        fields, texts, arrays = files
        own = {k.removeprefix("head-"): a for k, a in arrays.items() if k.startswith("head-")}
        fitted = find_model(setup.model).head().load(Files(fields["head"], texts, own))
        reduction = Reduction.from_files(fields["columns"], arrays)
        try:
            empty = np.zeros((1, reduction.parts[-1].stop), np.float32)
            tried = fitted.predict(reduction.apply(empty))
        except Exception as error:  # noqa: BLE001  (LightGBM and numpy each raise their own)
            raise ValueError(f"its parts do not fit each other ({error})") from error
        if len(reduction.parts) != len(parse_features(setup.features)):
            raise ValueError("its columns are not those of its features")
        target = Target.from_json(fields["target"])
        if tried.shape != (1, target.width(types)):
            raise ValueError(f"{types} cell types, but models for {tried.shape[1]} targets")
        sections = Sections.from_files(fields.get("sections"), arrays, reduction.parts[-1].stop)
        return cls(target, reduction, fitted, setup.smooth, sections)


def features_for(store: EmbeddingStore, layout: Layout, setup: Setup) -> Features:
    """Features of a layout: in memory, or in the store if large and readable in pieces."""
    size = sum(map(len, layout.spots)) * layout.blocks[-1].stop * 4
    if size > MOST_BYTES and reads_rows(layout, setup):
        return StoredFeatures(store, layout, setup.standardize)
    return assemble(store, layout, setup.standardize)


def reads_rows(layout: Layout, setup: Setup) -> bool:
    """Whether a setup can be fitted on pieces of rows."""
    reduced = any(block.term.components for block in layout.blocks)
    return setup.model in ROWWISE and setup.standardize != "training" and not reduced


def fit_predictor(
    matrix: Features, slides: Sequence[int], setup: Setup, jobs: int | None = None
) -> Predictor:
    """Train on the labelled slides of a matrix with these indices, on at most `jobs` cores."""
    layout = matrix.layout
    blocks = [matrix.block(slide) for slide in slides]
    spots = [layout.spots[slide] for slide in slides]
    predictor = _fit(blocks, layout.blocks, spots, setup, jobs)
    moments = [known for slide in slides if (known := matrix.moments_of(slide)) is not None]
    if not moments or isinstance(predictor.fitted, Constant):
        return predictor
    return replace(predictor, sections=fit_sections(np.stack(moments), spots))


def fit_coords(spots: Sequence[SpotTable], setup: Setup) -> Predictor:
    """Train `coords` on these slides, with the folds and weights of `setup`."""
    term = Term(COORDS)
    setup = replace(
        setup, model="coords", features=COORDS, target="joint", options={}, smooth=0.0, trees=None
    )
    blocks = [unit_coords(table.xy).astype(np.float32) for table in spots]
    return _fit(blocks, [Block(term, (Columns(term, 0, 2),))], spots, setup, None)


def _fit(
    blocks: Sequence[BlockOfSlide],
    layout: Sequence[Block],
    spots: Sequence[SpotTable],
    setup: Setup,
    jobs: int | None,
) -> Predictor:
    # The order of sums, and the last digits that trees split by, must not depend on the cores.
    with one_blas_thread():
        abundances = [abundance_of(table) for table in spots]
        target = fit_target(target_of(setup.model, setup.target), np.concatenate(abundances))
        reduction = fit_reduction(layout, blocks, setup.seed, setup.standardize == "training")
        training = Training(
            blocks=[reduction.apply(block) for block in blocks],
            targets=[target.forward(abundance_of(t), ranks_of(t)) for t in spots],
            weights=spot_weights([len(table) for table in spots], setup.balance),
            groups=group_keys(spots, setup.group_by),
            scale=reduction.scale(),
            parts=target.parts(abundances[0].shape[1]),
            seed=setup.seed,
            jobs=jobs,
            options=setup.options,
            trees=setup.tree_types(spots[0].cell_types),
        )
        fitted = find_model(setup.model).head().fit(training)
    return Predictor(target, reduction, fitted, setup.smooth)


def spot_weights(sizes: Sequence[int], balance: str) -> list[Array]:
    """Sample weights, mean 1; with `balance` ``"slide"``, the same sum for every slide."""
    if balance == "none":
        return [np.ones(size) for size in sizes]
    each = sum(sizes) / len(sizes)
    return [np.full(size, each / size) for size in sizes]


def warn_if_constant(predicted: Array, what: str) -> None:
    """Warn if predictions (N, T) for one slide are nearly constant across spots."""
    total = float(np.var(predicted))
    between = float(np.var(predicted, axis=0).mean())
    if len(predicted) > 1 and between <= HARDLY_VARIES * total:
        warn(
            f"{what}: predictions hardly vary across spots; this is close to one constant "
            "profile, whatever its per-spot score"
        )
