"""Score labels of aspects over a set of rows, and show some texts with the sentences read."""

from typing import Any

import numpy as np

from kbert.config import ModelConfig
from kbert.tasks import markdown
from kbert.tasks.aspect import labels as aspect_labels
from kbert.tasks.aspect import metrics
from kbert.tasks.aspect.options import Aspect
from kbert.tasks.aspect.sentence_recall import BearingSentences
from kbert.tasks.reports import Matrix, Report

SHOWN, SENTENCES = 8, 40  # texts of the panel, and sentences of each


class AspectReport(Report):
    """The metrics of a set of rows, with panels of texts."""

    def __init__(self, figures: dict[str, Any], panels: list[str]):
        super().__init__(figures)
        self.panels = panels

    def scalars(self) -> dict[str, float]:
        names = ("loss", *metrics.AVERAGED, metrics.SENTENCES)
        return {name: self.metrics[name] for name in names if name in self.metrics}

    def table(self) -> str:
        return metrics.table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        return {"confusion_matrix": (np.array(self.metrics["confusion_matrix"]), tuple(self.metrics["labels"]))}

    def texts(self) -> dict[str, str]:
        return {"sentences": "\n\n".join(self.panels)} if self.panels else {}


class AspectScorer:
    """Collects label numbers and the gold label's probability, six bytes a row and aspect, and the first few texts.

    Args:
        config: the model's.
        aspects: the model's; empty if rows name terms of their own.
        wide: whether each aspect has a gold column.
    """

    def __init__(self, config: ModelConfig, aspects: tuple[Aspect, ...], wide: bool):
        self.labels, self.aspects, self.wide = config.labels, aspects, wide
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.panels: list[str] = []
        # If all mentions of texts are known, and some texts lack some.
        tells = wide and aspect_labels.NOT_MENTIONED in config.labels
        self.bearing = BearingSentences() if tells else None

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        gold = aspect_labels.numbers(raw, self.aspects, self.labels, self.wide)
        probabilities = predicted["probabilities"]  # [rows, aspects, labels], or [rows, labels] of the row's aspect
        if not self.wide:
            probabilities = np.broadcast_to(probabilities[:, None], (*gold.shape, len(self.labels)))
        found = probabilities.argmax(-1)
        share = np.take_along_axis(probabilities, np.maximum(gold, 0)[:, :, None], 2)[:, :, 0]
        self.parts.append((gold.astype(np.int8), found.astype(np.int8), share))
        if self.bearing is not None:
            mentioned = aspect_labels.mentions(gold, self.aspects, self.labels)
            for row, text in enumerate(raw["text"]):
                sentences, _, read = _sentences(text, predicted, row)
                self.bearing.add(sentences, mentioned[row], np.broadcast_to(read, (len(sentences), mentioned.shape[1])))
        for row in range(min(len(gold), SHOWN - len(self.panels))):
            self.panels.append(self._panel(raw, predicted, gold[row], found[row], row))

    def _panel(
        self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray], gold: np.ndarray, found: np.ndarray, row: int
    ) -> str:
        """Format the label of each aspect of a text, and its sentences with their relevance; those read are marked ●."""
        names = [aspect.name for aspect in self.aspects] or [raw["aspect"][row].decode("utf-8", "replace")]
        verdicts = [
            (name, self.labels[truth], self.labels[guess])
            for name, truth, guess in zip(names, gold, found, strict=True)
            if truth >= 0
        ]
        parts = [markdown.table(("aspect", "gold", "predicted"), verdicts)]
        sentences, relevance, read = _sentences(raw["text"][row], predicted, row)
        questions = aspect_labels.coarse_aspects(self.aspects) if relevance.shape[1] > 1 else ("",)
        # Of very many sentences, show those read, and the most relevant of the others.
        first = np.lexsort((-relevance.max(1), -read.max(1)))[:SENTENCES]
        lines = [
            (sentences[i], *(f"{value:.3f}{' ●' if mark else ''}" for value, mark in zip(relevance[i], read[i], strict=True)))
            for i in sorted(first)
        ]
        if len(sentences) > SENTENCES:
            lines.append((f"(and {len(sentences) - SENTENCES:,} more)", *[""] * relevance.shape[1]))
        parts.append(markdown.table(("sentence", *(f"relevance {name}".strip() for name in questions)), lines))
        return "\n\n".join(parts)

    def result(self) -> AspectReport:
        gold, found, share = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        names = [aspect.name for aspect in self.aspects]
        figures = metrics.report(gold, found, share, names, self.labels)
        recall = None if self.bearing is None else self.bearing.recall()
        return AspectReport(figures if recall is None else {**figures, metrics.SENTENCES: recall}, self.panels)


def _sentences(text: bytes, predicted: dict[str, np.ndarray], row: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return a text's sentences, with their relevance and the fraction read, [sentences, questions] each."""
    shown, count = text.decode("utf-8", "ignore"), int(predicted["sentence_count"][row])
    places = zip(predicted["sentence_start"][row][:count], predicted["sentence_end"][row][:count], strict=True)
    sentences = [shown[start:end] for start, end in places]
    return sentences, predicted["sentence_relevance"][row][:count], predicted["sentence_read"][row][:count]
