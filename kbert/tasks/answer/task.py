"""Extract the span of a context that answers a question.

Raw `question` and `context` in; the answer's text, its offsets in the context, a score, and the n
best out. The head is that of google-research/bert `run_squad.py`: one dense layer gives each token a
score for being the answer's first and one for being its last (Devlin et al. 2019, section 4.2); a
question without an answer points at [CLS] (section 4.3). Contexts are read in windows.
"""

import logging
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kbert import graphs
from kbert.checkpoints.head import Head
from kbert.config import ModelConfig
from kbert.data import squad
from kbert.data.tokenizer import Tokenizer
from kbert.model import heads, window_bound
from kbert.model.encoder import Encoder
from kbert.model.window_bound import TRUNCATED
from kbert.model.windows import windows
from kbert.settings import from_json
from kbert.tasks.answer import answer_spans
from kbert.tasks.answer.options import AnswerOptions
from kbert.tasks.answer.report import THRESHOLD, AnswerReport, AnswerScorer
from kbert.tasks.answer.rows import AnswerRows
from kbert.tasks.base import Built, Encoded, Lengths, Task, Tensors

log = logging.getLogger(__name__)


class Answer(AnswerRows, Task):
    """The task `answer`; see `kbert.tasks.base.Task` for the methods."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("f1", "max")
    figures: ClassVar[tuple[str, ...]] = ("exact_match", "f1", "answerable_f1", "unanswerable_f1")
    gold: ClassVar[tuple[str, ...]] = ("answers",)
    windowed: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: AnswerOptions = from_json(AnswerOptions, config.options, "options")
        self.shared = self.options.shared(config.max_length)
        self.threshold: float | None = None  # predict "no answer" if it scores better by more than this
        self.options.check(config.max_length)
        self._surveyed = graphs.function(self._survey, reduce_retracing=True)

    def encode(self, raw: Tensors) -> Encoded:
        """Encode windows `[CLS] question [SEP] part of the context [SEP]`.

        Returns:
            Besides ids, segments and `row`, [windows]: `first` and `prefix`, int32 [windows], the first context
            token of a window and the number of tokens before it; `begins` and `ends`, int32
            [rows, (context tokens)], offsets in `context`, strings [rows].
        """
        return self._encode(raw["question"], raw["context"])

    def encode_bounded(self, raw: Tensors) -> Encoded:
        most = window_bound.tokens_of(self.options.max_windows, self.config.max_length - 3, self.shared)
        return self._encode(raw["question"], *window_bound.head(raw["context"], window_bound.bytes_of(most)))

    def _encode(self, question: tf.Tensor, context: tf.Tensor, headed: tf.Tensor | None = None) -> Encoded:
        """Encode questions and contexts, both strings [rows]; with a bound if it is known which contexts are `headed`."""
        limit = self.options.max_question_length
        asked = self.tokenizer.tokenize(question, max_words=limit)[:, :limit]
        # Several questions may share one context: it is tokenized once.
        contexts, which = tf.unique(context)
        ids, begins, ends = (tf.gather(part, which) for part in self.tokenizer.tokenize_with_offsets(contexts))
        lengths = tf.cast(asked.row_lengths(), tf.int32)
        room = self.config.max_length - 3 - lengths
        bound: Encoded = {}
        if headed is not None:
            most = window_bound.tokens_of(self.options.max_windows, room, self.shared)
            opens_word = tf.gather(self.tokenizer.opens_word, ids.values)
            (ids, begins, ends), bound[TRUNCATED] = window_bound.bounded([ids, begins, ends], opens_word, most, headed)
        counts = tf.cast(ids.row_lengths(), tf.int32)
        # Not evenly spaced: windows are cut as in google-research/bert, for its models.
        cut = windows(counts, room, self.shared, even=False)
        part = cut.token.with_values(tf.gather(ids.values, cut.token.values))  # [windows, (context tokens)]
        packed = self.tokenizer.pack([tf.gather(asked, cut.row), part], self.config.max_length)
        prefix = tf.gather(lengths, cut.row) + 2
        places = {"row": cut.row, "first": cut.first, "prefix": prefix, "begins": begins, "ends": ends}
        return {**packed, **places, "context": context, **bound}

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths:
        """Return the lengths of the questions; contexts are read whole, in windows."""
        whole, limit = tokens["question"][:, None], self.options.max_question_length
        return Lengths(whole, np.minimum(whole, limit), "questions", f"--max_question_length={limit}")

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        most = self.options.max_answer_length
        asked = lost = long = 0
        for raw in rows:
            tokens = self._surveyed(raw).numpy()
            asked += len(tokens)
            answered = np.array([bool(squad.parse(document.decode())) for document in raw[self.gold[0]].numpy()])
            lost, long = lost + int((answered & (tokens == 0)).sum()), long + int((tokens > most).sum())
        said = {
            "questions have an answer that fits no window; trained as unanswerable: raise --doc_stride or --max_length": lost,
            f"questions have an answer of more than --max_answer_length={most} tokens, trained on but never predicted": long,
        }
        found = [f"{count:,} of {asked:,} {sentence}" for sentence, count in said.items() if count]
        if self.shared < most:
            found.append(
                f"--doc_stride={self.shared} is less than --max_answer_length={most}: an answer of more tokens "
                "than windows share may be cut at a window's edge"
            )
        return found

    def _survey(self, raw: Tensors) -> tf.Tensor:
        """Return the number of tokens of each answer as trained; 0 if it is not trained, [rows]."""
        encoded = self.encode(raw)
        first, last = tf.unstack(self.supervise(raw, encoded), axis=1)
        tokens = tf.where(first > 0, last - first + 1, 0)  # [windows]
        return tf.math.segment_max(tokens, encoded["row"])

    def supervise(self, raw: Tensors, encoded: Encoded) -> tf.Tensor:
        """Return the first and last token of the answer, int32 [windows, 2]; 0 and 0, [CLS], if a window lacks a part of it."""
        target = graphs.numpy_function(_targets, [raw["context"], raw[self.gold[0]]], tf.int32)
        start, end = tf.unstack(tf.ensure_shape(target, [None, 2]), axis=1)  # characters, [rows]
        begins, ends, row = encoded["begins"], encoded["ends"], encoded["row"]
        of = begins.value_rowids()
        rows = tf.size(start)
        # The tokens that share a character with the answer.
        before = tf.math.unsorted_segment_sum(tf.cast(ends.values <= tf.gather(start, of), tf.int32), of, rows)
        behind = tf.math.unsorted_segment_sum(tf.cast(begins.values < tf.gather(end, of), tf.int32), of, rows)
        first, last = tf.gather(before, row), tf.gather(behind, row) - 1
        here, width = encoded["first"], self._width(encoded)
        inside = (first <= last) & (first >= here) & (last < here + width)
        shift = encoded["prefix"] - here
        return tf.where(inside[:, None], tf.stack([first + shift, last + shift], 1), 0)

    def _width(self, encoded: Encoded) -> tf.Tensor:
        """Return the number of context tokens of each window, int32 [windows]."""
        return tf.cast(encoded["token_ids"].row_lengths(), tf.int32) - encoded["prefix"] - 1

    def build(self, encoder: Encoder) -> Built:
        inputs = heads.inputs()
        encoder.backbone.pooled_dense.trainable = False
        logits = heads.dense_head(encoder(inputs), 2, name="span")
        padding = 1.0 - ops.cast(inputs["padding_mask"], "float32")
        return Built(model=keras.Model(inputs, logits - 1e9 * padding[:, :, None], name="answer"), loss=span_loss)

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head.check_kind("span")
        return {name: arrays[name] for name in ("span/kernel", "span/bias")}

    def calibrate(self, values: dict[str, float]) -> None:
        self.threshold = values.get(THRESHOLD)

    def decode(self, outputs: tf.RaggedTensor, encoded: Encoded, raw: Tensors) -> Tensors:
        """Return the best answers.

        Returns:
            `answer`, `start`, `end` (characters of the context, -1 for no answer) and `score` [rows]; the same
            of the n best, `answers`, `starts`, `ends`, `scores` [rows, n], padded with "", -1 and 0, and `count`
            [rows]; `no_answer` [rows], by how much the score of [CLS] exceeds that of the best answer. Scores
            are probabilities among all possible spans (and "no answer", if the model may predict it).
            Characters are counted as in Python, without invalid bytes.
        """
        begins, ends, row = encoded["begins"], encoded["ends"], encoded["row"]
        counts = tf.cast(begins.row_lengths(), tf.int32)
        heads_at = tf.cast(outputs.row_starts(), tf.int32)
        start = heads_at + encoded["prefix"]
        width = self._width(encoded)
        logits = tf.gather(outputs.values, tf.ragged.range(start, start + width).values)  # [context tokens of all windows, 2]
        scores, firsts, lasts, total = answer_spans.best(
            logits, width, row, encoded["first"], counts, self.options.max_answer_length, self.options.n_best
        )
        # As in run_squad.py: "no answer" scores as the lowest of the windows' [CLS].
        none = tf.math.unsorted_segment_min(tf.reduce_sum(tf.gather(outputs.values, heads_at), -1), row, tf.size(counts))
        real = scores > answer_spans.NONE / 2  # [rows, n]
        margin = tf.where(real[:, 0], none - scores[:, 0], 1e9)
        if self.threshold is not None:
            total = tf.reduce_logsumexp([total, none], 0)
        shares = tf.where(real, tf.exp(scores - total[:, None]), 0.0)

        offset = tf.cast(begins.row_starts(), tf.int32)[:, None]
        starts = tf.where(real, tf.gather(_ended(begins.values), tf.where(real, offset + firsts, 0)), -1)
        stops = tf.where(real, tf.gather(_ended(ends.values), tf.where(real, offset + lasts, 0)), -1)
        # A space is appended, since substr rejects the position after the last character, and an empty text has no first.
        context = tf.strings.unicode_transcode(encoded["context"], "UTF-8", "UTF-8", errors="ignore") + " "
        texts = tf.strings.substr(context[:, None], tf.maximum(starts, 0), stops - starts, unit="UTF8_CHAR")

        silent = ~real[:, 0] if self.threshold is None else margin > self.threshold
        of_none = tf.zeros_like(none) if self.threshold is None else tf.exp(none - total)
        return {
            "answer": tf.where(silent, "", texts[:, 0]),
            "start": tf.where(silent, -1, starts[:, 0]),
            "end": tf.where(silent, -1, stops[:, 0]),
            "score": tf.where(silent, of_none, shares[:, 0]),
            "answers": texts,
            "starts": starts,
            "ends": stops,
            "scores": shares,
            "count": tf.reduce_sum(tf.cast(real, tf.int32), 1),
            "no_answer": margin,
        }

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        names = ("answer", "start", "end", "score")
        columns = {
            name: decoded[name][row : row + 1].tolist()[0] for name in (*names, *(name + "s" for name in names), "no_answer")
        }
        answers = [text.decode() for text in columns["answers"][: decoded["count"][row]]]
        lists = (answers, columns["starts"], columns["ends"], columns["scores"])
        n_best = [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=False)]
        best = {**{name: columns[name] for name in names}, "answer": columns["answer"].decode()}
        return {**best, "no_answer": columns["no_answer"], "n_best": n_best}

    def scorer(self, calibrates: bool) -> AnswerScorer:
        return AnswerScorer(self.options.answer_metric, self.threshold, calibrates)

    @staticmethod
    def report(metrics: dict[str, Any]) -> AnswerReport:
        return AnswerReport(metrics, [], metrics.get(THRESHOLD))


def span_loss(target: Any, logits: Any) -> Any:
    """Compute the cross-entropy of first and last token, [windows]; target int32 [windows, 2], logits [windows, tokens, 2]."""
    each = ops.sparse_categorical_crossentropy(target, ops.transpose(logits, (0, 2, 1)), from_logits=True)
    return ops.mean(each, -1)


def _targets(contexts: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Return the offsets of the gold answers, int32 [rows, 2]; -1 and -1 if there is none."""
    pairs = zip(contexts, documents, strict=True)
    found = [squad.target(context.decode(), squad.parse(document.decode())) for context, document in pairs]
    return np.array(found, np.int32).reshape(-1, 2)


def _ended(values: tf.Tensor) -> tf.Tensor:
    """Append one value, so that a gather past the end is valid."""
    return tf.concat([values, [-1]], 0)


TASK = Answer
