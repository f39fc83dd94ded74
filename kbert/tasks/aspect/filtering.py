"""Train the text filter network in a stage of its own: does a text mention the coarse aspects?

In: the rows of `--task=aspect`. The encoder inputs are sentences, and all sentences of a text are trained on together, since
mentions are known for texts only.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.config import ModelConfig
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.model import heads
from kbert.tasks.aspect import labels
from kbert.tasks.aspect.options import Aspect, AspectOptions
from kbert.tasks.aspect.selecting import positions
from kbert.tasks.aspect.sentences import LONGEST, Sentences, sentences
from kbert.tasks.aspect.text_filter import TextFilter
from kbert.tasks.base import Built, Encoded, Tensors, TrainableOnRows
from kbert.tasks.reports import Report

NO_CONTRAST = "no coarse aspect is mentioned in some rows and not in others: selecting the filter by its loss"
MOST = 256  # maximum sentences of a text in training, to bound a step's memory


class FilterReport(Report):
    """How well mentions are detected, by coarse aspect and on average."""

    def scalars(self) -> dict[str, float]:
        return {name: value for name, value in self.metrics.items() if isinstance(value, float)}

    def table(self) -> str:
        return "\n".join(f"{name:<24}{value:>8.4f}" for name, value in self.scalars().items())


class FilterScorer:
    """Collects mentions and their probabilities, five bytes a text and coarse aspect."""

    def __init__(self, task: "Filtering"):
        self.task = task
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        mentioned = self.task.mentions(raw, self.task.known_of_measured)
        self.parts.append((mentioned.astype(np.int8), predicted["mentioned"].astype(np.float32)))

    def result(self) -> FilterReport:
        from sklearn.metrics import average_precision_score, f1_score

        gold, found = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        known = gold >= 0
        share = np.clip(np.where(gold == 1, found, 1 - found)[known], 1e-7, 1.0)
        scores = []
        for told, column, probability in zip(known.T, gold.T, found.T, strict=True):
            if set(column[told]) == {0, 1}:
                scores.append(
                    (
                        f1_score(column[told], probability[told] >= 0.5, zero_division=0.0),
                        average_precision_score(column[told], probability[told]),
                    )
                )
        loss = {"loss": float(-np.log(share).mean())}
        if not scores:
            return FilterReport({**loss, "warnings": [NO_CONTRAST]})
        f1, precision = np.mean(scores, 0)
        return FilterReport({**loss, "f1": float(f1), "average_precision": float(precision)})


class Filtering(TrainableOnRows):
    """Trains a `TextFilter`; see `kbert.tasks.base` for the methods.

    Args:
        config, tokenizer: those of the owning task.
        options: the task's.
        text_filter: the network to train.
        known: what the training rows together say of each text, if each row is about one aspect.
    """

    # Dev without contrast, texts with and texts without a mention, has no precision; ties go to the lower loss.
    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("average_precision", "max")
    figures: ClassVar[tuple[str, ...]] = ("loss", "f1", "average_precision")
    windowed: ClassVar[bool] = False

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        options: AspectOptions,
        text_filter: TextFilter,
        known: labels.TextLabels | None,
    ):
        self.config, self.tokenizer, self.known = config, tokenizer, known
        self.known_of_measured: labels.TextLabels | None = None  # the same for the evaluated rows
        self._measured: tuple[Table, Table] | None = None
        self.aspects, self.pooling = options.aspects, options.filter_pooling
        self.text_filter = text_filter
        inputs = heads.inputs()
        model = keras.Model(inputs, text_filter(inputs["token_ids"], inputs["padding_mask"]), name="filter")
        self.built = Built(model=model, loss=self.losses)

    @property
    def gold(self) -> tuple[str, ...]:
        """The task's gold columns."""
        return labels.gold_columns(self.aspects, self.known is None)

    @property
    def grouped(self) -> bool:
        """True: the loss is over all sentences of a text."""
        return True

    def encode(self, raw: Tensors) -> Encoded:
        """Encode `[CLS] sentence [SEP]` for each sentence (a sample of very many), and `row`, the text of each."""
        return filter_inputs(self.tokenizer, some(sentences(self.tokenizer, raw["text"]), tf.size(raw["text"]), MOST))

    def measured(self, table: Table) -> Table | None:
        """Return each text once, if each row is about one aspect, and record what its rows say together."""
        if self.known is None:
            return None
        if self._measured is None or self._measured[0] is not table:
            self._measured = table, table.deduplicated()
            self.known_of_measured = said(table, (*self.config.fields, *self.gold), self.aspects, self.config.labels)
        return self._measured[1]

    def mentions(self, raw: dict[str, np.ndarray], known: labels.TextLabels | None) -> np.ndarray:
        """Return whether texts mention each coarse aspect: 1, 0, or -1 for unknown; int32 [rows, coarse aspects].

        Args:
            raw: raw columns of rows.
            known: what all rows together say of each text, if each row is about one aspect.
        """
        names = self.config.labels
        found = labels.numbers(raw, self.aspects, names, wide=True) if known is None else known.of(raw)
        return labels.mentions(found, self.aspects, names)

    def supervise(self, raw: Tensors, encoded: Encoded) -> Tensors:
        """Return `row`, int32 [sentences], the text each sentence is of, and `mentioned`, int32 [sentences, coarse aspects],
        what that text mentions: 1, 0, or -1 for unknown."""
        names = ["text", *self.gold]
        mentioned = graphs.numpy_function(
            lambda *columns: self.mentions(dict(zip(names, columns, strict=True)), self.known),
            [raw[name] for name in names],
            tf.int32,
        )
        mentioned = tf.ensure_shape(mentioned, [None, self.text_filter.num_aspects])
        row = encoded["row"]
        return {"row": row, "mentioned": tf.gather(mentioned, row)}

    def losses(self, known: Tensors, logits: tf.Tensor) -> tf.Tensor:
        """Return the loss of a batch, which is one number, for each of its sentences, so that their mean is the loss."""
        return tf.fill(tf.shape(known["row"]), mention_loss(known, logits, self.pooling))

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        """Return `mentioned`: the probability that a text mentions each coarse aspect, float32 [rows, coarse aspects]."""
        return {"mentioned": tf.sigmoid(text_logits(outputs, encoded["row"], tf.size(raw["text"]), self.pooling))}

    def scorer(self, calibrates: bool) -> FilterScorer:
        return FilterScorer(self)


def said(table: Table, columns: Sequence[str], aspects: Sequence[Aspect], names: Sequence[str]) -> labels.TextLabels:
    """Collect what all rows of a table together say of each text, if each row is about one aspect."""
    known = labels.TextLabels(aspects, names)
    for raw in rows_of(table, columns):
        known.add(raw)
    return known


def rows_of(table: Table, columns: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield a table's rows in chunks, with the column names used by tasks."""
    for _, found in table.chunks():
        yield dict(zip(columns, found.values(), strict=True))


def filter_inputs(tokenizer: Tokenizer, found: Sentences) -> Encoded:
    """Encode `[CLS] sentence [SEP]` for each sentence, and `row`, the text of each."""
    return {**tokenizer.pack([found.token_ids], LONGEST + 2), "row": found.row}


def some(found: Sentences, texts: tf.Tensor, most: int) -> Sentences:
    """Keep at most `most` sentences of each text, evenly spread."""
    place, count = (tf.cast(values, tf.int64) for values in positions(found.row, texts))
    kept = (count <= most) | ((place + 1) * most // count > place * most // count)
    return Sentences(tf.boolean_mask(found.row, kept), *(tf.ragged.boolean_mask(values, kept) for values in found[1:]))


def text_logits(logits: tf.Tensor, row: tf.Tensor, texts: tf.Tensor, pooling: str) -> tf.Tensor:
    """Pool the sentences' logits into those of texts, [sentences, aspects] -> [texts, aspects].

    "max" is the maximum; "log_sum_exp" a soft maximum, with gradients to several sentences of a text; "attention" the mean
    weighted by a softmax over a text's sentences (Ilse et al. 2018, "Attention-based Deep Multiple Instance Learning").
    """
    most = tf.math.unsorted_segment_max(logits, row, texts)
    if pooling == "max":
        return most
    most = tf.stop_gradient(most)
    shares = tf.exp(logits - tf.gather(most, row))
    total = tf.math.unsorted_segment_sum(shares, row, texts)
    if pooling == "log_sum_exp":
        return most + tf.math.log(total)
    return tf.math.unsorted_segment_sum(shares * logits, row, texts) / total


def mention_loss(known: Tensors, logits: tf.Tensor, pooling: str) -> tf.Tensor:
    """Return the mean cross-entropy of a batch's mentions, a scalar, from the result of `supervise` and the model's outputs."""
    begins = known["row"][1:] != known["row"][:-1]
    row = tf.concat([[0], tf.cumsum(tf.cast(begins, tf.int32))], 0)  # [sentences]
    texts = row[-1] + 1
    mentioned = tf.cast(tf.math.segment_max(known["mentioned"], row), tf.float32)
    told = tf.cast(mentioned >= 0, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.maximum(mentioned, 0), text_logits(logits, row, texts, pooling))
    return tf.math.divide_no_nan(tf.reduce_sum(losses * told), tf.reduce_sum(told))
