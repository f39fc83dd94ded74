"""A number for a row: one score, learnt on standardised targets and answered in their own unit."""

import logging
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import PROBLEMS, Head, Unfit, problem_of
from kbert.tasks import figures
from kbert.tasks.base import Tensors
from kbert.tasks.classify.objective import Objective
from kbert.tasks.reports import Report

log = logging.getLogger(__name__)

FIGURES = ("mse", "mae", "pearson", "spearman")


class RegressionReport(Report):
    """The errors and correlations of one set of rows."""

    def scalars(self) -> dict[str, float]:
        return {name: self.metrics[name] for name in ("loss", *FIGURES) if self.metrics[name] is not None}

    def table(self) -> str:
        return "\n".join(f"{name:<10}{figures.formatted(self.metrics[name]):>12}" for name in FIGURES)


class RegressionScorer:
    """Gold and answers of all rows, sixteen bytes a row."""

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        self.parts.append((raw["label"].astype(np.float64), predicted["score"].astype(np.float64)))

    def result(self) -> RegressionReport:
        gold, scores = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        metrics = measured(gold, scores)
        return RegressionReport({**metrics, "loss": metrics["mse"] / self.deviation**2})


def measured(gold: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Compute `mse`, `mae` (scikit-learn), `pearson` and `spearman` (scipy; None where one side is constant); `rows`."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, mean_squared_error

    values: dict[str, Any] = {
        "rows": len(gold),
        "mse": float(mean_squared_error(gold, scores)),
        "mae": float(mean_absolute_error(gold, scores)),
        "pearson": None,
        "spearman": None,
    }
    warnings = []
    if len(gold) > 1 and not figures.constant(gold) and not figures.constant(scores):
        values |= {"pearson": float(pearsonr(gold, scores)[0]), "spearman": float(spearmanr(gold, scores)[0])}
    else:
        warnings.append("pearson, spearman: undefined, as all targets or all answers are equal")
    return {**values, "warnings": warnings} if warnings else values


class Regression(Objective):
    """A number a row; see `Objective` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("mse", "min")
    figures: ClassVar[tuple[str, ...]] = ("loss", *FIGURES)
    method: ClassVar[Literal["classify", "regress"]] = "regress"

    @property
    def size(self) -> int:
        return 1

    def targets(self, raw: Tensors) -> tf.Tensor:
        number = tf.strings.to_number(tf.strings.strip(raw["label"]), tf.float64)
        return tf.cast((number - self.options.target_mean) / self.options.target_deviation, tf.float32)

    def weights(self, targets: tf.Tensor, rows: tf.Tensor | None) -> tf.Tensor | None:
        return rows

    def loss(self, targets: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        return tf.square(tf.cast(scores[:, 0], tf.float32) - targets)

    def decode(self, scores: tf.Tensor) -> Tensors:
        """Compute `score`, float32 [rows], in the unit of the training targets."""
        return {"score": scores[:, 0] * self.options.target_deviation + self.options.target_mean}

    def in_its_form(self, decoded: Tensors) -> Tensors:
        """Return `outputs`, float32 [rows]."""
        return {"outputs": decoded["score"]}

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        return {"score": decoded["score"][row].item()}

    def scorer(self, calibrates: bool) -> RegressionScorer:
        return RegressionScorer(self.options.target_deviation)

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take the layer over, converted from the unit of targets to this run's standardised ones."""
        if problem_of(head) != PROBLEMS["regression"] or head.size != 1:
            raise Unfit(f"its problem_type is {problem_of(head)}, and this run learns a number")
        own = self.options
        kernel = arrays["classifier/kernel"] / own.target_deviation
        bias = (arrays["classifier/bias"] - own.target_mean) / own.target_deviation
        return {
            "classifier/kernel": kernel.astype(np.float32),
            "classifier/bias": bias.astype(np.float32),
        }
