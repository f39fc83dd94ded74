"""Labels, or a number, for a text or a pair of texts.

Raw `text` (and `text_b`) in; `label` and `probabilities`, or `labels`, or `score` out (`--objective`). The head is BERT's
own: the pooler over [CLS], dropout, one dense layer (Devlin et al. 2019, section 4.1; google-research/bert
`run_classifier.py`). Long texts may be read in windows, whose scores are joined.
"""

from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import Head
from kbert.config import ModelConfig
from kbert.data.tokenizer import Tokenizer
from kbert.model import heads, window_bound
from kbert.model.encoder import Encoder
from kbert.model.long_text import inputs_of
from kbert.model.window_bound import TRUNCATED
from kbert.settings import from_json
from kbert.tasks.base import Built, Encoded, Lengths, Scorer, Signature, Task, Tensors
from kbert.tasks.classify.multiclass import Multiclass
from kbert.tasks.classify.multilabel import Multilabel, MultilabelReport
from kbert.tasks.classify.objective import Objective
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.classify.regression import Regression, RegressionReport
from kbert.tasks.classify.rows import ClassifyRows
from kbert.tasks.labels import LabelReport
from kbert.tasks.reports import Report

OBJECTIVES: dict[str, type[Objective]] = {"multiclass": Multiclass, "multilabel": Multilabel, "regression": Regression}
LONGER = "--long_text=windows reads them in windows, --long_text=head_tail their beginning and end"
WEIGHT = "sample_weight"  # raw column of training rows


class Classify(ClassifyRows, Task):
    """The task `classify`; see `kbert.tasks.base.Task` for what each method is for."""

    windowed: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: ClassifyOptions = from_json(ClassifyOptions, config.options, "options")
        self.objective = OBJECTIVES[self.options.objective](config, self.options)

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return self.objective.best

    @property
    def figures(self) -> tuple[str, ...]:
        return self.objective.figures

    @property
    def gold(self) -> tuple[str, ...]:
        return (*self.objective.gold, *([WEIGHT] if self.options.sample_weight_column else []))

    @property
    def grouped(self) -> bool:
        """Whether a row may have several windows."""
        return self.options.windowed

    def encode(self, raw: Tensors) -> Encoded:
        """Encode `[CLS] text [SEP]` or `[CLS] text [SEP] text_b [SEP]`; with windows also `row` and `truncated`."""
        length, how = self.config.max_length, self.options.long_text
        words = length if how == "head" else None
        parts = [self.tokenizer.tokenize(raw[field], max_words=words) for field in self.config.fields]
        if how == "head":
            return self.tokenizer.pack(parts, length)
        *first, text = parts
        room: int | tf.Tensor = length - 2
        more = [part.row_lengths() > self._first for part in first]
        if first:  # is cut at half of the room, so that some of the second is read
            first = [first[0][:, : self._first]]
            room = length - 3 - tf.cast(first[0].row_lengths(), tf.int32)
        more.append(tf.cast(text.row_lengths(), tf.int32) > self.options.max_windows * room)
        row, text = inputs_of(text, room, how, self.options.shared(length), self.options.max_windows)
        packed = self.tokenizer.pack([*(tf.gather(part, row) for part in first), text], length)
        return {**packed, "row": row, TRUNCATED: tf.reduce_any(more, 0)} if self.grouped else packed

    def encode_bounded(self, raw: Tensors) -> Encoded:
        if not self.grouped:
            return self.encode(raw)
        tokens = self.options.max_windows * self.config.max_length
        return window_bound.of_heads(self.encode, raw, self.config.fields, tokens)

    @property
    def _first(self) -> int:
        """The most tokens of a pair's first text, where `--long_text` is not `head`."""
        room = self.config.max_length - 3
        return min(room // 2, room - self.options.shared(self.config.max_length) - 1) if self.grouped else room // 2

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths:
        most = self.config.max_length
        limit = f"--max_length={most}"
        whole = 1 + len(tokens) + np.stack([*tokens.values()], 1).sum(1, keepdims=True)
        if self.options.long_text == "head":
            return Lengths(whole, np.minimum(whole, most), "texts", limit, LONGER)
        *first, text = tokens.values()
        read = np.minimum(first[0], self._first) if first else np.zeros_like(text)
        windows = self.options.max_windows if self.grouped else 1
        read = read + np.minimum(text, windows * (most - 1 - len(tokens) - read)) + 1 + len(tokens)
        if windows > 1:
            return Lengths(whole, read[:, None], "texts", f"{limit} in {windows} windows", "a higher --max_windows reads more")
        return Lengths(whole, read[:, None], "texts", limit, LONGER)

    def supervise(self, raw: Tensors, encoded: Encoded) -> Any:
        """Return the targets of rows; with windows, of each window those of its row, and `row`."""
        targets = self.objective.targets(raw)
        if not self.grouped:
            return targets
        return {"target": tf.gather(targets, encoded["row"]), "row": encoded["row"]}

    def weigh(self, raw: Tensors, targets: Any) -> tf.Tensor | None:
        named = targets if self.grouped else {"target": targets}
        weight = raw.get(WEIGHT)
        rows = None if weight is None else tf.strings.to_number(tf.strings.strip(weight), tf.float32)
        if self.grouped:  # a row's windows share its weight
            shares = 1.0 / tf.cast(tf.math.bincount(named["row"]), tf.float32)
            rows = tf.gather(shares if rows is None else shares * rows, named["row"])
        return self.objective.weights(named["target"], rows)

    def build(self, encoder: Encoder) -> Built:
        inputs = heads.inputs()
        hidden = encoder(inputs, first_only=self.options.pooling != "mean")
        pooled = heads.Pool(encoder, self.options.pooling)(hidden, inputs["padding_mask"])
        rate = self.options.head_dropout
        scores = heads.dense_head(pooled, self.objective.size, name="classifier", dropout=rate)
        if self._attends:
            weight = heads.dense_head(pooled, 1, name="window_attention")
            scores = keras.layers.Concatenate(dtype="float32")([scores, weight])
        model = keras.Model(inputs, scores, name="classify")
        if self.grouped:
            return Built(model=model, loss=self._window_losses, by_row=True)
        return Built(model=model, loss=self.objective.loss, metrics=self.objective.metrics())

    @property
    def _attends(self) -> bool:
        return self.grouped and self.options.window_pooling == "attention"

    def _window_losses(self, known: Tensors, outputs: tf.Tensor) -> tf.Tensor:
        """Return for each window, float32 [windows] or [windows, scores], its row's loss; `weigh` shares the row's weight."""
        numbers = tf.unique(known["row"])[1]
        joined = self._joined(outputs, numbers)
        first = tf.math.unsorted_segment_min(tf.range(tf.size(numbers)), numbers, tf.shape(joined)[0])
        losses = self.objective.loss(tf.gather(known["target"], first), joined)
        return tf.gather(losses, numbers)

    def _joined(self, outputs: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        """Join the outputs of windows, [windows, ...], of the rows that they are of, ascending, to scores [rows, scores]."""
        outputs = tf.cast(outputs, tf.float32)
        if self.options.window_pooling == "max":
            return tf.math.segment_max(outputs, row)
        if self.options.window_pooling == "mean":
            return tf.math.segment_mean(outputs, row)
        scores, weight = outputs[:, :-1], outputs[:, -1:]
        weight = tf.exp(weight - tf.gather(tf.math.segment_max(weight, row), row))
        return tf.math.segment_sum(scores * weight, row) / tf.math.segment_sum(weight, row)

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head.check_kind("classifier")
        head.check_option("pooling", self.options.pooling, head.options.get("pooling"))
        return self.objective.take_head(head, arrays)

    def calibrate(self, values: dict[str, float]) -> None:
        self.objective.calibrate(values)

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        return self.objective.decode(self._joined(outputs, encoded["row"]) if self.grouped else outputs)

    def decode_ids(self, outputs: tf.Tensor) -> Tensors:
        """Answer each input as a row of one window."""
        return self.objective.decode(self._joined(outputs, tf.range(tf.shape(outputs)[0])) if self.grouped else outputs)

    def signatures(self) -> dict[str, Signature]:
        """`serving_default`, and the form of TensorFlow Serving's own `Classify` or `Regress`."""
        one, method = Signature(self.config.fields), self.objective.method
        form = one._replace(serialized=True, method=method, answer=self.objective.in_its_form)
        return {"serving_default": one, method: form}

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        return self.objective.present(decoded, row)

    def scorer(self, calibrates: bool) -> Scorer:
        return self.objective.scorer(calibrates)

    @staticmethod
    def report(metrics: dict[str, Any]) -> Report:
        kind = MultilabelReport if "per_label" in metrics else RegressionReport if "mse" in metrics else LabelReport
        return kind(metrics)


TASK = Classify
