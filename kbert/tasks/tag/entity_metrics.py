"""Measure precision, recall and F1 of entities as seqeval does: an entity is right if its span and type are.

In: gold and predicted spans, row by row. Out: metrics, the confusion between types, mistaken rows. Only
counts are kept, and the mistakes to be shown. Spans of one row are never compared with those of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kbert.data.spans import Span
from kbert.tasks import figures, markdown

OUTSIDE = "O"  # in the confusion table: no entity at that span
MISTAKES = 50
ABSENT = {"precision": None, "recall": None, "f1": None}  # for a type in neither gold nor prediction


@dataclass
class Counts:
    """Gold and predicted entities of a set of rows, counted by type."""

    types: Sequence[str]
    rows: int = 0
    tokens: int = 0
    right_tokens: int = 0
    strict: list[int] = field(default_factory=lambda: [0, 0])  # right and gold entities, with gold read in strict mode
    confusion: np.ndarray = field(init=False)  # [types + 1, types + 1], gold by predicted; the first is `OUTSIDE`
    mistakes: list[tuple[str, list[Span], list[Span]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = {kind: i for i, kind in enumerate(self.types, 1)}
        self.confusion = np.zeros((len(self.types) + 1,) * 2, np.int64)

    def add(self, text: str, gold: Sequence[Span], predicted: Sequence[Span], strict: Sequence[Span] | None = None) -> None:
        """Add one row's entities; `strict` is gold as seqeval's strict mode reads it, if that differs."""
        self.rows += 1
        valid = set(gold if strict is None else strict)
        self.strict[0] += len(valid & set(predicted))
        self.strict[1] += len(valid)
        at = {(start, end): self.numbers[kind] for start, end, kind in gold}
        found = {(start, end): self.numbers[kind] for start, end, kind in predicted}
        for place in at.keys() | found.keys():
            self.confusion[at.get(place, 0), found.get(place, 0)] += 1
        if at != found and len(self.mistakes) < MISTAKES:
            self.mistakes.append((text, list(gold), list(predicted)))

    def add_tokens(self, count: int, right: int) -> None:
        """Add tokens or words, and the number of those with the right tag."""
        self.tokens += count
        self.right_tokens += right

    def report(self) -> dict[str, Any]:
        """Return JSON values: `micro` and `macro` (the mean over types that occur in gold or predicted) and each of
        `per_type` hold precision, recall and f1, 0 where undefined, None for a type that does not occur; `confusion` has a row
        for each gold type, a column for each predicted one, "O" first: no entity of any type at exactly that span (for
        very many types `most_confused` instead, see `kbert.tasks.figures.confusion`). `strict` holds
        seqeval's metrics in strict mode, with the scheme of gold (predictions read the same in both modes);
        `warnings`, if any, list reasons why the figures mean little.
        """
        right = np.diag(self.confusion)[1:]
        gold, predicted = self.confusion.sum(1)[1:], self.confusion.sum(0)[1:]
        per_type = {
            kind: {
                **(_scores(int(right[i]), int(gold[i]), int(predicted[i])) if gold[i] or predicted[i] else ABSENT),
                "gold": int(gold[i]),
                "predicted": int(predicted[i]),
            }
            for i, kind in enumerate(self.types)
        }
        warnings = []
        if not gold.any():
            warnings.append("no entity in any row: precision, recall and F1 mean nothing")
        elif not predicted.any():
            warnings.append(f"no entity predicted in {self.rows:,} rows, but gold has {int(gold.sum()):,}")
        elif np.count_nonzero(predicted) == 1 < np.count_nonzero(gold):
            only = self.types[int(predicted.argmax())]
            of = np.count_nonzero(gold)
            warnings.append(f"only entities of type {only!r} are predicted, but gold has {of} types")
        at, found = np.nonzero(self.confusion)
        seen: list[Any] = [scores for scores in per_type.values() if scores["gold"] or scores["predicted"]]
        return {
            "rows": self.rows,
            "micro": _scores(int(right.sum()), int(gold.sum()), int(predicted.sum())),
            "macro": {name: sum(scores[name] for scores in seen) / max(len(seen), 1) for name in ("precision", "recall", "f1")},
            "strict": _scores(self.strict[0], self.strict[1], int(predicted.sum())),
            "token_accuracy": self.right_tokens / self.tokens if self.tokens else 0.0,
            "per_type": per_type,
            "gold": int(gold.sum()),
            "predicted": int(predicted.sum()),
            **figures.confusion("confusion", at, found, self.confusion[at, found], (OUTSIDE, *self.types)),
            **({"warnings": warnings} if warnings else {}),
        }


def _scores(right: int, gold: int, predicted: int) -> dict[str, float]:
    precision = right / predicted if predicted else 0.0
    recall = right / gold if gold else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0.0,
    }


def table(report: dict[str, Any]) -> str:
    """Format a report as a table."""
    columns = [(name, name, 8 if name == "gold" else 10) for name in ("precision", "recall", "f1", "gold", "predicted")]
    averages = {name: {**report[name], "gold": report["gold"], "predicted": report["predicted"]} for name in ("macro", "micro")}
    lines = figures.table(columns, report["per_type"], averages)
    strict = f"   strict f1 {report['strict']['f1']:.4f}" if "strict" in report else ""  # older reports have none
    lines.append(f"entities' f1 {report['micro']['f1']:.4f}{strict}   token accuracy {report['token_accuracy']:.4f}")
    return "\n".join(lines)


def mistakes_markdown(mistakes: Sequence[tuple[str, Sequence[Span], Sequence[Span]]]) -> str:
    """Format mistaken rows with gold and predicted entities; omit entities in both."""
    rows = []
    for text, gold, predicted in mistakes:
        missed = [span for span in gold if span not in predicted]
        wrong = [span for span in predicted if span not in gold]
        rows.append((text, _listed(text, missed), _listed(text, wrong)))
    return markdown.table(("text", "gold", "predicted"), rows)


def _listed(text: str, spans: Sequence[Span]) -> str:
    return "; ".join(f"{kind}: {text[start:end]} ({start}–{end})" for start, end, kind in spans)
