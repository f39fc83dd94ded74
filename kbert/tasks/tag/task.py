"""Find entities in a text: type, text and offsets.

Raw `text` in; padded lists of `type`, `text`, `start`, `end` (exclusive) and `score`, their `count`, and `truncated`, out.
Tags are assigned to tokens, for rows with tokens (`tokens`, their offsets), else to words as BERT
splits them (each Chinese character is one); a tag is predicted at the first piece, as in Devlin et al. 2019, section 5.3. Long
texts are read in windows, whose scores are joined before decoding. An entity's score is the probability that
all its tokens or words have these tags.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.checkpoints.head import Head, Unfit, order, ordered
from kbert.config import ModelConfig
from kbert.data.schemes import Tags
from kbert.data.spans import read_spans, tag_names, tag_numbers
from kbert.data.tokenizer import Tokenizer
from kbert.model import heads, window_bound
from kbert.model.crf import CRF
from kbert.model.encoder import Encoder
from kbert.model.window_bound import TRUNCATED
from kbert.model.windows import framed, windows
from kbert.settings import from_json
from kbert.tasks.base import Built, Encoded, Signature, Task, Tensors
from kbert.tasks.tag.options import TagOptions
from kbert.tasks.tag.outputs import Outputs
from kbert.tasks.tag.report import TagReport, TagScorer
from kbert.tasks.tag.rows import TagRows
from kbert.tasks.tag.units import Pieces, Units, joined, spread, units

ENTITY = ("type", "text", "start", "end", "score")  # outputs of an entity


class TagLoss(keras.losses.Loss):
    """Computes the negative log-likelihood of each word's tag, or with a CRF each word's share of its sequence's.

    Targets [batch, tokens], -1 where no tag is trained, with loss 0; outputs float32 [batch, tokens, tags];
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


class Tag(TagRows, Task):
    """The task `tag`; see `kbert.tasks.base.Task` for the methods."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("f1", "max")
    figures: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1", "strict_f1", "macro_f1", "token_accuracy")
    gold: ClassVar[tuple[str, ...]] = ("entities",)
    windowed: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: TagOptions = from_json(TagOptions, config.options, "options")
        self.types = {kind: i for i, kind in enumerate(config.labels)}
        self.outputs = Outputs.read(self.options.outputs or tag_names(config.labels), config.labels)
        self.room, self.shared = config.max_length - 2, self.options.shared(config.max_length)
        self.options.check(config.max_length)
        self.most = window_bound.tokens_of(self.options.max_windows, self.room, self.shared)  # tokens of a text that are read
        self._crf = _crf(len(self.outputs.names)) if self.options.decoder == "crf" else None
        self._places = graphs.function(self._own, input_signature=[tf.TensorSpec([None], tf.string)] * 2)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*self.config.fields, "tokens")

    def encode(self, raw: Tensors) -> Encoded:
        return self._encode(self._tokenized(raw["text"]), raw["tokens"])

    def encode_bounded(self, raw: Tensors) -> Encoded:
        text, headed = window_bound.head(raw["text"], window_bound.bytes_of(self.most))
        pieces = self._tokenized(text)
        kept, truncated = window_bound.bounded(pieces, pieces.opens_word.values, self.most, headed)
        return {**self._encode(Pieces(*kept), raw["tokens"]), TRUNCATED: truncated}

    def _tokenized(self, texts: tf.Tensor) -> Pieces:
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts)
        return Pieces(ids, starts, ends, ids.with_values(tf.gather(self.tokenizer.opens_word, ids.values)))

    def _encode(self, pieces: Pieces, tokens: tf.Tensor) -> Encoded:
        ids, of_rows = pieces.ids, units(pieces, tokens)
        cut = windows(tf.cast(ids.row_lengths(), tf.int32), self.room, self.shared)
        part = cut.token.with_values(tf.gather(ids.values, cut.token.values))
        shows = cut.token.with_values(tf.gather(of_rows.shows, cut.token.values))
        return {
            **self.tokenizer.pack([part], self.config.max_length),
            "row": cut.row,
            "shows": framed(shows, -1),  # index of the unit whose first piece this is, counting units with pieces over all rows
            "owned": framed(cut.owned, False),
            "units": of_rows,
        }

    def supervise(self, raw: Tensors, encoded: Encoded) -> tf.RaggedTensor:
        starts, ends = _own_places(encoded["units"])

        def tags(gold: np.ndarray, starts: np.ndarray, ends: np.ndarray, units: np.ndarray) -> np.ndarray:
            found = tag_numbers([read_spans(spans) for spans in gold], self.types, starts, ends, units)[0]
            return self.outputs.numbers(found, units) if self.options.outputs else found

        arguments = [raw["entities"], starts.values, ends.values, starts.row_lengths()]
        of_unit = tf.ensure_shape(graphs.numpy_function(tags, arguments, tf.int32), [None])
        shows = encoded["shows"]
        none = tf.size(of_unit)
        return shows.with_values(tf.gather(tf.concat([of_unit, [-1]], 0), tf.where(shows.values < 0, none, shows.values)))

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        entities = widened = lost = 0
        for raw in rows:
            spans = [read_spans(gold) for gold in raw["entities"].numpy()]
            where = (values.numpy() for values in self.places(raw["text"], raw["tokens"]))
            _, wide, none = tag_numbers(spans, self.types, *where)
            entities, widened, lost = entities + sum(map(len, spans)), widened + wide, lost + none
        return [
            f"{entities:,} entities: {widened:,} do not begin and end with words and are extended to the words they touch, "
            f"{lost:,} have no word of their own and are not trained"
        ]

    def places(self, texts: tf.Tensor, tokens: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return where units with a piece of their own start and end, int32 [units] of all texts in order, and how many
        each text has, int64 [texts]."""
        starts, ends = self._places(texts, tf.zeros_like(texts) if tokens is None else tokens)
        return starts.values, ends.values, starts.row_lengths()

    def build(self, encoder: Encoder) -> Built:
        encoder.backbone.pooled_dense.trainable = False
        inputs = heads.inputs()
        tags = len(self.outputs.names)
        scores = heads.dense_head(encoder(inputs), tags, name="tagger", dropout=self.options.head_dropout)
        if self._crf is not None:
            scores = self._crf(scores)
        return Built(model=keras.Model(inputs, scores, name="tag"), loss=TagLoss(self._crf))

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head.check_kind("tagger")
        head.check_option("decoder", self.options.decoder, head.options.get("decoder", "softmax"))
        try:
            head = dataclasses.replace(head, labels=Outputs.read(head.names).names)
        except ValueError as error:
            raise Unfit(str(error)) from None
        places = order(head, self.outputs.names)
        transitions = {name: array for name, array in arrays.items() if name.startswith("crf/")}
        crf = {name: array[np.ix_(*[places] * array.ndim)] for name, array in transitions.items()}
        return {**ordered(arrays, "tagger", places), **crf}

    def decode(self, outputs: tf.RaggedTensor, encoded: Encoded, raw: Tensors) -> Tensors:
        units: Units = encoded["units"]
        kept = (encoded["shows"].values >= 0) & encoded["owned"].values
        scores = tf.ensure_shape(tf.boolean_mask(outputs.values, kept), [None, len(self.outputs.names)])  # [own units, tags]
        starts, ends, row = units.starts, units.ends, units.starts.value_rowids()
        lengths = tf.cast(_own_places(units)[0].row_lengths(), tf.int32)
        chosen = tf.argmax(scores, -1, output_type=tf.int32) if self._crf is None else self._crf.best(scores, lengths)
        kind, goes_on = spread(*self._read(chosen, tf.boolean_mask(row, units.own)), row, units.own, units.inside)

        # As in seqeval: a tag that does not continue the entity before it begins one.
        before = tf.concat([[-1], tf.where(row[1:] == row[:-1], kind[:-1], -1)], 0)[: tf.size(kind)]
        opens = (kind >= 0) & (~goes_on | (kind != before))
        of_unit = tf.where(kind >= 0, tf.cumsum(tf.cast(opens, tf.int32)) - 1, -1)  # the entity of each unit
        closes = (kind >= 0) & (of_unit != tf.concat([of_unit[1:], [-1]], 0))
        part = tf.boolean_mask(of_unit, units.own)
        if self._crf is None:
            each = tf.gather(tf.nn.log_softmax(scores), chosen, batch_dims=1)
            logarithms = tf.math.unsorted_segment_sum(each, part, tf.reduce_sum(tf.cast(opens, tf.int32)))
        else:
            logarithms = self._crf.log_probabilities(scores, chosen, lengths, part)

        start, end = tf.boolean_mask(starts.values, opens), tf.boolean_mask(ends.values, closes)
        by_row = tf.RaggedTensor.from_value_rowids(start, tf.boolean_mask(row, opens), nrows=starts.nrows(), validate=False)
        characters = tf.strings.unicode_decode(raw["text"], "UTF-8", errors="ignore")

        def cut(first: tf.Tensor, stop: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
            at = tf.cast(tf.gather(characters.row_starts(), row), tf.int32)
            codes = tf.ragged.range(at + first, at + stop)
            return tf.strings.unicode_encode(codes.with_values(tf.gather(characters.values, codes.values)), "UTF-8")

        number = tf.range(tf.size(kind)) - tf.cast(tf.gather(starts.row_starts(), row), tf.int32)  # index within its row
        given = tf.gather(raw["tokens"] != "", row)
        tags = tf.where(kind >= 0, 2 + 2 * kind - tf.cast(opens, tf.int32), 0)
        of_token = tf.RaggedTensor.from_value_rowids(tags[given], row[given], nrows=starts.nrows(), validate=False)
        tokens = cut(starts.values[given], ends.values[given], row[given])
        names = ["O", *(f"{prefix}-{kind}" for kind in self.config.labels for prefix in "BI")]
        return {
            "type": by_row.with_values(tf.gather(tf.constant(self.config.labels), tf.boolean_mask(kind, opens))).to_tensor(""),
            "text": by_row.with_values(cut(start, end, tf.boolean_mask(row, opens))).to_tensor(""),
            "start": by_row.to_tensor(-1),
            "end": by_row.with_values(end).to_tensor(-1),
            "score": by_row.with_values(tf.minimum(tf.exp(logarithms), 1.0)).to_tensor(0.0),
            "count": tf.cast(by_row.row_lengths(), tf.int32),
            # For rows with tokens: an entity's tokens, counted from 0, and the tag of each token, in IOB2.
            "start_token": by_row.with_values(number[opens]).to_tensor(-1),
            "end_token": by_row.with_values(number[closes] + 1).to_tensor(-1),
            "tokens": of_token.with_values(tokens).to_tensor(""),
            "tags": of_token.with_values(tf.gather(tf.constant(names), of_token.values)).to_tensor(""),
            "token_count": tf.cast(of_token.row_lengths(), tf.int32),
        }

    def _read(self, chosen: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the type of each own unit, -1 outside, and whether it continues an entity, as seqeval's default mode reads.

        Args:
            chosen: the output of each own unit, int32 [own units].
            row: the row of each, same shape.
        """
        letters = np.array(self.outputs.letters)
        kind = tf.gather(tf.constant(self.outputs.kinds), chosen)
        goes_on = tf.gather(tf.constant(np.isin(letters, ["I", "E"])), chosen)
        closes = np.isin(letters, ["E", "S"])
        if closes.any():
            closed = tf.gather(tf.constant(closes), chosen)[:-1] & (row[1:] == row[:-1])
            goes_on &= ~tf.concat([[False], closed], 0)[: tf.size(chosen)]
        return kind, goes_on

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        names = ENTITY
        columns = [decoded[name][row, : decoded["count"][row]].tolist() for name in names]
        return {
            "entities": [
                {name: value.decode() if isinstance(value, bytes) else value for name, value in zip(names, values, strict=True)}
                for values in zip(*columns, strict=True)
            ],
            **self._tokens(decoded, row),
        }

    def _tokens(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        """Return a row's tokens, for rows that have them, and their tags in the scheme of the training rows."""
        count = int(decoded["token_count"][row])
        if not count:
            return {}
        places = (decoded[name][row, : decoded["count"][row]].tolist() for name in ("start_token", "end_token", "type"))
        entities = [(first, stop, kind.decode()) for first, stop, kind in zip(*places, strict=True)]
        return {
            "tokens": [token.decode() for token in decoded["tokens"][row, :count].tolist()],
            "tags": Tags(self.options.scheme, self.options.untyped).written(entities, count),
        }

    def signatures(self) -> dict[str, Signature]:
        """`serving_default` takes texts; `tokens` takes texts split into tokens, strings [rows, tokens] padded with ""."""
        by_token = (*ENTITY, "start_token", "end_token", "count", "tags", TRUNCATED)
        kind = self.options.tokens
        return {
            "serving_default": Signature(self.config.fields, (*ENTITY, "count", TRUNCATED)),
            "tokens": Signature(("tokens",), by_token, raw=lambda raw: joined(raw["tokens"], kind), dimensions=2),
        }

    def scorer(self, calibrates: bool) -> TagScorer:
        return TagScorer(self.config.labels, self.places)

    @staticmethod
    def report(metrics: dict[str, Any]) -> TagReport:
        return TagReport(metrics)

    def _own(self, texts: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        return _own_places(units(self._tokenized(texts), tokens))


def _crf(tags: int) -> CRF:
    """Create a CRF over tags: O and every B may follow anything or begin a text; an I follows its type's B or I."""
    number = np.arange(tags)
    free = (number == 0) | (number % 2 == 1)
    same = (number[:, None] + 1) // 2 == (number[None] + 1) // 2
    return CRF(tags, free, free[None] | (same & (number[:, None] > 0)))


def _own_places(units: Units) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Return where the units that have a piece of their own start and end, [rows, (own units)] each."""
    own = units.starts.with_values(units.own)
    return tf.ragged.boolean_mask(units.starts, own), tf.ragged.boolean_mask(units.ends, own)


TASK = Tag
