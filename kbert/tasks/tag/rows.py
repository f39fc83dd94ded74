"""Read rows of texts with entities, and check them before training. No TensorFlow."""

from collections.abc import Sequence
from typing import Any, ClassVar

from kbert.checkpoints.head import Head
from kbert.data.entity_reader import EntityReader
from kbert.data.label_names import LabelNames, not_among
from kbert.data.spans import check_spans, read_spans
from kbert.data.table import Table
from kbert.data.tokens import Tokens
from kbert.errors import DataError, UsageError
from kbert.settings import from_json
from kbert.source import SourceConfig
from kbert.tasks.rows import TaskRows
from kbert.tasks.tag.options import TagOptions
from kbert.tasks.tag.outputs import Outputs


class EntityAudit:
    """Checks the entities of each row and collects their types, or checks rows against given types."""

    def __init__(self, source: str, allowed: Sequence[str] | None):
        self.source = source
        self.allowed = None if allowed is None else dict.fromkeys(allowed)
        self.names = LabelNames("type")
        self.found: set[str] = set()

    def __call__(self, values: tuple[str, ...]) -> str | None:
        text, _, gold = values
        spans = read_spans(gold)
        check_spans(spans, text)
        kinds = list(dict.fromkeys(kind for _, _, kind in spans))
        for kind in kinds:
            if self.allowed is not None and kind not in self.allowed:
                known = f"{', '.join(self.allowed)}{not_among(kind, self.allowed)}"
                raise ValueError(f"type {kind!r} is not among the model's: {known}")
        notes = [self.names.add(kind) for kind in kinds] if self.allowed is None else []
        self.found.update(kinds)
        return "; ".join(filter(None, notes))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted(self.found) if self.allowed is None else self.allowed)

    def finish(self) -> None:
        """Raise DataError if no row has an entity: precision, recall and F1 are then undefined."""
        if not self.found:
            raise DataError(f"{self.source}: no entity in any row, so nothing can be measured")

    def check_learnable(self) -> list[str]:
        if not self.found:
            raise DataError(f"{self.source}: no entity in any row; is --label_column the right one?")
        return []


class TagRows(TaskRows):
    """The rows of `tag`; see `kbert.tasks.rows.TaskRows` for the methods."""

    split_by: ClassVar[slice] = slice(None)

    @staticmethod
    def nested(options: dict[str, Any]) -> bool:
        return True

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        if len(source.text_columns) != 1:
            raise UsageError(f"--text_columns names {len(source.text_columns)} columns; expected one, the text")
        return ("text",)

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, source.label_column)

    @staticmethod
    def reader(source: SourceConfig) -> EntityReader:
        return EntityReader(source)

    @staticmethod
    def tokens(options: dict[str, Any]) -> Tokens:
        read: TagOptions = from_json(TagOptions, options, "options")
        return read.tokens

    @staticmethod
    def resolve_options_from_rows(table: Table, options: dict[str, Any]) -> dict[str, Any]:
        if options["tokens"] == "auto":
            options = {**options, "tokens": table.resolve_tokens()}
        found = table.scheme()
        return options if found is None else {**options, "scheme": found.scheme, "untyped": found.untyped}

    @staticmethod
    def fit_to_head(head: Head, labels: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        """Take over the outputs of a tagger of another scheme, BIOES for one, that has all tags of these labels."""
        if head.kind != "tagger" or options["decoder"] != head.options.get("decoder", "softmax"):
            return options
        try:
            outputs = Outputs.read(head.names)
        except ValueError:
            return options
        if outputs.plain or outputs.lacking or {*outputs.types} != {*labels}:
            return options
        return {**options, "outputs": list(outputs.names)}

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> EntityAudit:
        return EntityAudit(source, labels)


ROWS = TagRows
