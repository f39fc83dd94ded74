"""Find the best spans in windows over long token rows; in the graph.

In: a start and an end score for every token of every window. Out: each row's best spans over all its windows.
"""

import tensorflow as tf

NONE = -1e30  # the score of an invalid span; finite, to avoid NaN


def best(
    logits: tf.Tensor, widths: tf.Tensor, row: tf.Tensor, first: tf.Tensor, counts: tf.Tensor, longest: int, n: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Find the rows' best spans of one to `longest` tokens, each inside one window; exact, not a beam.

    A span in several windows counts once, with its best score. Of equal scores the earlier span
    is preferred, then the shorter. Rows are searched one by one, so that memory is bounded by the
    longest row: some `longest` numbers for each of its tokens.

    Args:
        logits: start and end score of every token of every window, float32 [tokens, 2].
        widths: tokens of each window, int32 [windows].
        row, first: the row of each window and its first token there, int32 [windows], from `kbert.model.windows`.
        counts: tokens of each row, int32 [rows].
        longest: longest span in tokens.
        n: number of spans to return.

    Returns:
        Scores (start plus end score, `NONE` if there are fewer), first and last tokens (in the row),
        each [rows, n]; the log-sum-exp of all spans' scores, [rows].
    """
    limit = tf.repeat(tf.cumsum(widths), widths)  # [tokens]: after the last token of the same window
    token = tf.range(tf.size(limit)) - tf.repeat(tf.cumsum(widths, exclusive=True) - first, widths)
    totals = tf.math.unsorted_segment_sum(widths, row, tf.size(counts))  # [rows]: tokens in all windows
    splits = tf.concat([[0], tf.cumsum(totals)], 0)

    def of_row(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        here = slice(splits[number], splits[number + 1])
        at = tf.range(splits[number], splits[number + 1])[:, None] + tf.range(longest)  # [start tokens, lengths]
        ends = tf.gather(logits[:, 1], tf.minimum(at, tf.size(limit) - 1))
        scores = tf.where(at < limit[here, None], logits[here, 0, None] + ends, NONE)
        scores = tf.math.unsorted_segment_max(scores, token[here], counts[number])  # over windows: [tokens of the row, lengths]
        flat = tf.concat([tf.reshape(scores, [-1]), tf.fill([n], NONE)], 0)
        found = tf.math.top_k(flat, n)
        return found.values, found.indices, tf.reduce_logsumexp(flat)

    scores, spans, total = tf.map_fn(
        of_row,
        tf.range(tf.size(counts)),
        fn_output_signature=(tf.TensorSpec([n]), tf.TensorSpec([n], tf.int32), tf.TensorSpec([])),
        parallel_iterations=4,
    )
    starts = spans // longest
    return scores, starts, starts + spans % longest, total
