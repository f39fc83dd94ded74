"""Whether, or how well, a title and a text belong together.

Raw `title` and `text` in, `score` out. `cross`: one encoder reads both (Nogueira and Cho 2019). `dual`: the encoder
reads each by itself, and the score is the cosine of the two vectors (Reimers and Gurevych 2019, "Sentence-BERT"), which
can be kept: such a model serves `encode(text) -> vector` too. Pairs are labelled, or each row is a pair that belongs
together and the texts of other rows are what does not.
"""

from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.checkpoints.head import Head, Unfit
from kbert.config import ModelConfig
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.model import heads, pooling, window_bound
from kbert.model.encoder import Encoder
from kbert.model.gradient_cache import GradientCached
from kbert.model.long_text import LongText, inputs_of
from kbert.model.window_bound import TRUNCATED
from kbert.settings import from_json
from kbert.tasks.base import Built, Encoded, Examples, Lengths, Signature, Task, Tensors
from kbert.tasks.match import mining
from kbert.tasks.match.audit import FIELDS
from kbert.tasks.match.batch_loss import batch_loss
from kbert.tasks.match.negatives import Drawing, LabelledPairs, OtherRows, RowsWithNegatives, negative_columns
from kbert.tasks.match.options import BINARY, LOSSES, MatchOptions
from kbert.tasks.match.report import FIGURES, THRESHOLD, MatchReport, MatchScorer
from kbert.tasks.match.rows import MatchRows

POOL = 10  # hard negatives kept for each one that is drawn


class Match(MatchRows, Task):
    """The task `match`; see `kbert.tasks.base.Task` for what each method is for."""

    gold: ClassVar[tuple[str, ...]] = ("label",)
    windowed: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: MatchOptions = from_json(MatchOptions, config.options, "options")
        self.stride = self.options.shared(config.max_length)
        self.dual = self.options.scorer == "dual"
        self.labelled = bool(config.labels)
        self._negatives = negative_columns(self.options.hard_negatives + self.options.own_negatives)
        low, high = (float(label) for label in (config.labels[0], config.labels[-1])) if self.labelled else (0.0, 1.0)
        self.low, self.scale = low, high - low
        self.binary = not self.labelled or config.labels == BINARY
        self.options.check_labels(config.labels, config.max_length)
        self.loss = LOSSES[self.options.scorer, self.labelled][0] if self.options.loss == "auto" else self.options.loss
        # The least score of a pair that matches; a cosine's is found on dev.
        self.threshold: float | None = None if self.dual else 0.5

    @property
    def windows(self) -> int:
        """The most windows of a text."""
        return self.options.max_windows if self.options.long_text in ("max", "mean") else 1

    @property
    def grouped(self) -> bool:
        """Whether a row may have several inputs."""
        return self.dual or self.windows > 1

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        """The scalar that picks the best checkpoint."""
        if not self.labelled:  # how many pairs are drawn says nothing about how many will match
            return ("mrr" if self.dual else "roc_auc"), "max"
        return ("accuracy" if self.binary else "spearman"), "max"

    @property
    def figures(self) -> tuple[str, ...]:
        kind = "retrieval" if self.dual and not self.labelled else "labels" if self.binary else "grades"
        return FIGURES[kind]

    def examples(self, table: Table, seed: int, model: keras.Model) -> Examples | None:
        options = self.options
        if self.labelled or (self.dual and not options.hard_negatives + options.own_negatives):
            return None
        others = OtherRows(table)
        others.say_duplicates()
        pools = None
        if options.hard_negatives:
            vectors = mining.by_words(self._pieces) if options.mining == "lexical" else self._by_model(model)
            pools = mining.pools(others, vectors, POOL * options.hard_negatives, seed)
        random = 0 if self.dual else options.negatives
        drawing = Drawing(others, random=random, hard=options.hard_negatives, pools=pools)
        return RowsWithNegatives(drawing) if self.dual else LabelledPairs(drawing)

    @property
    def repeats(self) -> bool:
        return self.dual or self.labelled  # a cross-encoder reads titles together with negatives

    def measured(self, table: Table) -> Examples | None:
        # A cross-encoder can compare no title with all texts of a set; it is measured on negatives that stay the same.
        if self.dual or len(table.columns) > len(FIELDS):
            return None
        drawn = self.options.negatives + self.options.hard_negatives + self.options.own_negatives
        return LabelledPairs(Drawing(OtherRows(table), random=drawn, hard=0))

    def encode(self, raw: Tensors) -> Encoded:
        """Inputs of the encoder: `[CLS] title [SEP] text [SEP]`, or for `dual` `[CLS] text [SEP]` of each column.

        Returns:
            Besides ids and segments, int32 [inputs], those of a row together and in the order of its columns: `row`,
            and `part`, the number of the column; long texts may have several inputs.
        """
        return self._apart(raw) if self.dual else self._together(raw)

    def _together(self, raw: Tensors) -> Encoded:
        length, options = self.config.max_length, self.options
        title, text = raw["title"], raw["text"]
        if options.long_text == "head":
            pieces = [self.tokenizer.tokenize(column, max_words=length) for column in (title, text)]
            row = tf.range(tf.size(title))
        else:
            most = options.max_title_length
            titles = self.tokenizer.tokenize(title, max_words=most + 1)
            more = titles.row_lengths() > most
            titles = titles[:, :most]
            room = length - 3 - tf.cast(titles.row_lengths(), tf.int32)
            row, texts, beyond = self._inputs(self.tokenizer.tokenize(text), room)
            pieces = [tf.gather(titles, row), texts]
        packed = {**self.tokenizer.pack(pieces, length), "row": row, "part": tf.zeros_like(row)}
        return {**packed, TRUNCATED: more | beyond} if self.windows > 1 else packed

    def _apart(self, raw: Tensors) -> Encoded:
        length = self.config.max_length
        inputs, rows, parts, beyond = [], [], [], []
        for part, name in enumerate(self._columns(raw)):
            words = length if self.options.long_text == "head" else None
            row, pieces, more = self._inputs(self.tokenizer.tokenize(raw[name], max_words=words), length - 2)
            inputs.append(self.tokenizer.pack([pieces], length))
            rows.append(row)
            beyond.append(more)
            parts.append(tf.fill(tf.shape(row), part))
        row, part = tf.concat(rows, 0), tf.concat(parts, 0)
        order = tf.argsort(row * len(parts) + part, stable=True)
        packed = {name: tf.gather(tf.concat([i[name] for i in inputs], 0), order) for name in inputs[0]}
        packed |= {"row": tf.gather(row, order), "part": tf.gather(part, order)}
        return {**packed, TRUNCATED: tf.reduce_any(beyond, 0)} if self.windows > 1 else packed

    def encode_bounded(self, raw: Tensors) -> Encoded:
        if self.windows == 1:
            return self.encode(raw)
        return window_bound.of_heads(self.encode, raw, self._columns(raw), self.windows * self.config.max_length)

    def _columns(self, raw: Tensors) -> list[str]:
        """The columns that are read: those of the fields and of the negatives' texts that are there."""
        texts = self._negatives[1::2]
        return [name for name in (*FIELDS, *texts) if name in raw]

    def _inputs(self, pieces: tf.RaggedTensor, room: int | tf.Tensor) -> tuple[tf.Tensor, tf.RaggedTensor, tf.Tensor]:
        """Return the text of each input, its pieces, and whether each text is longer than its inputs hold, bool [texts]."""
        given = self.options.long_text
        how: LongText = "windows" if given in ("max", "mean") else given  # type: ignore[assignment]
        more = tf.cast(pieces.row_lengths(), tf.int32) > self.windows * room
        return *inputs_of(pieces, room, how, self.stride, self.options.max_windows), more

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths:
        """Of a cross-encoder's pairs, or of each text that the encoder reads by itself; in windows as many as there may be."""
        options, most = self.options, self.config.max_length
        windows = self.windows
        limit = f"--max_length={most}" + (f" in {windows} windows" if windows > 1 else "")
        beyond = "a higher --max_windows reads more" if windows > 1 else "--long_text=max and --long_text=mean read windows"
        if self.dual:
            whole = np.stack([tokens[name] for name in FIELDS if name in tokens], 1)
            return Lengths(whole + 2, np.minimum(whole, windows * (most - 2)) + 2, "texts", limit, beyond)
        title, text = (tokens[name] for name in FIELDS)
        if options.long_text == "head":
            whole = (title + text + 3)[:, None]
            return Lengths(whole, np.minimum(whole, most), "pairs", limit, beyond)
        read = np.minimum(title, options.max_title_length)
        read = read + np.minimum(text, windows * (most - 3 - read))
        return Lengths((title + text + 3)[:, None], (read + 3)[:, None], "pairs", limit, beyond)

    def supervise(self, raw: Tensors, encoded: Encoded) -> Tensors:
        """What the loss has to know of each input, [inputs] each.

        Returns:
            int32: `row`; `part`, the number of the column; `title` and `text`, numbers that equal titles and equal texts
            share (the title of a row's own text is the row's; that of a negative, the one it comes with). float32: `label`
            in 0..1, 0 where there is none.
        """
        rows = tf.size(raw["title"])
        names = self._negatives if "negative_1" in raw else ()
        titles, texts = ([raw[name] for name in (own, *names[first::2])] for first, own in enumerate(FIELDS))
        numbers = [tf.unique(tf.concat(columns, 0))[1] for columns in (titles, texts)]
        # The title itself has the numbers of its own pair.
        apart = [tf.concat([n[:rows], n], 0) for n in numbers] if self.dual else numbers
        label = tf.zeros(rows)
        if "label" in raw:
            label = (tf.strings.to_number(raw["label"]) - self.low) / self.scale
        row, part = encoded["row"], encoded["part"]
        title, text = (tf.gather(numbers, part * rows + row) for numbers in apart)
        return {"row": row, "part": part, "title": title, "text": text, "label": tf.gather(label, row)}

    def build(self, encoder: Encoder) -> Built:
        inputs = heads.inputs()
        how = self._reads(self.options.pooling)
        hidden = encoder(inputs, first_only=how in ("pooler", "cls"))
        pooled = _pooled(encoder, hidden, inputs["padding_mask"], how)
        if self.dual:
            pooled = heads.projected(pooled, self.options.projections)
            model = GradientCached(inputs, pooled, cached=self.options.gradient_cache, name="match")
            return Built(model=model, loss=self.losses)
        score = heads.dense_head(pooled, 1, name="score", dropout=self.options.head_dropout)
        return Built(model=keras.Model(inputs, score, name="match"), loss=self.losses)

    def _reads(self, given: str) -> Any:
        """Which vector is read, where `--pooling` may be auto."""
        return given if given != "auto" else "mean" if self.dual else "pooler"

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        foreign = head.kind == "classifier" and head.task is None and head.size == 1  # as cross-encoders are published
        head.check_kind("vectors" if self.dual else "classifier" if foreign else "score")
        head.check_option("pooling", self._reads(self.options.pooling), self._reads(head.options.get("pooling", "auto")))
        if self.dual:
            return {name: array for name, array in arrays.items() if name.startswith("projection_")}
        loss = head.options.get("loss", "auto")
        if head.options.get("problem_type") == "regression":
            loss = "squared_error"
        head.check_option("loss", self.loss, LOSSES["cross", True][0] if loss == "auto" else loss)
        low, high = (float(label) for label in (head.labels[0], head.labels[-1])) if head.task and head.labels else (0.0, 1.0)
        own = self.low, self.low + self.scale
        if (low, high) != own:
            raise Unfit(f"its scores are from {low:g} to {high:g}, and this run's from {own[0]:g} to {own[1]:g}")
        return {f"score/{name}": arrays[f"{head.kind}/{name}"] for name in ("kernel", "bias")}

    def losses(self, known: Tensors, outputs: tf.Tensor) -> tf.Tensor:
        """The loss of a batch, which is one number, for each of its inputs, so that their mean is the loss.

        Args:
            known: what `supervise` gives, [inputs] each.
            outputs: the model's, [inputs, ...].
        """
        row, part = known["row"], known["part"]
        begins = (row[1:] != row[:-1]) | (part[1:] != part[:-1])
        segment = tf.concat([[0], tf.cumsum(tf.cast(begins, tf.int32))], 0)  # [inputs]: which column of which row
        of_texts = {name: tf.math.segment_max(values, segment) for name, values in known.items()}
        loss = batch_loss(self.loss, self.options, self._joined(outputs, segment), of_texts)
        return tf.fill(tf.shape(row), loss)

    def _joined(self, outputs: tf.Tensor, segment: tf.Tensor) -> tf.Tensor:
        """Outputs [inputs, ...] of a text's windows as one [texts, ...]; `segment`, ascending, is the text each is of."""
        join = tf.math.segment_max if self.options.long_text == "max" else tf.math.segment_mean
        return join(tf.cast(outputs, tf.float32), segment)

    def calibrate(self, values: dict[str, float]) -> None:
        self.threshold = values.get(THRESHOLD, self.threshold)

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        """What is served.

        Returns:
            `score` float32 [rows], in the labels' own measure, or the cosine, and, where labels are 0 and 1 or drawn and
            the threshold is known, `match` bool [rows]. For `dual` the vectors too, of length 1 unless the option `normalize`
            says otherwise, float32 [rows, size]: `title_vector` and `text_vector`; of texts alone only `vector`.
        """
        columns = self._columns(raw) if self.dual else ["pair"]
        joined = self._joined(outputs, encoded["row"] * len(columns) + encoded["part"])
        if not self.dual:
            return self._scored(joined)
        shape = [tf.size(raw[columns[0]]), len(columns), joined.shape[-1]]
        vectors, unit = (tf.reshape(each, shape) for each in (self._vectors(joined), pooling.normalized(joined)))
        if len(columns) == 1:
            return {"vector": vectors[:, 0]}
        score = tf.reduce_sum(unit[:, 0] * unit[:, 1], -1)
        return {**self._decided(score), "title_vector": vectors[:, 0], "text_vector": vectors[:, 1]}

    def decode_ids(self, outputs: tf.Tensor) -> Tensors:
        """Return the score of each pair; for `dual` the vector of each text."""
        joined = self._joined(outputs, tf.range(tf.shape(outputs)[0]))
        return {"vector": self._vectors(joined)} if self.dual else self._scored(joined)

    def _vectors(self, joined: tf.Tensor) -> tf.Tensor:
        return pooling.normalized(joined) if self.options.normalize else joined

    def _scored(self, joined: tf.Tensor) -> Tensors:
        parts = joined[:, 0] if self.loss == "squared_error" else tf.sigmoid(joined[:, 0])
        return self._decided(self.low + self.scale * parts)

    def _decided(self, score: tf.Tensor) -> Tensors:
        if self.threshold is None or not self.binary:
            return {"score": score}
        return {"score": score, "match": score >= self.threshold}

    def signatures(self) -> dict[str, Signature]:
        bound = (TRUNCATED,) if self.windows > 1 else ()
        decided = (*(("score", "match") if self.binary and self.threshold is not None else ("score",)), *bound)
        score = Signature(FIELDS, decided)
        if not self.dual:
            return {"serving_default": score}
        return {"serving_default": score, "score": score, "encode": Signature(FIELDS[1:], ("vector", *bound))}

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        return {name: decoded[name][row].item() for name in ("score", "match") if name in decoded}

    def scorer(self, calibrates: bool) -> MatchScorer:
        return MatchScorer(self.threshold, graded=not self.binary)

    @staticmethod
    def report(metrics: dict[str, Any]) -> MatchReport:
        return MatchReport(metrics)

    def _pieces(self, texts: np.ndarray) -> list[list[int]]:
        pieces: list[list[int]] = self.tokenizer.tokenize(tf.constant(texts), max_words=self.config.max_length).to_list()
        return pieces

    def _by_model(self, model: keras.Model) -> mining.Vectors:
        """Vectors of the heads of texts by the encoder as it is now."""
        length, reader = self.config.max_length, model
        if not self.dual:
            inputs = heads.inputs()
            counts = pooling.counted(inputs["padding_mask"], special_tokens=True)
            reader = keras.Model(inputs, pooling.pool(model.get_layer("encoder")(inputs), counts, "mean"))

        @graphs.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def read(texts: tf.Tensor) -> tf.Tensor:
            packed = self.tokenizer.pack([self.tokenizer.tokenize(texts, max_words=length)], length)
            mask = tf.sequence_mask(packed["token_ids"].row_lengths(), dtype=tf.int32)
            ids, segments = packed["token_ids"].to_tensor(self.tokenizer.pad_id), packed["segment_ids"].to_tensor()
            inputs = {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}
            return pooling.normalized(reader(inputs, training=False))

        return mining.by_vectors(lambda texts: read(tf.constant(texts)).numpy())


def _pooled(encoder: Encoder, hidden: Any, padding_mask: Any, how: Literal["pooler", "cls", "mean", "max"]) -> Any:
    """One vector an input, [CLS] and [SEP] counted; the encoder's own pooler is set aside where it is not read."""
    if how == "pooler":
        return heads.Pool(encoder, how)(hidden, padding_mask)
    encoder.backbone.pooled_dense.trainable = False
    return pooling.pool(hidden, pooling.counted(padding_mask, special_tokens=True), how)


TASK = Match
