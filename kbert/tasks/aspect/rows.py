"""Read rows of texts and aspects. No TensorFlow."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from kbert.errors import UsageError
from kbert.settings import from_json
from kbert.source import SourceConfig
from kbert.tasks.aspect import names
from kbert.tasks.aspect.audit import AspectAudit
from kbert.tasks.aspect.options import AspectOptions
from kbert.tasks.rows import TaskRows


class AspectRows(TaskRows):
    """The rows of `aspect`; see `kbert.tasks.rows.TaskRows` for the methods."""

    split_by: ClassVar[slice] = slice(1)  # all rows of a text stay together

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        count = len(source.text_columns)
        if count not in (1, 2):
            raise UsageError(
                f"--text_columns={','.join(source.text_columns)}: expected one, the text, if each aspect has a column; "
                "or two, text and aspect, if each row is about one"
            )
        return ("text", "aspect")[:count]

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, *label_columns(source))

    @staticmethod
    def resolve_options(options: AspectOptions, source: SourceConfig) -> AspectOptions:
        file = options.aspect_names
        if len(source.text_columns) == 1:
            aspects = names.named(label_columns(source), file)
        else:
            aspects = () if file is None else names.read_names(file)
        return dataclasses.replace(options, aspects=aspects, aspect_names=None)

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> AspectAudit:
        known: AspectOptions = from_json(AspectOptions, options or {}, "options")
        return AspectAudit(source, known.aspects, len(fields) == 1, labels, learns=known.filter in ("auto", "tfn"))


def label_columns(source: SourceConfig) -> tuple[str, ...]:
    """Return the label columns: those of the aspects, comma-separated, or a single one if rows name their aspect."""
    columns = source.label_columns
    if not columns or not all(columns) or (len(source.text_columns) == 2 and len(columns) > 1):
        raise UsageError(
            f"--label_column={source.label_column}: expected the column of each aspect, comma-separated, or with two "
            "--text_columns the one column of labels"
        )
    return columns


ROWS = AspectRows
