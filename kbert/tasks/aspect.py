"""What a long text says of aspects: positive, neutral, negative, or nothing.

Raw `text` in; for each aspect of the model its label, probabilities, and the sentences that were read for it, with their
characters, out. Or `text` and `aspect` in, and the same of that one. A filter keeps the sentences that concern an aspect's
coarse aspect; they and the aspect's readable name are a pair to the encoder, with an attention layer on top, as
BERT-Pair-ATT has it (see `kbert.aspects.text_filter` for the source; pairs of text and aspect: Sun et al. 2019, "Utilizing
BERT for Aspect-Based Sentiment Analysis via Constructing Auxiliary Sentence").
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import heads
from kbert.aspects import labels, names, word_weights
from kbert.aspects.aspect_attention import AspectAttention
from kbert.aspects.audit import AspectAudit
from kbert.aspects.filtering import Filtering, filter_inputs
from kbert.aspects.report import SENTENCES, AspectReport, AspectScorer
from kbert.aspects.selecting import POSITIONAL, Kept, joined, keep, positional_scores
from kbert.aspects.sentences import Sentences, sentences
from kbert.aspects.text_filter import TextFilter
from kbert.chunks import in_chunks
from kbert.config import ModelConfig, SourceConfig, from_json
from kbert.encoder import Encoder
from kbert.errors import UsageError
from kbert.options import AspectOptions
from kbert.sources import Table
from kbert.tasks.base import Encoded, Signature, Stage, Task, Tensors
from kbert.text import Tokenizer

CHUNK_TOKENS = 16384  # of sentences that pass through the filter at once
SURVEYED = 2000  # rows whose lengths are told in the log
OUTPUTS = ("aspect", "label", "probabilities", "sentences", "starts", "ends", "relevance", "count")


class Aspect(Task):
    """The task `aspect`; see `kbert.tasks.base.Task` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("macro_f1", "max")
    split_from: ClassVar[int] = 0
    nested: ClassVar[bool] = False
    windowed: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self.config = config
        self.options: AspectOptions = from_json(AspectOptions, config.options, "options")
        self.tokenizer = tokenizer
        self.options.check(config.max_length)
        self.aspects = self.options.aspects
        self.wide = len(config.fields) == 1
        coarse = labels.coarse_aspects(self.aspects)
        self.coarse_of = [coarse.index(aspect.coarse) for aspect in self.aspects]
        self.filter = self.options.filter
        told = labels.NOT_MENTIONED in config.labels
        if self.filter == "auto":
            self.filter = "tfn" if self.aspects and told else "lexical"
        if self.filter == "tfn" and not self.aspects:
            raise UsageError("--filter=tfn: the aspects have to be known; name them in --aspect_names, or use --filter=lexical")
        if self.filter == "tfn" and not told:
            raise UsageError(
                "--filter=tfn: no row is labelled -2 (not mentioned), and only from such is learnt which texts mention an "
                "aspect; use another --filter"
            )
        # A question is what sentences are picked for: a coarse aspect, or anything where none has a say.
        self.by_question = bool(self.aspects) and self.filter not in POSITIONAL
        self.questions = len(coarse) if self.by_question else 1
        self.text_filter: TextFilter | None = None
        self.word_weights: word_weights.WordWeights | None = None
        self.encoder: Encoder | None = None
        # Traced once, however many graphs it becomes part of.
        self._graph = tf.function(self._encode, reduce_retracing=True)

    @property
    def gold(self) -> tuple[str, ...]:
        """A column for each aspect, or that of the row's aspect."""
        return labels.gold_columns(self.aspects, self.wide)

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        count = len(source.text_columns)
        if count not in (1, 2):
            raise UsageError(
                f"--text_columns={','.join(source.text_columns)}: one is needed, of the text, where each aspect has a column; "
                "two, of text and aspect, where each row is about one"
            )
        return ("text", "aspect")[:count]

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, *label_columns(source))

    @staticmethod
    def settled(options: AspectOptions, source: SourceConfig) -> AspectOptions:
        file = options.aspect_names
        if len(source.text_columns) == 1:
            aspects = names.named(label_columns(source), file)
        else:
            aspects = () if file is None else names.read_names(file)
        return dataclasses.replace(options, aspects=aspects, aspect_names=None)

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> AspectAudit:
        known: AspectOptions = from_json(AspectOptions, options or {}, "options")
        return AspectAudit(source, known.aspects, len(fields) == 1, labels)

    def prepare(self, table: Table) -> Iterator[Stage]:
        """The filter's part: weights of words are counted, a network is trained on whether texts mention coarse aspects."""
        if self.word_weights is not None:
            self.word_weights.table.assign(self._counted(table))
        if self.text_filter is None:
            return
        assert self.encoder is not None
        self.text_filter.embedding.embeddings.assign(self.encoder.backbone.token_embedding.embeddings)
        self.text_filter.trainable = True
        self.text_filter.embedding.trainable = False
        task = Filtering(self.config, self.tokenizer, self.options, self.wide, self.text_filter)
        options = self.options
        yield Stage(
            "filter", task, task.model, {"epochs": options.filter_epochs, "learning_rate": options.filter_learning_rate}
        )
        self.text_filter.trainable = False

    def _counted(self, table: Table) -> np.ndarray:
        """The weights of words in the training rows."""
        columns = (*self.config.fields, *self.gold)

        def texts() -> Iterator[tuple[list[list[int]], np.ndarray]]:
            cuts = table.stretches(1024, 1 << 20)
            for start, stop in itertools.pairwise(cuts):
                raw = dict(zip(columns, table.read(range(start, stop)).values(), strict=True))
                found = labels.numbers(raw, self.aspects, self.config.labels, self.wide)
                ids = self.tokenizer.tokenize(tf.constant(raw["text"])).to_list()
                yield ids, labels.mentions(found, self.aspects, self.config.labels)

        own: list[list[int]] = [[] for _ in range(self.questions)]
        readable = [f"{aspect.coarse} {aspect.readable}" for aspect in self.aspects]
        for place, ids in zip(self.coarse_of, self.tokenizer.tokenize(tf.constant(readable)).to_list(), strict=True):
            own[place] += ids
        return word_weights.counted(texts(), own, len(self.tokenizer.vocabulary))

    def encode(self, raw: Tensors) -> Encoded:
        """Inputs of the encoder, `[CLS] sentences kept [SEP] readable aspect [SEP]`: one for each row and aspect.

        Returns:
            Besides ids, segments and `row`, [inputs]: `found`, the texts' `Sentences`; `kept`, those of them that are read,
            for each text and question; `relevance`, float32 [sentences, questions]; `group`, int32 [inputs], the place in
            `kept` of each input's.
        """
        encoded: Encoded = self._graph({name: raw[name] for name in ("text", "aspect") if name in raw})
        return encoded

    def _encode(self, raw: Tensors) -> Encoded:
        texts = tf.size(raw["text"])
        found = sentences(self.tokenizer, raw["text"])
        of_row, readable = self._asked(raw)  # the aspect of each row, where rows have one
        most = self.config.max_length // 4
        terms = self.tokenizer.tokenize(readable, max_words=most)[:, :most]
        room = self.config.max_length - 3 - tf.cast(terms.row_lengths(), tf.int32)
        if self.aspects:
            room = tf.reduce_min(room)  # aspects that share a coarse one share its sentences
        relevance = self._relevance(found, texts, of_row, terms)
        lengths = tf.cast(found.token_ids.row_lengths(), tf.int32)
        threshold = self.options.filter_threshold if self.filter == "tfn" else None
        kept = keep(relevance, lengths, found.row, texts, room, threshold)
        read = joined(found.token_ids, kept)  # [texts * questions, (tokens)]
        row = tf.range(texts)
        if "aspect" in raw:
            group = row
            terms = tf.gather(terms, of_row) if self.aspects else terms
        else:
            aspects = len(self.aspects)
            places = self.coarse_of if self.by_question else [0] * aspects
            group = tf.reshape(row[:, None] * self.questions + tf.constant(places), [-1])
            terms = tf.gather(terms, tf.tile(tf.range(aspects), [texts]))
            row = tf.repeat(row, aspects)
        packed = self.tokenizer.pack([tf.gather(read, group), terms], self.config.max_length)
        return {**packed, "row": row, "group": group, "found": found, "kept": kept, "relevance": relevance}

    def _asked(self, raw: Tensors) -> tuple[tf.Tensor | None, tf.Tensor]:
        """The number of each row's aspect, int32 [rows], where rows name one of the model's, and what is read for aspects."""
        if not self.aspects:
            return None, raw["aspect"]
        readable = tf.constant([aspect.readable for aspect in self.aspects])
        if "aspect" not in raw:
            return None, readable
        known = tf.constant([aspect.name for aspect in self.aspects])
        same = (raw["aspect"][:, None] == known) | (raw["aspect"][:, None] == readable)
        unknown = tf.boolean_mask(raw["aspect"], ~tf.reduce_any(same, 1))
        said = f"DataError: aspects are {', '.join(aspect.name for aspect in self.aspects)}; found"
        check = tf.debugging.Assert(tf.size(unknown) == 0, [said, unknown])
        with tf.control_dependencies([] if check is None else [check]):
            return tf.argmax(same, 1, tf.int32), readable

    def _relevance(self, found: Sentences, texts: tf.Tensor, of_row: tf.Tensor | None, terms: tf.RaggedTensor) -> tf.Tensor:
        """How much each sentence has to do with each question, float32 [sentences, questions]; one where rows have one."""
        if self.filter in POSITIONAL:
            return positional_scores(self.filter, found.row, texts)
        if not self.aspects:
            return word_weights.shared(found.token_ids, found.row, terms)
        text_filter = self.text_filter
        if text_filter is not None:
            logits = in_chunks(
                lambda part: text_filter(part["token_ids"], part["padding_mask"], training=False),
                tf.TensorSpec([None, self.questions], tf.float32),
                filter_inputs(self.tokenizer, found),
                self.tokenizer.pad_id,
                CHUNK_TOKENS,
            )
            relevance = tf.sigmoid(logits)
        else:
            assert self.word_weights is not None
            relevance = self.word_weights.scores(found.token_ids)
        if of_row is None:
            return relevance
        question = tf.gather(tf.constant(self.coarse_of), tf.gather(of_row, found.row))
        return tf.gather(relevance, question, batch_dims=1)[:, None]

    def supervise(self, raw: Tensors, encoded: Encoded) -> tf.Tensor:
        """Each input's label, int32 [inputs]."""
        columns = ["aspect", *self.gold] if not self.wide else list(self.gold)

        def read(*values: np.ndarray) -> np.ndarray:
            found = labels.numbers(dict(zip(columns, values, strict=True)), self.aspects, self.config.labels, self.wide)
            return found.reshape(-1) if self.wide else found.max(1)

        return tf.ensure_shape(tf.numpy_function(read, [raw[name] for name in columns], tf.int32), [None])

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        count, found, tokens, read = 0, 0, 0, 0.0
        measure = tf.function(self._lengths, reduce_retracing=True)
        for raw in rows:
            count += len(raw["text"])
            sizes = [value.numpy() for value in measure({name: raw[name] for name in self.config.fields})]
            found, tokens, read = found + sizes[0], tokens + sizes[1], read + sizes[2]
            if count >= SURVEYED:
                break
        return [
            f"texts have {found / count:.0f} sentences, {tokens / count:.0f} tokens on average; "
            f"--filter={self.filter} keeps {read / count:.0f} tokens for an aspect"
        ]

    def _lengths(self, raw: Tensors) -> tuple[tf.Tensor, ...]:
        """Over some rows: sentences, tokens, tokens kept for a question."""
        encoded = self.encode(raw)
        ids, kept = encoded["found"].token_ids, encoded["kept"]
        questions = tf.cast(tf.shape(encoded["relevance"])[1], tf.float32)
        return ids.nrows(), tf.size(ids.values), tf.cast(tf.reduce_sum(kept.tokens.values), tf.float32) / questions

    def build(self, encoder: Encoder) -> keras.Model:
        if encoder.config.num_segments < 2:
            raise UsageError("--task=aspect: the checkpoint knows one segment, a text and an aspect need two")
        self.encoder = encoder
        encoder.backbone.pooled_dense.trainable = False
        inputs = heads.inputs()
        attends = self.options.pooling == "aspect_attention"
        hidden = encoder(inputs, first_only=not attends)
        pooled = hidden[:, 0]
        if attends:
            pooled = AspectAttention(encoder.config.hidden_dim)(hidden, inputs["segment_ids"], inputs["padding_mask"])
        pooled = keras.layers.Dropout(self.options.head_dropout, dtype="float32", name="head_dropout")(pooled)
        classifier = keras.layers.Dense(
            len(self.config.labels), kernel_initializer=heads.initializer(), dtype="float32", name="classifier"
        )
        model = keras.Model(inputs, classifier(pooled), name="aspect")
        # The filter's weights are the model's too, though ids pass it by.
        size, options = encoder.config.vocabulary_size, self.options
        if self.filter == "tfn":
            hidden_dim = encoder.config.hidden_dim
            self.text_filter = TextFilter(self.questions, size, hidden_dim, options.filter_units, options.filter_dropout)
            self.text_filter.trainable = False
            model.text_filter = self.text_filter
        elif self.filter == "lexical" and self.aspects:
            model.word_weights = self.word_weights = word_weights.WordWeights(size, self.questions)
        return model

    def compile_args(self) -> dict[str, Any]:
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    def calibrate(self, values: dict[str, float]) -> None:
        pass

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        """What is served, of each row and aspect, or of the row's own aspect, where `aspect` came in.

        Returns:
            `aspect` and `label` [rows, aspects], `probabilities` [rows, aspects, labels]; the sentences that were read,
            [rows, aspects, sentences]: `sentences`, their `starts` and `ends` in characters of the text (Python's, from 0, the
            end exclusive) and `relevance`, padded with "", -1 and 0, and their `count` [rows, aspects]. Without the axis of
            aspects where rows have one. And for the panel, of the first sentences of each text: `sentence_start`,
            `sentence_end` [rows, sentences], `sentence_relevance`, `sentence_read` [rows, sentences, questions], with
            `sentence_count` [rows].
        """
        found: Sentences = encoded["found"]
        kept: Kept = encoded["kept"]
        relevance = encoded["relevance"]
        texts, questions = tf.size(raw["text"]), tf.shape(relevance)[1]
        # One more, since a sentence without a token begins behind the last.
        begins, ends = (tf.concat([values.values, [0]], 0) for values in (found.begins, found.ends))
        first = tf.cast(found.begins.row_starts(), tf.int32)
        start = tf.gather(begins, tf.gather(first, kept.sentence.values))
        stop = tf.gather(ends, tf.gather(first, kept.sentence.values) + kept.tokens.values - 1)
        question = tf.cast(kept.sentence.value_rowids(), tf.int32) % questions
        weight = tf.gather_nd(relevance, tf.stack([kept.sentence.values, question], 1))
        starts, stops, weights = (
            tf.gather(kept.sentence.with_values(values).to_tensor(padding), encoded["group"])
            for values, padding in ((start, -1), (stop, -1), (weight, 0.0))
        )
        count = tf.gather(tf.cast(kept.sentence.row_lengths(), tf.int32), encoded["group"])
        asked = encoded["group"] if not self.aspects or "aspect" in raw else tf.tile(tf.range(len(self.aspects)), [texts])
        name = raw["aspect"] if "aspect" in raw else tf.gather(tf.constant([a.name for a in self.aspects]), asked)
        # A space behind, since substr takes no place behind the last character, and an empty text has no first.
        text = tf.strings.unicode_transcode(raw["text"], "UTF-8", "UTF-8", errors="ignore") + " "
        shown = tf.strings.substr(
            text[:, None], tf.maximum(_by_row(starts, texts), 0), _by_row(stops - starts, texts), unit="UTF8_CHAR"
        )
        each = {
            "aspect": name,
            "label": tf.gather(tf.constant(self.config.labels), tf.argmax(outputs, -1)),
            "probabilities": tf.nn.softmax(outputs),
            "sentences": tf.reshape(shown, tf.shape(starts)),
            "starts": starts,
            "ends": stops,
            "relevance": weights,
            "count": count,
        }
        if "aspect" not in raw:
            aspects = len(self.aspects)
            each = {key: tf.reshape(v, tf.concat([[texts, aspects], tf.shape(v)[1:]], 0)) for key, v in each.items()}
        return {**each, **self._sentences(found, kept, relevance, question, texts)}

    def _sentences(self, found: Sentences, kept: Kept, relevance: tf.Tensor, question: tf.Tensor, texts: tf.Tensor) -> Tensors:
        """The first sentences of each text, for the panel."""
        at = tf.cast(found.begins.row_starts(), tf.int32)
        length = tf.cast(found.begins.row_lengths(), tf.int32)
        begins, ends = (tf.concat([values.values, [0]], 0) for values in (found.begins, found.ends))
        start = tf.where(length > 0, tf.gather(begins, at), 0)
        stop = tf.where(length > 0, tf.gather(ends, at + tf.maximum(length - 1, 0)), 0)
        places = tf.stack([kept.sentence.values, question], 1)
        read = tf.scatter_nd(places, tf.ones_like(question), tf.shape(relevance)) > 0

        def first(values: tf.Tensor) -> tf.Tensor:
            rows = tf.cast(found.row, tf.int64)
            return tf.RaggedTensor.from_value_rowids(values, rows, tf.cast(texts, tf.int64), validate=False)[:, :SENTENCES]

        return {
            "sentence_start": first(start).to_tensor(-1),
            "sentence_end": first(stop).to_tensor(-1),
            "sentence_relevance": first(relevance).to_tensor(),
            "sentence_read": first(read).to_tensor(),
            "sentence_count": tf.cast(first(start).row_lengths(), tf.int32),
        }

    def signatures(self) -> dict[str, Signature]:
        pair = Signature(("text", "aspect"), OUTPUTS)
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

    def report(self, metrics: dict[str, Any]) -> AspectReport:
        return AspectReport(metrics, [])


def label_columns(source: SourceConfig) -> tuple[str, ...]:
    """The columns of labels: those of the aspects, comma-separated, or of rows that name their aspect the one."""
    columns = tuple(name.strip() for name in source.label_column.split(","))
    if not all(columns) or (len(source.text_columns) == 2 and len(columns) > 1):
        raise UsageError(
            f"--label_column={source.label_column}: expected the column of each aspect, comma-separated, or with two "
            "--text_columns the one column of labels"
        )
    return columns


def _by_row(values: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """[inputs, sentences] -> [rows, all inputs' sentences of the row]."""
    width = tf.size(values) // tf.maximum(texts, 1)
    return tf.reshape(values, [texts, width])


TASK = Aspect
