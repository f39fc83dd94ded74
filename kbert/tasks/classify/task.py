"""One label for a text or a pair of texts.

Raw `text` (and `text_b`) in, `label` and `probabilities` out. The head is BERT's own: the pooler
over [CLS], dropout, one dense layer (Devlin et al. 2019, section 4.1; google-research/bert
`run_classifier.py`).
"""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import Head, Unfit, order, ordered
from kbert.config import ModelConfig
from kbert.data.label_names import LabelNames, not_among
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError
from kbert.model import heads
from kbert.model.encoder import Encoder
from kbert.settings import from_json
from kbert.source import SourceConfig
from kbert.tasks import markdown
from kbert.tasks.base import Built, Encoded, Lengths, Task, Tensors
from kbert.tasks.classify import metrics
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.reports import Matrix, Report

log = logging.getLogger(__name__)

FEW_TEXTS = 100  # so many with twice as many labels are hardly texts
SHOWN = 30  # characters of a value in a message
FEW_LABELS = 20  # so many of numbers, or with a row each, may be classes
MISTAKES = 50  # mistaken rows in TensorBoard
MOST_LABELS = 10_000  # more is surely a column of something else


class LabelAudit:
    """Collects the labels, or holds the rows to those given."""

    def __init__(self, source: str, allowed: Sequence[str] | None):
        self.source = source
        if allowed is not None and len(allowed) < 2:
            raise DataError(f"--labels: {len(allowed)} labels; a classifier needs two or more, one a line")
        self.allowed = None if allowed is None else dict.fromkeys(allowed)
        self.names = LabelNames()
        self.found: set[str] = set()
        self.rows = 0
        self.empty = 0  # rows without any text
        self.texts: dict[int, str] = {}  # hash -> beginning of the first different ones

    def __call__(self, values: tuple[str, ...]) -> str | None:
        *texts, label = values
        if self.allowed is not None and label not in self.allowed:
            known = f"{_listed(tuple(self.allowed))}{not_among(label, self.allowed)}"
            raise ValueError(f"label {label!r} is not among the model's labels: {known}")
        note = self.names.add(label) if self.allowed is None else None
        self.rows += 1
        self.empty += not any(text.strip() for text in texts)
        self.found.add(label)
        if len(self.texts) <= FEW_TEXTS:
            self.texts[hash(tuple(texts))] = texts[0][:SHOWN]
        if len(self.found) > MOST_LABELS:
            raise DataError(f"{self.source}: more than {MOST_LABELS:,} different labels; is --label_column the right one?")
        return note

    @property
    def labels(self) -> tuple[str, ...]:
        if self.allowed is not None:
            return tuple(self.allowed)
        numbers = all(label.isascii() and label.removeprefix("-").isdigit() for label in self.found)
        return tuple(sorted(self.found, key=lambda label: (int(label), label) if numbers else (0, label)))

    def finish(self) -> None:
        if self.empty:
            log.warning("%s: rows without any text, of which only special tokens are read: %d", self.source, self.empty)

    def check_learnable(self) -> list[str]:
        if len(self.found) < 2:
            raise DataError(f"{self.source}: one label only ({_listed(tuple(self.found))}); a classifier needs two or more")
        if 2 * len(self.texts) <= len(self.found) > 2 and len(self.texts) <= FEW_TEXTS:
            raise DataError(
                f"{self.source}: {len(self.found):,} different labels ({_shortened(self.found)}) of only {len(self.texts)} "
                f"different texts ({_shortened(self.texts.values())}): are the columns swapped? --columns, "
                "--text_columns and --label_column say which is which"
            )
        if self.allowed is None and len(self.found) > FEW_LABELS:
            found = f"{self.source}: {len(self.found):,} labels in {self.rows:,} rows"
            if all(map(_is_number, self.found)) and not all(label.removeprefix("-").isdigit() for label in self.found):
                raise DataError(
                    f"{found}, all of them numbers ({_listed(self.labels[:5])}, ...), whose order a classifier does not know. "
                    "To predict numbers is regression: for pairs of texts --task=match learns from grades; for single texts "
                    "kbert has no task. To learn each as a class, name them by --labels"
                )
            if 2 * len(self.found) > self.rows:
                raise DataError(
                    f"{found}: most labels have one row, from which no class is learnt; is --label_column the right one? To "
                    "learn them all the same, name them by --labels"
                )
        return []


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _shortened(names: Iterable[str]) -> str:
    return ", ".join(repr(name[:SHOWN]) for name in sorted(names)[:3])


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(map(repr, labels[:20])) + (f" and {len(labels) - 20:,} more" if len(labels) > 20 else "")


class ClassifyReport(Report):
    """`metrics.classification` of one set of rows, and some mistaken ones: their texts, gold, predicted, its probability."""

    def __init__(self, metrics: dict[str, Any], mistakes: Sequence[tuple[str, ...]] = ()):
        super().__init__(metrics)
        self.mistakes = mistakes

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        averages = {f"{average}_f1": m[average]["f1"] for average in metrics.AVERAGES}
        return {"loss": m["loss"], "accuracy": m["accuracy"], **averages}

    def table(self) -> str:
        return metrics.classification_table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        if "confusion_matrix" not in self.metrics:  # too many labels
            return {}
        return {"confusion_matrix": (np.array(self.metrics["confusion_matrix"]), tuple(self.metrics["per_class"]))}

    def texts(self) -> dict[str, str]:
        if not self.mistakes:
            return {}
        fields = ("text", "text_b")[: len(self.mistakes[0]) - 3]
        return {"mistakes": markdown.table((*fields, "gold", "predicted", "probability"), self.mistakes)}


class ClassifyScorer:
    """Label numbers and the gold label's probability, twelve bytes a row; and the first mistaken rows."""

    def __init__(self, labels: Sequence[str], fields: Sequence[str] = ()):
        self.fields = tuple(fields)
        self.mistakes: list[tuple[str, ...]] = []
        self.labels = tuple(labels)
        self.numbers = {label.encode(): i for i, label in enumerate(labels)}
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        truth = np.array([self.numbers[label] for label in raw["label"]], np.int32)
        found = np.array([self.numbers[label] for label in predicted["label"]], np.int32)
        self.parts.append((truth, found, predicted["probabilities"][np.arange(len(truth)), truth]))
        for row in np.flatnonzero(truth != found)[: MISTAKES - len(self.mistakes)]:
            texts = (raw[field][row].decode("utf-8", "replace") for field in self.fields)
            names = (self.labels[number[row]] for number in (truth, found))
            self.mistakes.append((*texts, *names, f"{predicted['probabilities'][row, found[row]]:.4f}"))

    def result(self) -> ClassifyReport:
        gold, predicted, probabilities = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        return ClassifyReport(metrics.classification(gold, predicted, probabilities, self.labels), self.mistakes)


class Classify(Task):
    """The task `classify`; see `kbert.tasks.base.Task` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("accuracy", "max")
    gold: ClassVar[tuple[str, ...]] = ("label",)
    split_by: ClassVar[slice] = slice(None)
    nested: ClassVar[bool] = False
    windowed: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: ClassifyOptions = from_json(ClassifyOptions, config.options, "options")

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        names = ("text", "text_b")
        if len(source.text_columns) not in (1, 2):
            raise UsageError(f"--text_columns names {len(source.text_columns)} columns; one text or a pair can be classified")
        return names[: len(source.text_columns)]

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, source.label_column)

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> LabelAudit:
        return LabelAudit(source, labels)

    def encode(self, raw: Tensors) -> Encoded:
        length = self.config.max_length
        parts = [self.tokenizer.tokenize(raw[field], max_words=length) for field in self.config.fields]
        return self.tokenizer.pack(parts, length)

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths:
        whole = 1 + len(tokens) + np.stack([*tokens.values()], 1).sum(1, keepdims=True)
        return Lengths(whole, np.minimum(whole, self.config.max_length), "texts", f"--max_length={self.config.max_length}")

    def supervise(self, raw: Tensors, encoded: Encoded) -> tf.Tensor:
        names = tf.constant(self.config.labels)
        numbers = tf.lookup.KeyValueTensorInitializer(names, tf.range(len(self.config.labels)))
        return tf.lookup.StaticHashTable(numbers, -1).lookup(raw["label"])

    def build(self, encoder: Encoder) -> Built:
        inputs = heads.inputs()
        hidden = encoder(inputs, first_only=self.options.pooling != "mean")
        pooled = heads.Pool(encoder, self.options.pooling)(hidden, inputs["padding_mask"])
        scores = heads.dense_head(pooled, len(self.config.labels), name="classifier", dropout=self.options.head_dropout)
        return Built(
            model=keras.Model(inputs, scores, name="classify"),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head.check_kind("classifier")
        head.check_option("pooling", self.options.pooling, head.options.get("pooling"))
        problem = head.options.get("problem_type")
        if problem not in (None, "single_label_classification"):
            raise Unfit(f"its problem_type is {problem}, and this run learns one label a row")
        return ordered(arrays, "classifier", order(head, self.config.labels))

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        labels = tf.constant(self.config.labels)
        return {"label": tf.gather(labels, tf.argmax(outputs, -1)), "probabilities": tf.nn.softmax(outputs)}

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        probabilities = decoded["probabilities"][row].tolist()
        return {
            "label": decoded["label"][row].decode(),
            "probabilities": dict(zip(self.config.labels, probabilities, strict=True)),
        }

    def scorer(self, calibrates: bool) -> ClassifyScorer:
        return ClassifyScorer(self.config.labels, self.config.fields)

    @staticmethod
    def report(metrics: dict[str, Any]) -> ClassifyReport:
        return ClassifyReport(metrics)


TASK = Classify
