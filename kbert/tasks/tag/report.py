"""Score tagged rows and report entity metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.data.conll import read_tags
from kbert.data.schemes import Tags
from kbert.data.spans import Span, read_spans, tag_numbers
from kbert.data.tokens import places
from kbert.tasks.reports import Matrix, Report
from kbert.tasks.tag import entity_metrics


class TagReport(Report):
    """The entity metrics of a set of rows."""

    def __init__(self, metrics: dict[str, Any], mistakes: Sequence[tuple[str, list[Span], list[Span]]] = ()):
        super().__init__(metrics)
        self.mistakes = mistakes

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        strict = {"strict_f1": m["strict"]["f1"]} if "strict" in m else {}  # older reports have none
        return {**m["micro"], **strict, "macro_f1": m["macro"]["f1"], "token_accuracy": m["token_accuracy"]}

    def table(self) -> str:
        return entity_metrics.table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        if "confusion" not in self.metrics:  # too many types
            return {}
        return {"confusion": (np.array(self.metrics["confusion"]), (entity_metrics.OUTSIDE, *self.metrics["per_type"]))}

    def texts(self) -> dict[str, str]:
        return {"mistakes": entity_metrics.mistakes_markdown(self.mistakes)} if self.mistakes else {}


class TagScorer:
    """Counts entities, and tokens with the right tag; words, in rows without tokens.

    In rows with tokens, predicted entities are written as tags in the file's scheme, and compared with its
    tags.

    Args:
        labels: the types of entities.
        places_of: returns where the words of texts are, as `Tag.places` does.
    """

    def __init__(self, labels: Sequence[str], places_of: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]):
        self.types = {kind: i for i, kind in enumerate(labels)}
        self.places_of = places_of
        self.counts = entity_metrics.Counts(labels)

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        gold = [read_spans(spans) for spans in raw["entities"]]
        found = [self._spans(predicted, row) for row in range(len(gold))]
        for row, (text, spans, others) in enumerate(zip(raw["text"], gold, found, strict=True)):
            tags = read_tags(raw["entities"][row])
            strict = None if tags is None else self._compared(raw["tokens"][row], others, *tags)
            self.counts.add(text.decode(), spans, others, strict)
        rest = [row for row in range(len(gold)) if not raw["tokens"][row]]
        where = [values.numpy() for values in self.places_of(tf.constant(raw["text"][rest], tf.string))]
        wanted, given = (tag_numbers([spans[row] for row in rest], self.types, *where)[0] for spans in (gold, found))
        self.counts.add_tokens(len(wanted), int((wanted == given).sum()))

    def _compared(self, tokens: bytes, found: list[Span], scheme: Tags, gold: list[str]) -> list[Span]:
        """Count a row's tokens with the right tag; return its gold entities as seqeval's strict mode reads them."""
        where = places(tokens.decode())
        first, behind = ({place[side]: i for i, place in enumerate(where)} for side in (0, 1))
        tags = scheme.written([(first[start], behind[end] + 1, kind) for start, end, kind in found], len(where))
        self.counts.add_tokens(len(gold), sum(a == b for a, b in zip(tags, gold, strict=True)))
        return [(where[start][0], where[stop - 1][1], kind) for start, stop, kind in scheme.strict(gold)]

    def result(self) -> TagReport:
        return TagReport(self.counts.report(), self.counts.mistakes)

    @staticmethod
    def _spans(predicted: dict[str, np.ndarray], row: int) -> list[Span]:
        columns = [predicted[name][row, : predicted["count"][row]].tolist() for name in ("start", "end", "type")]
        return [(start, end, kind.decode()) for start, end, kind in zip(*columns, strict=True)]
