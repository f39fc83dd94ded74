"""One label for a text or a pair of texts.

Raw `text` (and `text_b`) in, `label` and `probabilities` out. The head is BERT's own: the pooler
over [CLS], dropout, one dense layer (Devlin et al. 2019, section 4.1; google-research/bert
`run_classifier.py`).
"""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import Head, Unfit, order, ordered
from kbert.config import ModelConfig
from kbert.data.tokenizer import Tokenizer
from kbert.errors import UsageError
from kbert.model import heads
from kbert.model.encoder import Encoder
from kbert.settings import from_json
from kbert.source import SourceConfig
from kbert.tasks.base import Built, Encoded, Lengths, Task, Tensors
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.labels import LabelAudit, LabelReport, LabelScorer

log = logging.getLogger(__name__)

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

    def scorer(self, calibrates: bool) -> LabelScorer:
        return LabelScorer(self.config.labels, self.config.fields)

    @staticmethod
    def report(metrics: dict[str, Any]) -> LabelReport:
        return LabelReport(metrics)


TASK = Classify
