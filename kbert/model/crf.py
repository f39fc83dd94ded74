"""A linear-chain conditional random field: choose the tags of a text's words jointly.

In: scores of each word's tags. Out: the log-likelihood of given tags, the best sequence, the probability
of parts of it. Lafferty, McCallum and Pereira 2001; for neural scores Lample et al. 2016 (section
2.2). A sequence scores the sum of its words' scores, of the transitions between neighbours, and of its
first and last tag. All sums are logarithms in float32, except for probabilities of parts: those are
differences of sums over whole rows, which reach hundreds and would lose a score's fifth decimal.

Chains have no padding: `words`, float32 [words, tags], are the concatenation of all rows, and
`lengths`, int32 [rows]. A step processes only rows that are long enough, so that the cost of one text of 100,000
characters among short ones is proportional to its length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs

GAIN = 100.0
IMPOSSIBLE = -1e9  # finite, to avoid NaN in gradients and differences


class Order(NamedTuple):
    """Words sorted by position in the row, then by descending row length, so that each step is one slice."""

    packed: tf.Tensor  # [words]: the word at each position of this order
    back: tf.Tensor  # [words]: the inverse
    starts: tf.Tensor  # [steps + 1]: the first position of each step


class CRF(keras.layers.Layer):
    """Transitions between tags, and operations with them; calling the layer returns the scores unchanged.

    Adam moves a weight by about the learning rate whatever its scale, and rates made for a pretrained
    encoder would hardly move the transitions. They are therefore multiplied by `GAIN`, in their
    value but not in their gradient, which enters the global norm.

    Args:
        tags: number of tags.
        first_allowed: bool [tags], tags that can begin a text.
        allowed: bool [tags, tags], tags that can follow each tag. Both constrain `best` and probabilities only.
    """

    def __init__(self, tags: int, first_allowed: np.ndarray, allowed: np.ndarray):
        super().__init__(name="crf", dtype="float32")
        self.first_allowed, self.allowed = first_allowed, allowed
        self.start = self.add_weight(shape=(tags,), initializer="zeros", name="start")
        self.transitions = self.add_weight(shape=(tags, tags), initializer="zeros", name="transitions")
        self.end = self.add_weight(shape=(tags,), initializer="zeros", name="end")

    def call(self, words: Any) -> Any:
        return words

    def log_likelihood(self, words: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return the log probability of each row's tags, float32 [rows]; 0 for rows without words.

        Args:
            words: float32 [words, tags].
            tags: int32 [words].
            lengths: int32 [rows].
        """
        start, transitions, end = (_gained(v) for v in (self.start, self.transitions, self.end))
        row = tf.repeat(tf.range(tf.size(lengths)), lengths)
        at = tf.range(tf.size(tags)) - tf.gather(tf.cumsum(lengths, exclusive=True), row)
        before = tf.concat([tags[:1], tags[:-1]], 0)
        scores = tf.gather(words, tags, batch_dims=1)
        scores += tf.where(at == 0, tf.gather(start, tags), tf.gather_nd(transitions, tf.stack([before, tags], 1)))
        scores += tf.where(at == tf.gather(lengths, row) - 1, tf.gather(end, tags), 0.0)
        score = tf.math.unsorted_segment_sum(scores, row, tf.size(lengths))
        return score - log_normaliser(words, lengths, start, transitions, end)

    def best(self, words: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return the valid sequence of the highest score (Viterbi): tags, int32 [words]."""
        start, transitions, end = self._constrained()
        return viterbi(words, lengths, start, transitions, end)

    def log_probabilities(self, words: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        """Return the log probability, among valid sequences, that all words of a part have these tags.

        Args:
            words: float32 [words, tags].
            tags: int32 [words].
            lengths: int32 [rows].
            part: int32 [words], index from 0 of each requested run of adjacent words; -1 elsewhere.

        Returns:
            float32 [parts].
        """
        words, start, transitions, end = (tf.cast(t, tf.float64) for t in (words, *self._constrained()))
        before, after = forward(words, lengths, start, transitions), backward(words, lengths, transitions, end)
        normaliser = _sum_at_ends(before, lengths, end)
        row = tf.repeat(tf.range(tf.size(lengths)), lengths)
        opens = part != tf.concat([[-1], part[:-1]], 0)
        closes = part != tf.concat([part[1:], [-1]], 0)
        previous = tf.concat([tags[:1], tags[:-1]], 0)
        within = tf.gather(words, tags, batch_dims=1) + tf.gather_nd(transitions, tf.stack([previous, tags], 1))
        terms = tf.where(opens, tf.gather(before, tags, batch_dims=1), within)
        terms += tf.where(closes, tf.gather(after, tags, batch_dims=1) - tf.gather(normaliser, row), 0)
        logarithms = tf.math.unsorted_segment_sum(terms, part, tf.reduce_max(tf.concat([part, [-1]], 0)) + 1)
        return tf.cast(logarithms, tf.float32)

    def _constrained(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return (
            tf.where(self.first_allowed, _gained(self.start), IMPOSSIBLE),
            tf.where(self.allowed, _gained(self.transitions), IMPOSSIBLE),
            _gained(self.end),
        )


@graphs.custom_gradient
def log_normaliser(
    words: tf.Tensor, lengths: tf.Tensor, start: tf.Tensor, transitions: tf.Tensor, end: tf.Tensor
) -> tuple[tf.Tensor, Callable[..., Any]]:
    """Compute the log of the sum over all sequences of the exponential of their score, float32 [rows].

    Its derivatives are the marginal probabilities of tags and of pairs of tags, from the forward and backward
    sums; the steps themselves are not differentiated.
    """
    before = forward(words, lengths, start, transitions)
    normaliser = _sum_at_ends(before, lengths, end)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        after = backward(words, lengths, transitions, end)
        row = tf.repeat(tf.range(tf.size(lengths)), lengths)
        share = tf.gather(upstream, row)[:, None]
        level = tf.gather(normaliser, row)[:, None]
        single = share * tf.exp(before + after - level)  # [words, tags]
        onward = (words + after - level)[1:, None, :]
        pairs = tf.exp(before[:-1, :, None] + transitions[None] + onward) * share[1:, :, None]
        pairs = tf.where((row[1:] == row[:-1])[:, None, None], pairs, 0.0)  # [words - 1, tags, tags]
        new = tf.concat([[-1], row], 0)
        first = tf.boolean_mask(single, new[1:] != new[:-1])
        new = tf.concat([row, [-1]], 0)
        last = tf.boolean_mask(single, new[1:] != new[:-1])
        return single, None, tf.reduce_sum(first, 0), tf.reduce_sum(pairs, 0), tf.reduce_sum(last, 0)

    return normaliser, gradient


def forward(words: tf.Tensor, lengths: tf.Tensor, start: tf.Tensor, transitions: tf.Tensor) -> tf.Tensor:
    """Compute the log sum over all prefixes of a row that end in each word and tag, its score included: [words, tags]."""

    def onward(state: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        return scores + tf.reduce_logsumexp(state[:, :, None] + transitions[None], 1)

    order = _order(lengths)
    packed = tf.gather(words, order.packed)
    state = start + packed[: order.starts[1]]
    kept = _array(order, words.dtype, words.shape[1]).write(0, state)

    def step(t: tf.Tensor, state: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        scores = packed[order.starts[t] : order.starts[t + 1]]
        state = onward(state[: tf.shape(scores)[0]], scores)
        return t + 1, state, kept.write(t, state)

    kept = _steps(order, step, state, kept)
    return tf.gather(kept.concat(), order.back)


def backward(words: tf.Tensor, lengths: tf.Tensor, transitions: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Compute the log sum over all continuations of a row after each word and tag: [words, tags]."""
    order = _order(lengths)
    packed = tf.gather(words, order.packed)
    last = tf.size(order.starts) - 2

    def ending(t: tf.Tensor, going_on: tf.Tensor) -> tf.Tensor:
        count = order.starts[t + 1] - order.starts[t] - tf.shape(going_on)[0]
        return tf.concat([going_on, tf.tile(end[None], [count, 1])], 0)

    state = ending(last, packed[:0])
    kept = _array(order, words.dtype, words.shape[1]).write(last, state)

    def step(back: tf.Tensor, state: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        t = last - back
        onward = (packed[order.starts[t + 1] : order.starts[t + 2]] + state)[:, None, :] + transitions[None]
        state = ending(t, tf.reduce_logsumexp(onward, 2))
        return back + 1, state, kept.write(t, state)

    kept = _steps(order, step, state, kept)
    return tf.gather(kept.concat(), order.back)


def viterbi(words: tf.Tensor, lengths: tf.Tensor, start: tf.Tensor, transitions: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return the tags of each row's sequence of the highest score, int32 [words]."""
    order = _order(lengths)
    packed = tf.gather(words, order.packed)
    tags = words.shape[1]
    state = _levelled(start + packed[: order.starts[1]])
    scores = _array(order, words.dtype, tags).write(0, state)
    sources = _array(order, tf.int32, tags).write(0, tf.zeros_like(state, tf.int32))

    def step(
        t: tf.Tensor, state: tf.Tensor, kept: tuple[tf.TensorArray, tf.TensorArray]
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.TensorArray, tf.TensorArray]]:
        word = packed[order.starts[t] : order.starts[t + 1]]
        onward = state[: tf.shape(word)[0], :, None] + transitions[None]
        state = _levelled(word + tf.reduce_max(onward, 1))
        source = tf.argmax(onward, 1, output_type=tf.int32)
        return t + 1, state, (kept[0].write(t, state), kept[1].write(t, source))

    scores, sources = _steps(order, step, state, (scores, sources))
    final = tf.argmax(scores.concat() + end, 1, output_type=tf.int32)  # the best tag if the row ends there
    source = sources.concat()
    last = tf.size(order.starts) - 2
    chosen = final[order.starts[last] :]
    kept = _array(order, tf.int32).write(last, chosen)

    def trace(back: tf.Tensor, chosen: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        t = last - back
        before = tf.gather(source[order.starts[t + 1] : order.starts[t + 2]], chosen, batch_dims=1)
        chosen = tf.concat([before, final[order.starts[t] : order.starts[t + 1]][tf.size(before) :]], 0)
        return back + 1, chosen, kept.write(t, chosen)

    kept = _steps(order, trace, chosen, kept)
    return tf.gather(kept.concat(), order.back)


def _levelled(state: tf.Tensor) -> tf.Tensor:
    """Subtract the best score of each word's tags: choices stay the same, and sums over long rows keep their precision."""
    return state - tf.reduce_max(state, 1, keepdims=True)


def _steps(order: Order, step: Callable[..., Any], state: tf.Tensor, kept: Any) -> Any:
    """Run `step(number, state, kept)` from step 1 to the last; return what it keeps."""
    shape = tf.TensorShape([None, *state.shape[1:]])
    _, _, kept = tf.while_loop(
        lambda t, *_: t < tf.size(order.starts) - 1,
        step,
        (tf.constant(1), state, kept),
        shape_invariants=(tf.TensorShape([]), shape, tf.nest.map_structure(lambda _: tf.TensorShape(None), kept)),
        parallel_iterations=1,
    )
    return kept


def _order(lengths: tf.Tensor) -> Order:
    rows = tf.size(lengths)
    rank = tf.math.invert_permutation(tf.argsort(-lengths, stable=True))
    row = tf.repeat(tf.range(rows), lengths)
    at = tf.range(tf.size(row)) - tf.gather(tf.cumsum(lengths, exclusive=True), row)
    packed = tf.argsort(tf.cast(at, tf.int64) * tf.cast(rows, tf.int64) + tf.cast(tf.gather(rank, row), tf.int64))
    # At least one step, which may be empty.
    counts = tf.math.bincount(at, minlength=1)
    starts = tf.concat([[0], tf.cumsum(counts)], 0)
    return Order(packed, tf.math.invert_permutation(packed), starts)


def _array(order: Order, dtype: Any, *inner: int) -> tf.TensorArray:
    return tf.TensorArray(
        dtype, size=tf.size(order.starts) - 1, infer_shape=False, element_shape=tf.TensorShape([None, *inner])
    )


def _sum_at_ends(before: tf.Tensor, lengths: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return the log sum over a row's last tags, [rows]; 0 for rows without words."""
    held = tf.where(lengths > 0)[:, 0]
    last = tf.gather(tf.cumsum(lengths) - 1, held)
    sums = tf.reduce_logsumexp(tf.gather(before, last) + end, 1)
    return tf.tensor_scatter_nd_update(tf.zeros(tf.size(lengths), before.dtype), held[:, None], sums)


def _gained(weight: Any) -> tf.Tensor:
    value = tf.convert_to_tensor(weight)
    return value + tf.stop_gradient((GAIN - 1.0) * value)
