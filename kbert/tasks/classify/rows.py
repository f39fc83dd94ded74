"""Read rows of a text, or of a pair of texts, and their gold by objective. No TensorFlow."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from kbert.data.table import Table
from kbert.errors import UsageError
from kbert.settings import from_json, to_json
from kbert.source import SourceConfig
from kbert.tasks.classify.class_weights import read_weights
from kbert.tasks.classify.gold import Gold, OfClasses
from kbert.tasks.classify.multilabel_gold import OfSeveralLabels
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.classify.regression_gold import OfNumbers, number_of
from kbert.tasks.rows import Audit, TaskRows

GOLD: dict[str, type[Gold]] = {"multiclass": OfClasses, "multilabel": OfSeveralLabels, "regression": OfNumbers}


class ClassifyRows(TaskRows):
    """The rows of `classify`; see `kbert.tasks.rows.TaskRows` for the methods."""

    split_by: ClassVar[slice] = slice(None)
    several: ClassVar[str] = "several labels a row are learnt with --objective=multilabel"

    @staticmethod
    def nested(options: dict[str, Any]) -> bool:
        return bool(options["objective"] == "multilabel")

    @staticmethod
    def separator(options: dict[str, Any]) -> str | None:
        return options.get("label_separator", ClassifyOptions.label_separator) if options["objective"] == "multilabel" else None

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        names = ("text", "text_b")
        if len(source.text_columns) not in (1, 2):
            raise UsageError(f"--text_columns names {len(source.text_columns)} columns; one text or a pair can be classified")
        return names[: len(source.text_columns)]

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, *source.label_columns)

    @classmethod
    def learnt_columns(cls, source: SourceConfig, options: dict[str, Any]) -> tuple[str, ...]:
        weight = options["sample_weight_column"]
        return (*cls.columns(source), *([weight] if weight else []))

    @staticmethod
    def check_learnt(values: tuple[str, ...], options: dict[str, Any]) -> None:
        """Check the weight of a training row, after its other values."""
        if options["sample_weight_column"]:
            try:
                weight = number_of(values[-1])
            except ValueError:
                weight = -1.0
            if weight < 0:
                raise ValueError(f"--sample_weight_column: expected a number of at least 0, found {values[-1]!r}")

    @staticmethod
    def resolve_options(options: ClassifyOptions, source: SourceConfig) -> ClassifyOptions:
        columns = GOLD[options.objective].label_columns(source)
        if options.class_weights not in ("none", "balanced"):
            read_weights(options.class_weights)  # a mistake in it is found now
        return dataclasses.replace(options, label_columns=columns)

    @staticmethod
    def fit_options(table: Table, fields: int, labels: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        known: ClassifyOptions = from_json(ClassifyOptions, options, "options")
        fitted: dict[str, Any] = to_json(GOLD[known.objective].fit(table, fields, labels, known))
        return fitted

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> Audit:
        known: ClassifyOptions = from_json(ClassifyOptions, options or {}, "options")
        return GOLD[known.objective].audit(source, len(fields), labels, known)


ROWS = ClassifyRows
