"""Windows over long token rows, and the best spans in them; in the graph.

In: how many tokens each row has and a window holds. Out: which tokens each window holds; and, from a
start and an end score for every token of every window, each row's best spans over all its windows.
"""

import tensorflow as tf

NONE = -1e30  # the score of what is no span; finite, so that no NaN can come of it


def windows(counts: tf.Tensor, room: tf.Tensor, overlap: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Windows that cover each row; each starts `room - overlap` tokens after the one before it.

    Every run of at most `overlap` tokens, and one more, lies whole in a window. A row without tokens has one empty window.

    Args:
        counts: tokens a row, int32 [rows].
        room: tokens that a window of the row holds, int32 [rows], more than `overlap`.
        overlap: tokens that a window shares with the one before it.

    Returns:
        The row each window is of, its first token and the one after its last, each int32 [windows].
    """
    advance = room - overlap
    number = 1 + tf.maximum(-(-(counts - room) // advance), 0)  # [rows]
    row = tf.repeat(tf.range(tf.size(counts)), number)
    place = tf.range(tf.size(row)) - tf.gather(tf.cumsum(number, exclusive=True), row)
    first = place * tf.gather(advance, row)
    return row, first, tf.minimum(first + tf.gather(room, row), tf.gather(counts, row))


def best(
    logits: tf.Tensor, widths: tf.Tensor, row: tf.Tensor, first: tf.Tensor, counts: tf.Tensor, longest: int, n: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the rows' best spans of one to `longest` tokens, each inside one window; exact, not a beam.

    A span that several windows hold counts once, with its best score. Of equal scores the earlier span
    is better, then the shorter. Rows are searched one after another, so that memory is that of the
    longest row: some `longest` numbers for each of its tokens.

    Args:
        logits: start and end score of every token of every window, float32 [tokens, 2].
        widths: tokens a window, int32 [windows].
        row, first: the row each window is of and its first token there, int32 [windows], from `windows`.
        counts: tokens a row, int32 [rows].
        longest: longest span in tokens.
        n: how many are wanted.

    Returns:
        Scores (start plus end score, `NONE` where there are fewer), first and last tokens (in the row),
        each [rows, n]; the logarithm of the sum of all spans' exponentiated scores, [rows].
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
