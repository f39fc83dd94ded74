"""Read rows of titles and texts, with labels or without. No TensorFlow."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from kbert.checkpoints.head import Head
from kbert.errors import UsageError
from kbert.settings import from_json
from kbert.source import SourceConfig
from kbert.tasks.match.audit import FIELDS, MatchAudit
from kbert.tasks.match.options import MatchOptions
from kbert.tasks.rows import TaskRows


class MatchRows(TaskRows):
    """The rows of `match`; see `kbert.tasks.rows.TaskRows` for the methods."""

    usual: ClassVar[dict[str, str]] = {
        "label": "--label_column=label",
        "title": "--text_columns=title,text",
        "text": "--text_columns=title,text",
        "negative": "--text_columns=TITLE,TEXT,negative",
    }
    split_by: ClassVar[slice] = slice(None)
    former_split_by: ClassVar[slice | None] = slice(1, None)

    @staticmethod
    def fit_to_head(head: Head, labels: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        """Take over the dense layers of an adopted model of two vectors, and whether it scales them."""
        if head.kind != "vectors" or options["scorer"] != "dual":
            return options
        return {**options, **{name: head.options[name] for name in ("projections", "normalize") if name in head.options}}

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        if len(source.text_columns) < 2:
            raise UsageError(
                f"--text_columns={','.join(source.text_columns)}: two are needed, of the title and of the text; further ones "
                "hold texts that are wrong for the title"
            )
        return FIELDS

    @staticmethod
    def resolve_options(options: MatchOptions, source: SourceConfig) -> MatchOptions:
        """Return the options; raise UsageError for one that has no effect."""
        dual, labelled = options.scorer == "dual", bool(source.label_column)
        drawn = "--scorer=dual takes a batch's other texts" if dual else "the rows are labelled"
        for name, idle, why in (
            ("negatives", dual or labelled, f"{drawn}; none are drawn"),
            ("gradient_cache", not dual, "it is for --scorer=dual"),
            ("temperature", not dual or labelled, "it is for --scorer=dual on rows without labels"),
            ("margin", options.loss != "contrastive", "it is for --loss=contrastive"),
        ):
            value = getattr(options, name)
            if idle and value != getattr(MatchOptions, name):
                raise UsageError(f"--{name}={value}: {why}")
        own = source.text_columns[len(FIELDS) :]
        if own and labelled:
            raise UsageError(
                f"--text_columns={','.join(source.text_columns)}: {own[0]} would be a column of negatives, for rows without "
                "--label_column"
            )
        return dataclasses.replace(options, own_negatives=len(own))

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns[: len(FIELDS)], *([source.label_column] if source.label_column else []))

    @classmethod
    def learnt_columns(cls, source: SourceConfig, options: dict[str, Any]) -> tuple[str, ...]:
        return (*cls.columns(source), *source.text_columns[len(FIELDS) :])

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> MatchAudit:
        known: MatchOptions = from_json(MatchOptions, options or {}, "options")
        dual = known.scorer == "dual"
        drawn = not dual or known.hard_negatives + known.own_negatives > 0
        return MatchAudit(source, labels, measured_drawn=not dual, learnt_drawn=drawn)


ROWS = MatchRows
