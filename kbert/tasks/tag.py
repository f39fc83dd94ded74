"""Entities in a text: type, text and the characters they stand at.

Raw `text` in; padded lists of `type`, `text`, `start`, `end` (exclusive) and `score`, and their `count`, out.
What is tagged is a word as BERT splits them (a Chinese character is one); its tag sits on its first
piece, as in Devlin et al. 2019, section 5.3. Long texts are read in windows, whose scores are joined before
tags are chosen. An entity's score is the probability that all its words have these tags.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs, heads
from kbert.checkpoints.head import Head, order, ordered
from kbert.config import ModelConfig, SourceConfig, from_json
from kbert.encoder import Encoder
from kbert.entity_reader import EntityReader
from kbert.errors import DataError, UsageError
from kbert.label_names import LabelNames
from kbert.options import TagOptions
from kbert.reports import Matrix, Report
from kbert.spans import Span, check_spans, read_spans, tag_names, tag_numbers
from kbert.tagging import entity_metrics
from kbert.tagging.crf import CRF
from kbert.tasks.base import Encoded, Task, Tensors
from kbert.text import Tokenizer
from kbert.windows import framed, windows


class EntityAudit:
    """Checks the entities of each row and collects their types, or holds the rows to those given."""

    def __init__(self, source: str, allowed: Sequence[str] | None):
        self.source = source
        self.allowed = None if allowed is None else dict.fromkeys(allowed)
        self.names = LabelNames("type")
        self.found: set[str] = set()

    def __call__(self, values: tuple[str, ...]) -> str | None:
        text, gold = values
        spans = read_spans(gold)
        check_spans(spans, text)
        notes = []
        for _, _, kind in spans:
            if self.allowed is None:
                notes.append(self.names.add(kind))
            if self.allowed is not None and kind not in self.allowed:
                raise ValueError(f"type {kind!r} is not among the model's: {', '.join(self.allowed)}")
            self.found.add(kind)
        return "; ".join(filter(None, notes))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted(self.found) if self.allowed is None else self.allowed)

    def finish(self) -> None:
        """Nothing: rows that are measured may have no entity."""

    def check_learnable(self) -> list[str]:
        if not self.found:
            raise DataError(f"{self.source}: no entity in any row; is --label_column the right one?")
        return []


class TagReport(Report):
    """`entity_metrics` of one set of rows."""

    def __init__(self, metrics: dict[str, Any], mistakes: Sequence[tuple[str, list[Span], list[Span]]] = ()):
        super().__init__(metrics)
        self.mistakes = mistakes

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        return {**m["micro"], "macro_f1": m["macro"]["f1"], "token_accuracy": m["token_accuracy"]}

    def table(self) -> str:
        return entity_metrics.table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        return {"confusion": (np.array(self.metrics["confusion"]), (entity_metrics.OUTSIDE, *self.metrics["per_type"]))}

    def texts(self) -> dict[str, str]:
        return {"mistakes": entity_metrics.mistakes_markdown(self.mistakes)} if self.mistakes else {}


class TagScorer:
    """Counts of entities, and of words whose tag is right."""

    def __init__(self, task: "Tag"):
        self.task = task
        self.counts = entity_metrics.Counts(task.config.labels)

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        gold = [read_spans(spans) for spans in raw["entities"]]
        found = [self._spans(predicted, row) for row in range(len(gold))]
        for text, spans, others in zip(raw["text"], gold, found, strict=True):
            self.counts.add(text.decode(), spans, others)
        places = [values.numpy() for values in self.task.places(tf.constant(raw["text"]))]
        tags, other_tags = (tag_numbers(spans, self.task.types, *places)[0] for spans in (gold, found))
        self.counts.add_tokens(len(tags), int((tags == other_tags).sum()))

    def result(self) -> TagReport:
        return TagReport(self.counts.report(), self.counts.mistakes)

    @staticmethod
    def _spans(predicted: dict[str, np.ndarray], row: int) -> list[Span]:
        columns = [predicted[name][row, : predicted["count"][row]].tolist() for name in ("start", "end", "type")]
        return [(start, end, kind.decode()) for start, end, kind in zip(*columns, strict=True)]


class TagLoss(keras.losses.Loss):
    """Negative log-likelihood of each word's tag, or with a CRF each word's share of its sequence's tags.

    Targets [batch, tokens], -1 where no tag is learnt, which loses 0; outputs float32 [batch, tokens, tags];
    losses [batch, tokens].
    """

    def __init__(self, crf: CRF | None):
        super().__init__(name="tag_loss")
        self.crf = crf

    def call(self, y_true: Any, y_pred: Any) -> Any:
        tags = tf.cast(y_true, tf.int32)
        mask = tags >= 0
        words, tags = tf.boolean_mask(y_pred, mask), tf.boolean_mask(tags, mask)  # [words, tags], [words]
        if self.crf is None:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tags, words)
        else:
            lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
            shares = -self.crf.log_likelihood(words, tags, lengths) / tf.cast(tf.maximum(lengths, 1), tf.float32)
            losses = tf.repeat(shares, lengths)
        return tf.scatter_nd(tf.where(mask), losses, tf.shape(mask, tf.int64))


class Tag(Task):
    """The task `tag`; see `kbert.tasks.base.Task` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("f1", "max")
    gold: ClassVar[tuple[str, ...]] = ("entities",)
    split_by: ClassVar[slice] = slice(None)
    nested: ClassVar[bool] = True
    windowed: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self.config = config
        self.options: TagOptions = from_json(TagOptions, config.options, "options")
        self.tokenizer = tokenizer
        self.types = {kind: i for i, kind in enumerate(config.labels)}
        self.room = config.max_length - 2
        self.options.check(config.max_length)
        # WordPiece marks what continues a word; a text cannot spell the mark, since "#" is a word of its own.
        self._opens_word = np.array([not token.startswith("##") for token in tokenizer.vocabulary])
        self._crf: CRF | None = None
        self._places = graphs.function(self._words, input_signature=[tf.TensorSpec([None], tf.string)])

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        if len(source.text_columns) != 1:
            raise UsageError(f"--text_columns names {len(source.text_columns)} columns; entities are found in one text")
        return ("text",)

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, source.label_column)

    @staticmethod
    def reader(source: SourceConfig) -> EntityReader:
        return EntityReader(source)

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> EntityAudit:
        return EntityAudit(source, labels)

    def encode(self, raw: Tensors) -> Encoded:
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(raw["text"])
        opens, word_start, word_end = self._word_places(ids, starts, ends)
        of_piece = tf.where(opens, tf.cumsum(tf.cast(opens, tf.int32)) - 1, -1)  # [pieces]
        cut = windows(tf.cast(ids.row_lengths(), tf.int32), self.room, self.options.stride)
        pieces = cut.token.with_values(tf.gather(ids.values, cut.token.values))
        word = cut.token.with_values(tf.gather(of_piece, cut.token.values))
        return {
            **self.tokenizer.pack([pieces], self.config.max_length),
            "row": cut.row,
            "word": framed(word, -1),  # the word a token opens, counted over all rows
            "owned": framed(cut.owned, False),
            "word_start": word_start,  # int32 [rows, (words)]
            "word_end": word_end,
        }

    def supervise(self, raw: Tensors, encoded: Encoded) -> tf.RaggedTensor:
        starts, ends = encoded["word_start"], encoded["word_end"]

        def tags(gold: np.ndarray, starts: np.ndarray, ends: np.ndarray, words: np.ndarray) -> np.ndarray:
            return tag_numbers([read_spans(spans) for spans in gold], self.types, starts, ends, words)[0]

        arguments = [raw["entities"], starts.values, ends.values, starts.row_lengths()]
        of_word = tf.ensure_shape(tf.numpy_function(tags, arguments, tf.int32), [None])
        word = encoded["word"]
        none = tf.size(of_word)
        return word.with_values(tf.gather(tf.concat([of_word, [-1]], 0), tf.where(word.values < 0, none, word.values)))

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        entities = widened = lost = 0
        for raw in rows:
            spans = [read_spans(gold) for gold in raw["entities"].numpy()]
            _, wide, none = tag_numbers(spans, self.types, *(values.numpy() for values in self.places(raw["text"])))
            entities, widened, lost = entities + sum(map(len, spans)), widened + wide, lost + none
        return [
            f"{entities:,} entities: {widened:,} do not begin and end with words and are learnt as the words they touch, "
            f"{lost:,} have no word of their own and are not learnt"
        ]

    def places(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Where words start and end, int32 [words] of all texts in order, and how many each text has, int64 [texts]."""
        return self._places(texts)

    def build(self, encoder: Encoder) -> keras.Model:
        encoder.backbone.pooled_dense.trainable = False
        inputs = heads.inputs()
        hidden = keras.layers.Dropout(self.options.head_dropout, dtype="float32", name="head_dropout")(encoder(inputs))
        tags = 1 + 2 * len(self.types)
        scores = keras.layers.Dense(tags, kernel_initializer=heads.initializer(), dtype="float32", name="tagger")(hidden)
        if self.options.decoder == "crf":
            # O and every B follow anything and can begin a text; an I follows the B or I of its type.
            number = np.arange(tags)
            free = (number == 0) | (number % 2 == 1)
            same = (number[:, None] + 1) // 2 == (number[None] + 1) // 2
            self._crf = CRF(tags, free, free[None] | (same & (number[:, None] > 0)))
            scores = self._crf(scores)
        return keras.Model(inputs, scores, name="tag")

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head.check_kind("tagger")
        head.check_option("decoder", self.options.decoder, head.options.get("decoder", "softmax"))
        places = order(head, tag_names(self.config.labels))
        transitions = {name: array for name, array in arrays.items() if name.startswith("crf/")}
        crf = {name: array[np.ix_(*[places] * array.ndim)] for name, array in transitions.items()}
        return {**ordered(arrays, "tagger", places), **crf}

    def compile_args(self) -> dict[str, Any]:
        return {"loss": TagLoss(self._crf)}

    def decode(self, outputs: tf.RaggedTensor, encoded: Encoded, raw: Tensors) -> Tensors:
        kept = (encoded["word"].values >= 0) & encoded["owned"].values
        scores = tf.ensure_shape(tf.boolean_mask(outputs.values, kept), [None, 1 + 2 * len(self.types)])  # [words, tags]
        starts, ends = encoded["word_start"], encoded["word_end"]
        lengths = tf.cast(starts.row_lengths(), tf.int32)
        row = starts.value_rowids()
        tags = tf.argmax(scores, -1, output_type=tf.int32) if self._crf is None else self._crf.best(scores, lengths)

        # Read as seqeval reads: a tag that does not go on with the entity before it begins one.
        kind = (tags - 1) // 2  # -1 outside
        before = tf.concat([[-1], tf.where(row[1:] == row[:-1], kind[:-1], -1)], 0)[: tf.size(tags)]
        opens = (kind >= 0) & ((tags % 2 == 1) | (kind != before))
        part = tf.where(kind >= 0, tf.cumsum(tf.cast(opens, tf.int32)) - 1, -1)
        closes = (kind >= 0) & (part != tf.concat([part[1:], [-1]], 0))
        if self._crf is None:
            each = tf.gather(tf.nn.log_softmax(scores), tags, batch_dims=1)
            logarithms = tf.math.unsorted_segment_sum(each, part, tf.reduce_sum(tf.cast(opens, tf.int32)))
        else:
            logarithms = self._crf.log_probabilities(scores, tags, lengths, part)

        start, end = tf.boolean_mask(starts.values, opens), tf.boolean_mask(ends.values, closes)
        by_row = tf.RaggedTensor.from_value_rowids(start, tf.boolean_mask(row, opens), nrows=starts.nrows(), validate=False)
        characters = tf.strings.unicode_decode(raw["text"], "UTF-8", errors="ignore")
        at = tf.cast(tf.gather(characters.row_starts(), tf.boolean_mask(row, opens)), tf.int32)
        cut = tf.ragged.range(at + start, at + end)
        text = tf.strings.unicode_encode(cut.with_values(tf.gather(characters.values, cut.values)), "UTF-8")
        return {
            "type": by_row.with_values(tf.gather(tf.constant(self.config.labels), tf.boolean_mask(kind, opens))).to_tensor(""),
            "text": by_row.with_values(text).to_tensor(""),
            "start": by_row.to_tensor(-1),
            "end": by_row.with_values(end).to_tensor(-1),
            "score": by_row.with_values(tf.minimum(tf.exp(logarithms), 1.0)).to_tensor(0.0),
            "count": tf.cast(by_row.row_lengths(), tf.int32),
        }

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        names = ("type", "text", "start", "end", "score")
        columns = [decoded[name][row, : decoded["count"][row]].tolist() for name in names]
        return {
            "entities": [
                {name: value.decode() if isinstance(value, bytes) else value for name, value in zip(names, values, strict=True)}
                for values in zip(*columns, strict=True)
            ]
        }

    def scorer(self, calibrates: bool) -> TagScorer:
        return TagScorer(self)

    def report(self, metrics: dict[str, Any]) -> TagReport:
        return TagReport(metrics)

    def _words(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        _, starts, ends = self._word_places(*self.tokenizer.tokenize_with_offsets(texts))
        return starts.values, ends.values, starts.row_lengths()

    def _word_places(
        self, ids: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
    ) -> tuple[tf.Tensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Which pieces open a word, [pieces]; where words start and end, [rows, (words)]."""
        opens = tf.gather(self._opens_word, ids.values)
        closes = tf.concat([opens[1:], [True]], 0)[: tf.size(opens)]
        of_row = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(starts.values, opens), tf.boolean_mask(ids.value_rowids(), opens), nrows=ids.nrows(), validate=False
        )
        return opens, of_row, of_row.with_values(tf.boolean_mask(ends.values, closes))


TASK = Tag
