"""Classify what a long text says of aspects: positive, neutral, negative, or not mentioned.

Raw `text` in; out, for each aspect of the model, its label, probabilities, and the sentences read for it with their
offsets. Or `text` and `aspect` in, and the same for that one. A filter selects the sentences that concern an aspect's
coarse aspect; they and the aspect's readable name are encoded as a pair, with an attention layer on top, as in
BERT-Pair-ATT (see `kbert.tasks.aspect.text_filter` for the source; pairs of text and aspect: Sun et al. 2019, "Utilizing
BERT for Aspect-Based Sentiment Analysis via Constructing Auxiliary Sentence").
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.checkpoints.head import Head, order, ordered
from kbert.config import ModelConfig
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError
from kbert.model import heads
from kbert.model.encoder import Encoder
from kbert.settings import from_json
from kbert.tasks.aspect import labels
from kbert.tasks.aspect.aspect_attention import AspectAttention
from kbert.tasks.aspect.metrics import AVERAGED, SENTENCES
from kbert.tasks.aspect.options import AspectOptions
from kbert.tasks.aspect.panels import all_sentences, kept_sentences
from kbert.tasks.aspect.report import AspectReport, AspectScorer
from kbert.tasks.aspect.rows import AspectRows
from kbert.tasks.aspect.selecting import POSITIONAL, joined, keep
from kbert.tasks.aspect.sentence_filter import FILTER, SentenceFilter
from kbert.tasks.aspect.sentences import sentences
from kbert.tasks.base import Built, Encoded, Lengths, Signature, Stage, Task, Tensors

SURVEYED = 2000  # rows sampled for the lengths in the log
OUTPUTS = ("aspect", "label", "probabilities", "sentences", "starts", "ends", "relevance", "count")


class Aspect(AspectRows, Task):
    """The task `aspect`; see `kbert.tasks.base.Task` for the methods."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("macro_f1", "max")
    figures: ClassVar[tuple[str, ...]] = ("loss", *AVERAGED, SENTENCES)
    windowed: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: AspectOptions = from_json(AspectOptions, config.options, "options")
        self.options.check(config.max_length)
        self.aspects = self.options.aspects
        self.wide = len(config.fields) == 1
        self.filter = SentenceFilter(config, tokenizer, self.options, self.wide)
        self.longest = config.max_length // 4  # maximum tokens of an aspect
        self._spelt: list[list[int]] = []  # the pieces of each aspect
        if self.aspects:
            readable = tf.constant([aspect.readable for aspect in self.aspects])
            self._spelt = tokenizer.tokenize_with_offsets(readable)[0].to_list()
        self.readable = [ids[: self.longest] for ids in self._spelt]
        # Traced once, even if used in several graphs.
        self._graph = graphs.function(self._encode, reduce_retracing=True)

    def check_trainable(self) -> None:
        """Raise DataError if an aspect's readable name has no tokens, or the same as another's."""
        known: dict[tuple[int, ...], str] = {}
        for aspect, ids in zip(self.aspects, self.readable, strict=True):
            if not ids:
                raise DataError(f"aspect {aspect.name!r}: {aspect.readable!r} has no tokens to read; see --aspect_names")
            other = known.setdefault(tuple(ids), aspect.name)
            if other != aspect.name:
                pieces = " ".join(self.tokenizer.vocabulary[piece] for piece in ids)
                raise DataError(
                    f"aspects {other!r} and {aspect.name!r} both read as {pieces!r} ({self.longest} tokens at most, a quarter "
                    "of --max_length); see --aspect_names"
                )

    @property
    def stages(self) -> tuple[str, ...]:
        return (FILTER,) if self.filter.how == "tfn" else ()

    @property
    def gold(self) -> tuple[str, ...]:
        """A column for each aspect, or the column of the row's aspect."""
        return labels.gold_columns(self.aspects, self.wide)

    @property
    def inputs_each(self) -> int:
        """One for each aspect, or for the row's."""
        return len(self.aspects) if self.wide else 1

    def prepare(self, table: Table) -> Iterator[Stage]:
        return self.filter.prepare(table)

    def encode(self, raw: Tensors) -> Encoded:
        """Encode `[CLS] sentences kept [SEP] readable aspect [SEP]` for each row and aspect.

        Returns:
            Besides ids, segments and `row`, [inputs]: `texts`, distinct strings, and
            `text`, int32 [rows], the index of each row's text; `found`, the texts' `Sentences`; `kept`, those
            read for each text and question; `relevance`, float32 [sentences, questions]; `group`, int32 [inputs], the
            index in `kept` of each input.
        """
        encoded: Encoded = self._graph({name: raw[name] for name in ("text", "aspect") if name in raw})
        return encoded

    def _encode(self, raw: Tensors) -> Encoded:
        texts = raw["text"]
        rows = tf.range(tf.size(texts))
        text, row = rows, rows
        if self.aspects and "aspect" in raw:  # consecutive rows share a text, whose sentences are computed once
            texts, text = tf.unique(texts)
        count = tf.size(texts)
        found = sentences(self.tokenizer, texts)
        if self.aspects:
            terms = tf.ragged.constant(self.readable, dtype=tf.int32)
            room = tf.constant(self.config.max_length - 3 - max(map(len, self.readable)))  # for the longest aspect
        else:
            terms = self.tokenizer.tokenize_with_offsets(raw["aspect"])[0][:, : self.longest]
            with _asserted(tf.reduce_all(terms.row_lengths() > 0), "DataError: an aspect is empty"):
                terms = tf.identity(terms)
            room = self.config.max_length - 3 - tf.cast(terms.row_lengths(), tf.int32)
        relevance = self.filter.relevance(found, count, terms)
        lengths = tf.cast(found.token_ids.row_lengths(), tf.int32)
        kept = keep(relevance, lengths, found.row, count, room, self.filter.threshold)
        read = joined(found.token_ids, kept)  # [texts * questions, (tokens)]
        group = rows
        if self.aspects:
            if "aspect" in raw:
                asked = self._asked(raw)  # [inputs]
            else:
                asked = tf.tile(tf.range(len(self.aspects)), [count])
                row = tf.repeat(rows, len(self.aspects))
            terms = tf.gather(terms, asked)
            group = tf.gather(text, row) * self.filter.questions + tf.gather(tf.constant(self.filter.coarse_of), asked)
        packed = self.tokenizer.pack([tf.gather(read, group), terms], self.config.max_length)
        parts = {"texts": texts, "text": text, "found": found, "kept": kept, "relevance": relevance}
        return {**packed, "row": row, "group": group, **parts}

    def _asked(self, raw: Tensors) -> tf.Tensor:
        """Return the index of each row's aspect in the model, int32 [rows]."""
        known, readable = (tf.constant(names) for names in zip(*((a.name, a.readable) for a in self.aspects), strict=True))
        same = (raw["aspect"][:, None] == known) | (raw["aspect"][:, None] == readable)
        unknown = tf.boolean_mask(raw["aspect"], ~tf.reduce_any(same, 1))
        said = f"DataError: aspects are {', '.join(aspect.name for aspect in self.aspects)}; found "
        unknown = tf.strings.reduce_join(unknown, separator=", ")
        with _asserted(tf.reduce_all(tf.reduce_any(same, 1)), tf.strings.join([said, unknown])):
            return tf.argmax(same, 1, tf.int32)

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths:
        """Return the lengths of texts with the longest aspect, or the row's; the filter selects from texts that do not fit."""
        most = self.config.max_length
        aspect = np.array(max(map(len, self._spelt))) if self.aspects else tokens["aspect"]
        read = np.minimum(aspect, self.longest)
        whole, read = tokens["text"] + aspect + 3, read + np.minimum(tokens["text"], most - 3 - read) + 3
        return Lengths(whole[:, None], read[:, None], "texts with their aspect", f"--max_length={most}")

    def supervise(self, raw: Tensors, encoded: Encoded) -> tf.Tensor:
        """Return each input's label, int32 [inputs]."""
        columns = ["aspect", *self.gold] if not self.wide else list(self.gold)

        def read(*values: np.ndarray) -> np.ndarray:
            found = labels.numbers(dict(zip(columns, values, strict=True)), self.aspects, self.config.labels, self.wide)
            return found.reshape(-1) if self.wide else found.max(1)

        return tf.ensure_shape(graphs.numpy_function(read, [raw[name] for name in columns], tf.int32), [None])

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        count, sizes = 0, np.zeros(3)
        for raw in rows:
            encoded = self.encode(raw)
            ids, kept = encoded["found"].token_ids, encoded["kept"].tokens
            texts = len(encoded["texts"])
            sizes += [ids.nrows(), len(ids.values), int(tf.reduce_sum(kept.values)) * texts / int(kept.nrows())]
            count += texts
            if count >= SURVEYED:
                break
        found, tokens, read = sizes / count
        cut = [
            repr(a.name)
            for a, whole, ids in zip(self.aspects, self._spelt, self.readable, strict=True)
            if len(whole) > len(ids)
        ]
        return [
            *([f"of {', '.join(cut)} only the first {self.longest} tokens are read, a quarter of --max_length"] if cut else []),
            f"texts have {found:.0f} sentences, {tokens:.0f} tokens on average; "
            f"--filter={self.filter.how} keeps {read:.0f} tokens for an aspect",
        ]

    def build(self, encoder: Encoder) -> Built:
        encoder.backbone.pooled_dense.trainable = False
        inputs = heads.inputs()
        attends = self.options.pooling == "aspect_attention"
        hidden = encoder(inputs, first_only=not attends)
        pooled = hidden[:, 0]
        if attends:
            pooled = AspectAttention(encoder.config.hidden_dim)(hidden, inputs["segment_ids"], inputs["padding_mask"])
        size, dropout = len(self.config.labels), self.options.head_dropout
        scores = heads.dense_head(pooled, size, name="aspect_classifier", dropout=dropout)
        model = keras.Model(inputs, scores, name="aspect")
        self.filter.attach(model, encoder)
        return Built(
            model=model,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head.check_kind("aspect_classifier")
        head.check_option("pooling", self.options.pooling, head.options.get("pooling"))
        taken = ordered(arrays, "aspect_classifier", order(head, self.config.labels))
        attention = {name: array for name, array in arrays.items() if name.startswith("aspect_attention/")}
        return {**taken, **attention, **self.filter.take(head.options, arrays)}

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        """Return the served outputs for each row and aspect, or for the row's own aspect if `aspect` is given.

        Returns:
            `aspect` and `label` [rows, aspects], `probabilities` [rows, aspects, labels]; the sentences read,
            [rows, aspects, sentences]: `sentences`, their `starts` and `ends` in characters of the text (Python's, from 0, the
            end exclusive) and `relevance`, padded with "", -1 and 0, and their `count` [rows, aspects]. The axis of
            aspects is missing if rows have one. For panels, of all sentences of each text: `sentence_start`,
            `sentence_end` [rows, sentences], `sentence_relevance`, `sentence_read` [rows, sentences, questions], with
            `sentence_count` [rows].
        """
        relevance = encoded["relevance"]
        if self.filter.how in POSITIONAL:  # scores depend on a sentence's position, not its content
            relevance = tf.zeros_like(relevance)
        parts = encoded["texts"], encoded["found"], encoded["kept"], relevance
        rows = tf.size(raw["text"])
        if not self.aspects:
            name = raw["aspect"]
        elif "aspect" in raw:
            name = tf.gather(tf.constant([aspect.name for aspect in self.aspects]), self._asked(raw))
        else:
            name = tf.tile(tf.constant([aspect.name for aspect in self.aspects]), [rows])
        each = {
            "aspect": name,
            **self.decode_ids(outputs),
            **kept_sentences(*parts, encoded["group"]),
        }
        if "aspect" not in raw:
            shape = [rows, len(self.aspects)]
            each = {key: tf.reshape(v, tf.concat([shape, tf.shape(v)[1:]], 0)) for key, v in each.items()}
        panels = {key: tf.gather(values, encoded["text"]) for key, values in all_sentences(*parts).items()}
        return {**each, **panels}

    def decode_ids(self, outputs: tf.Tensor) -> Tensors:
        label = tf.gather(tf.constant(self.config.labels), tf.argmax(outputs, -1))
        return {"label": label, "probabilities": tf.nn.softmax(outputs)}

    def signatures(self) -> dict[str, Signature]:
        terms = tuple(aspect.name for aspect in self.aspects) or ("food", "服务", "the waiter")
        pair = Signature(("text", "aspect"), OUTPUTS, trials=(("aspect", terms),))
        return {"serving_default": Signature(("text",), OUTPUTS) if self.aspects else pair, "pair": pair}

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        if decoded["label"].ndim == 1:
            return self._one({name: decoded[name][row] for name in OUTPUTS})
        return {
            "aspects": {
                aspect.name: self._one({name: decoded[name][row, place] for name in OUTPUTS})
                for place, aspect in enumerate(self.aspects)
            }
        }

    def _one(self, values: dict[str, Any]) -> dict[str, Any]:
        count = int(values["count"])
        columns = [values[name][:count].tolist() for name in ("sentences", "starts", "ends", "relevance")]
        return {
            "label": values["label"].decode(),
            "probabilities": dict(zip(self.config.labels, values["probabilities"].tolist(), strict=True)),
            "sentences": [
                {"text": text.decode("utf-8", "ignore"), "start": start, "end": end, "relevance": relevance}
                for text, start, end, relevance in zip(*columns, strict=True)
            ],
        }

    def scorer(self, calibrates: bool) -> AspectScorer:
        return AspectScorer(self.config, self.aspects, self.wide)

    @staticmethod
    def report(metrics: dict[str, Any]) -> AspectReport:
        return AspectReport(metrics, [])


def _asserted(condition: tf.Tensor, said: Any) -> Any:
    """Return a context whose operations run only if the condition holds; else `kbert.flags` reports the message."""
    check = tf.debugging.Assert(condition, [said])
    return tf.control_dependencies([] if check is None else [check])


TASK = Aspect
