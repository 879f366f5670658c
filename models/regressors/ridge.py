r"""Ridge regression whose penalties are chosen over stimuli, in whichever of its two forms is smaller.

.. math:: \hat Y = \bar Y + (X - \bar X) X_c^T \alpha, \qquad
          \alpha = (X_c X_c^T + \lambda I)^{-1} Y_c = U \frac{1}{s + \lambda} U^T Y_c

with ``X`` features (row, feature), ``Y`` targets (row, target), subscript c for centred over the training rows, and
``U``, ``s`` the eigenvectors and eigenvalues of :math:`X_c X_c^T` (Saunders, Gammerman & Vovk 1998). Once the targets
are rotated by U, a penalty for each target costs no more than one for all. `models.regressors.penalty` chooses
them.

Variance matching (`variance_matching`, e): a ridge shrinks the components of a target that the brain tells least most
of all, so its predictions vary in few directions and resemble each other. The k-th predicted component, less its mean,
is therefore multiplied by

.. math:: g_k = \left(\frac{\mathrm{sd}(Y_k)}{\mathrm{sd}(\hat Y_k)}\right)^e

with the standard deviations over the training rows of the target's component and of its leave-one-stimulus-out
prediction. With e = 1 predictions vary as the targets do; with e = ½ half of the shrinkage is taken back, in
logarithms. The squared error rises and the correlation falls a little; identification of one stimulus among
others rises, as patterns differ more. Rescaling predictions to the spread of what is predicted is the oldest
correction of regression's shrinkage ("variance matching", or scaling, of palaeoclimate reconstruction: Jones & Mann
2004, *Reviews of Geophysics* 42, RG2002); that it helps identification from brains, and that half does better than all
where a brain tells little, we measured (docs/training.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from models.decoders.rows import FeatureCache, RegressorRows, RowsByRole, flat_targets
from models.regressors.basis import Basis, blocks
from models.regressors.identification import identification_errors, mean_direction, variance_gains
from models.regressors.penalty import (
    Centred,
    PenaltyPer,
    Search,
    Spectrum,
    left_out_residuals,
    penalty_errors,
    search_penalties,
    summary,
)
from models.regressors.settings import Criterion, RidgeConfig
from models.training.loop import Context
from models.weights.tensor_file import LazyMapping, SpillingTensorStore, Stored, Tensors, common

Array = NDArray[Any]
RANK = 1e-10
"""Eigenvalues below this share of the largest are rounding."""


STORED_AS = {"centre": "centre", "weights": "weights", "offset": "offset", "alphas": "penalties", "errors": "errors"}
"""The names of a fit's tensors on disk."""
ADDED = ("candidates", "ends")
"""Tensors that fits of earlier versions lack."""


@dataclass(frozen=True)
class RidgeFit:
    """One subject's fitted ridge.

    Attributes
    ----------
    centre : (feature,) mean of the training features
    rows : (row, feature) centred training features in the dual form, None in the primal form
    weights : (row, target) in the dual form, (feature, target) in the primal form
    offset : (target,) mean of the training targets
    alphas : (1,) or (target,) chosen penalties, in units of the mean eigenvalue of the Gram matrix
    errors : (candidate,) or (candidate, target) held-out error of each candidate over that of the training mean; by
        identification, one minus the two-way score
    gains : (target,) what variance matching has multiplied predictions by, which `weights` hold already; None without
    candidates, ends : see `models.regressors.penalty.Search`
    """

    centre: Array
    rows: Array | None
    weights: Array
    offset: Array
    alphas: Array
    errors: Array
    gains: Array | None = None
    candidates: Array = field(default_factory=lambda: np.empty(0))
    ends: Array = field(default_factory=lambda: np.zeros(3, np.int64))

    def predict(self, features: Array) -> NDArray[np.float32]:
        """Return predictions (row, target) float32 for features (row, feature)."""
        inner = features - self.centre
        if self.rows is not None:
            inner = inner @ self.rows.T
        return np.asarray(inner @ self.weights + self.offset, dtype=np.float32)

    def state(self, prefix: str) -> Tensors:
        """Return tensors for `models.weights.tensor_file.save_weights`, their names led by a prefix."""
        optional = {"rows": self.rows, "gains": self.gains}
        there = {f"{prefix}.{name}": values for name, values in optional.items() if values is not None}
        named = STORED_AS | {name: name for name in ADDED}
        return there | {f"{prefix}.{stored}": getattr(self, name) for name, stored in named.items()}

    @classmethod
    def from_state(cls, tensors: Stored, prefix: str) -> "RidgeFit":
        """Return the fit whose `state` had this prefix."""
        stored = {name: tensors[f"{prefix}.{stored}"] for name, stored in STORED_AS.items()}
        added = {name: tensors[f"{prefix}.{name}"] for name in ADDED if f"{prefix}.{name}" in tensors}
        return cls(rows=tensors.get(f"{prefix}.rows"), gains=tensors.get(f"{prefix}.gains"), **stored, **added)


def fit_ridge(
    features: Array,
    targets: Array,
    stimuli: Sequence[str],
    alphas: Sequence[float],
    *,
    criterion: Criterion = "leave_one_stimulus_out",
    penalty_per: PenaltyPer = "role",
    exponents: Sequence[float] = (0.0,),
    components: Array | None = None,
    grow: bool = True,
) -> RidgeFit:
    """Fit one ridge and choose its penalties over stimuli.

    Parameters
    ----------
    features : (row, feature)
    targets : (row, target)
    stimuli : one per row
    alphas : candidate penalties, in units of the mean eigenvalue of the Gram matrix
    criterion, penalty_per, grow : as in `RidgeConfig`
    exponents : of variance matching, 0 for none; several are candidates of the criterion `identification`
    components : (target, value) orthonormal, where targets are coefficients of these

    Raises
    ------
    ModelError
        Fewer than three stimuli, repeated stimuli with ``gcv``, features or targets that are not finite, or features
        that do not vary.
    """
    _check(features, targets, stimuli, criterion)
    choice = _Choice(alphas, criterion, penalty_per, exponents, components, grow)
    return _fit(Centred.of(features), targets, stimuli, choice)


@dataclass(frozen=True)
class _Choice:
    """The candidates, and by what one is chosen; see `fit_ridge`."""

    alphas: Sequence[float]
    criterion: Criterion
    penalty_per: PenaltyPer
    exponents: Sequence[float] = (0.0,)
    components: Array | None = None
    grow: bool = True

    @classmethod
    def of(cls, config: RidgeConfig, basis: Basis | None) -> "_Choice":
        vectors = None if basis is None else basis.vectors
        return cls(config.alphas, config.criterion, config.penalty_per, config.exponents, vectors, config.grow)

    def search(
        self, spectrum: Spectrum, rotated: Array, left_out: Sequence[str], stimuli: Sequence[str]
    ) -> tuple[Search, float]:
        """Return the penalties that were chosen, and the exponent of variance matching.

        `left_out` says which rows are left out together, `stimuli` what each row is of.
        """
        if self.criterion != "identification":
            errors = penalty_errors(spectrum, rotated, left_out, criterion=self.criterion, penalty_per=self.penalty_per)
            return search_penalties(errors, self.alphas, grow=self.grow), self.exponents[0]
        values = rotated.shape[1] if self.components is None else self.components.shape[1]
        direction, absolute = mean_direction(self.components, values), np.asarray(self.alphas) * spectrum.values.mean()
        tried = []
        for exponent in self.exponents:
            missed = identification_errors(
                spectrum, rotated, left_out, list(absolute), stimuli=stimuli, direction=direction, exponent=exponent
            )
            tried.append((search_penalties(lambda *_, found=missed: found, self.alphas, squared=False), exponent))
        return min(tried, key=lambda pair: float(pair[0].errors.min()))


def _fit(
    features: Centred, targets: Array, left_out: Sequence[str], choice: _Choice, stimuli: Sequence[str] | None = None
) -> RidgeFit:
    rows, spectrum = features.rows, features.spectrum
    offset = targets.mean(axis=0, dtype=np.float64)
    rotated = spectrum.rotate(targets, offset)
    unit = spectrum.values.mean()
    found, exponent = choice.search(spectrum, rotated, left_out, left_out if stimuli is None else stimuli)
    chosen = found.chosen
    primal = rows.shape[1] * len(offset) <= len(rows) * (rows.shape[1] + len(offset))
    weights = (features.primal if primal else features.dual)(rotated, chosen * unit)
    gains = None
    if exponent:
        predicted = targets - _left_out(spectrum, rotated, left_out, chosen * unit)
        gains = variance_gains(targets, predicted, exponent).astype(np.float32)
        weights *= gains
    return RidgeFit(
        centre=features.centre.astype(np.float32),
        rows=None if primal else rows,
        weights=weights,
        offset=offset.astype(np.float32),
        alphas=chosen,
        errors=found.errors,
        gains=gains,
        candidates=found.candidates,
        ends=found.ends,
    )


def _left_out(spectrum: Spectrum, rotated: Array, stimuli: Sequence[str], penalties: Array) -> Array:
    """Return the residuals (row, target) of left-out stimuli, for one absolute λ or one a target."""
    residuals = np.empty_like(rotated)
    each = np.broadcast_to(penalties, rotated.shape[1:])
    for penalty in np.unique(each):
        columns = np.flatnonzero(each == penalty)
        for part in blocks(len(columns)):
            chosen = columns[part]
            residuals[:, chosen] = left_out_residuals(spectrum, rotated[:, chosen], stimuli, float(penalty))
    return residuals


def left_out_predictions(features: Array, targets: Array, stimuli: Sequence[str], fit: RidgeFit) -> NDArray[np.float32]:
    """Return what a fit would have predicted for its own training rows, had each row's stimulus been left out.

    The chosen penalties are kept; nothing is fitted again (see `models.regressors.penalty`).

    Parameters
    ----------
    features : (row, feature)
    targets : (row, target)
    stimuli : one per row
    fit : what `fit_ridge` returned for these rows

    Returns
    -------
    predictions : (row, target) float32

    Raises
    ------
    ModelError
        The rows are not those that the ridge was fitted on.
    """
    centred = Centred.of(features)
    centre, spectrum = centred.centre, centred.spectrum
    offset = targets.mean(axis=0, dtype=np.float64)
    same = centre.shape == fit.centre.shape and offset.shape == fit.offset.shape
    if not same or not np.allclose(centre, fit.centre, atol=1e-4 * float(centred.rows.std())):
        raise ModelError(
            f"ridge: {len(features)} rows of {len(centre)} features and {len(offset)} target values are not those it "
            "was fitted on; held-out predictions exist for its own training rows only; pass those"
        )
    rotated = spectrum.rotate(targets, offset)
    residuals = _left_out(spectrum, rotated, stimuli, fit.alphas * spectrum.values.mean())
    predictions = targets.astype(np.float32) - residuals.astype(np.float32)
    return predictions if fit.gains is None else (fit.offset + (predictions - fit.offset) * fit.gains)


@dataclass(frozen=True)
class Ridge:
    """Ridge regressions of all subjects for one role.

    Attributes
    ----------
    target : name of the target it predicts, for example ``"latents"``
    shape : shape of one stimulus's target
    fits : per subject; one that lies on disk is mapped when it is asked for
    basis : the components that the fits predict, None if they predict the targets themselves
    """

    target: str
    shape: tuple[int, ...]
    fits: Mapping[str, RidgeFit]
    basis: Basis | None = None

    @classmethod
    def fit(
        cls, config: RidgeConfig, target: str, data: dict[str, RegressorRows], context: Context | None = None
    ) -> "Ridge":
        """Fit every subject's ridge; the targets' shape is that of their rows."""
        return cls.fit_roles(config, {"role": (target, data)}, context)["role"]

    @classmethod
    def fit_roles(
        cls,
        config: RidgeConfig,
        roles: RowsByRole,
        context: Context | None = None,
        features: FeatureCache | None = None,
    ) -> dict[str, "Ridge"]:
        """Fit several roles, subject by subject: the features of one are in memory at a time.

        Parameters
        ----------
        features : the features that the rows of all roles have: what they alone decide is worked out once a subject
        """
        bases = {role: basis_of(config, data) for role, (_, data) in roles.items()}
        stores = {role: SpillingTensorStore(None if context is None else context.scratch) for role in roles}
        subjects = list(next(iter(roles.values()))[1])
        for subject in subjects:
            rows = {role: data[subject] for role, (_, data) in roles.items()}
            _fit_subject(config, subject, rows, bases, stores, features)
        return {
            role: cls(target, next(iter(data.values())).shape, _fits(stores[role], subjects), bases[role])
            for role, (target, data) in roles.items()
        }

    @property
    def widths(self) -> tuple[int, int]:
        """Features that go in and target values that come out; -1 where subjects differ."""
        return common([len(fit.centre) for fit in self.fits.values()]), int(np.prod(self.shape))

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""
        return list(self.fits)

    def predict(self, subject: str, features: Array) -> Array:
        """Return predictions (row, *shape) float32."""
        return self._targets(self.fits[subject].predict(features))

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`."""
        tensors: Tensors = {} if self.basis is None else self.basis.state("basis")
        for subject, fit in self.fits.items():
            tensors |= fit.state(f"subjects.{subject}")
        config: dict[str, Any] = {
            "part": "regressor",
            "kind": "ridge",
            "target": self.target,
            "shape": list(self.shape),
        }
        config["penalties"] = {subject: summary(fit.alphas, fit.ends) for subject, fit in self.fits.items()}
        gains = {subject: _summary(fit.gains) for subject, fit in self.fits.items() if fit.gains is not None}
        if gains:
            config["variance_matching"] = gains
        if self.basis is not None:
            config["components"] = len(self.basis.vectors)
            config["explained_variance"] = self.basis.explained_variance
        return config, tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Ridge":
        """Return the regressor that `state` described."""
        fits = _fits(tensors, list(config["penalties"]))
        basis = Basis.from_state(tensors, "basis") if "components" in config else None
        return cls(config["target"], tuple(config["shape"]), fits, basis)

    def _targets(self, predicted: Array) -> Array:
        expanded = predicted if self.basis is None else self.basis.expand(predicted)
        return expanded.reshape(len(predicted), *self.shape)


def basis_of(config: RidgeConfig, data: dict[str, RegressorRows]) -> Basis | None:
    """Return the components that a ridge is regressed onto, None for the targets themselves.

    Variance matching needs components: without `components` they are all that the training targets have, which change
    neither the penalty that is chosen nor what an unmatched ridge predicts.
    """
    if config.components is not None:
        return Basis.fit_rows(data, config.components)
    if config.variance_matching is None:
        return None
    return Basis.fit_rows(data, sum(len(set(rows.stimuli)) for rows in data.values()))


def _fits(tensors: Stored, subjects: list[str]) -> LazyMapping[RidgeFit]:
    """Return the fits whose tensors have these names; one is read, or mapped, when it is asked for."""
    return LazyMapping(subjects, lambda subject: RidgeFit.from_state(tensors, f"subjects.{subject}"))


def _fit_subject(
    config: RidgeConfig,
    subject: str,
    roles: dict[str, RegressorRows],
    bases: dict[str, Basis | None],
    stores: dict[str, SpillingTensorStore],
    shared: FeatureCache | None,
) -> None:
    """Put a subject's fit of every role into its store."""
    centred: Centred | None = None
    for role, rows in roles.items():
        basis, features = bases[role], rows.features if shared is None else shared.features_of(subject)
        targets = flat_targets(rows) if basis is None else basis.project(flat_targets(rows))
        _check(features, targets, rows.stimuli, config.criterion)
        if centred is None or shared is None:
            centred = Centred.of(features)
        fit = _fit(centred, targets, rows.left_out, _Choice.of(config, basis), rows.stimuli)
        stores[role].put(fit.state(f"subjects.{subject}"))


def _check(features: Array, targets: Array, stimuli: Sequence[str], criterion: Criterion) -> None:
    count = len(set(stimuli))
    if count < 3:
        raise ModelError(f"ridge: {count} training stimuli; at least 3 are needed to choose a penalty")
    if criterion == "gcv" and count < len(stimuli):
        raise ModelError(
            f"ridge: {len(stimuli)} rows of {count} stimuli; generalised cross-validation expects one row for each; "
            "average the repetitions (repeats: mean), or choose criterion: leave_one_stimulus_out"
        )
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise ModelError(
            f"ridge: {len(broken)} of {len(features)} feature rows hold NaN or infinity, the first of them row "
            f"{broken[0]}; expected finite values; check those trials' responses, then fit the encoder again"
        )
    if not np.isfinite(targets).all():
        raise ModelError("ridge: the targets hold NaN or infinity; extract them again")
    if (features == features[:1]).all():
        raise ModelError("ridge: the features do not vary over the training stimuli; check the encoder")


def _summary(values: Array) -> dict[str, float]:
    return {
        "lowest": float(values.min()),
        "median": float(np.median(values)),
        "highest": float(values.max()),
    }
