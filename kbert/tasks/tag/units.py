"""Determine the units that carry tags: a row's tokens if it has them, else the words of its text; in the graph.

In: texts, their tokens' offsets (strings, `kbert.data.tokens.placed`), and the tokenizer's pieces. Out: the units' offsets
in the text, and the piece that represents each to the model: its first one. A token of a file may have no piece: it is
inside a word that an earlier token begins ("M" and "W" of "BMW", if tokens are characters), or normalised away (a
zero-width space). Such a token is not trained, and its tag is derived from its neighbours.
"""

from typing import NamedTuple

import tensorflow as tf

from kbert.data.tokens import CHINESE, SINGLE, Tokens, wide_class


class Pieces(NamedTuple):
    """The pieces of some rows' texts, [rows, (pieces)] each."""

    ids: tf.RaggedTensor  # int32
    starts: tf.RaggedTensor  # int32: the first character of each
    ends: tf.RaggedTensor  # int32: one past its last character
    opens_word: tf.RaggedTensor  # bool: whether it is the first of a word


class Units(NamedTuple):
    """The units of some rows, in order."""

    starts: tf.RaggedTensor  # int32 [rows, (units)]: the first character of each
    ends: tf.RaggedTensor  # int32, same shape: one past its last character
    own: tf.Tensor  # bool [units of all rows]: whether a piece begins in the unit
    inside: tf.Tensor  # bool, same shape: whether an earlier piece extends into it
    shows: tf.Tensor  # int32 [pieces of all rows]: index among the `own` units of which it is the first piece, or -1


def units(pieces: Pieces, places: tf.Tensor) -> Units:
    """Compute the units of some rows.

    Args:
        pieces: those of their texts.
        places: offsets of tokens, strings [rows]; "" for rows whose units are words.
    """
    ids, starts, ends, opens_word = pieces.ids, pieces.starts, pieces.ends, pieces.opens_word.values
    closes_word = tf.concat([opens_word[1:], [True]], 0)[: tf.size(opens_word)]
    row = ids.value_rowids()
    words = tf.equal(places, "")
    from_words = [
        tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(values.values, chosen & tf.gather(words, row)),
            tf.boolean_mask(row, opens_word & tf.gather(words, row)),
            nrows=ids.nrows(),
            validate=False,
        )
        for values, chosen in ((starts, opens_word), (ends, closes_word))
    ]
    written = tf.strings.split(places)
    numbers = tf.strings.to_number(written.values, tf.int32)
    splits = written.row_splits // 2
    from_tokens = [tf.RaggedTensor.from_row_splits(numbers[first::2], splits, validate=False) for first in (0, 1)]
    # A row's units are either tokens or words.
    unit_starts, unit_ends = (tf.concat(both, 1) for both in zip(from_words, from_tokens, strict=True))

    # One axis for all rows: a row's characters, then the next one's.
    most = tf.reduce_max(tf.concat([ends.values, unit_ends.values, [0]], 0))
    width = tf.cast(most, tf.int64) + 1

    def along(values: tf.RaggedTensor) -> tf.Tensor:
        return tf.cast(values.values, tf.int64) + values.value_rowids() * width

    begin, stop = along(unit_starts), along(unit_ends)
    piece, behind = along(starts), along(ends)
    unit = tf.searchsorted(begin, piece, side="right") - 1  # the last unit that begins no later
    within = (unit >= 0) & (piece < tf.gather(tf.concat([[0], stop], 0), unit + 1))
    first = within & (unit != tf.concat([[-1], unit[:-1]], 0)[: tf.size(unit)])
    own = tf.scatter_nd(tf.boolean_mask(unit, first)[:, None], tf.ones_like(tf.boolean_mask(unit, first)), tf.shape(begin)) > 0
    before = tf.searchsorted(piece, begin, side="left")  # pieces that begin before each unit
    inside = tf.gather(tf.concat([[0], behind], 0), before) > begin
    shows = tf.where(first, tf.cumsum(tf.cast(first, tf.int32)) - 1, -1)
    return Units(unit_starts, unit_ends, own, inside & ~own, shows)


def spread(
    kind: tf.Tensor, goes_on: tf.Tensor, row: tf.Tensor, own: tf.Tensor, inside: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Extend predictions to the units without a piece of their own.

    Such a unit continues the entity of the previous unit if it is inside the same word, or if the next unit
    continues that entity; else it is outside.

    Args:
        kind: type of each unit that is `own`, int32 [own units], -1 outside.
        goes_on: whether it continues an entity, rather than begins one; bool, same shape.
        row: the row of each unit, [units].
        own, inside: as in `Units`.

    Returns:
        Type and continuation flag of all units.
    """
    at = tf.cumsum(tf.cast(own, tf.int32)) - 1  # index of the last own unit up to each
    row = tf.cast(row, tf.int32)
    own_row = tf.boolean_mask(row, own)
    count = tf.size(own_row)
    kinds, rows = tf.concat([[-1], kind, [-1]], 0), tf.concat([[-1], own_row, [-1]], 0)
    kind_before = tf.where(tf.gather(rows, at + 1) == row, tf.gather(kinds, at + 1), -1)
    behind = tf.minimum(at + 1, count) + 1
    carried = tf.gather(tf.concat([[False], goes_on, [False]], 0), behind) & (tf.gather(rows, behind) == row)
    carried &= tf.gather(kinds, behind) == kind_before
    kept = tf.where(inside | carried, kind_before, -1)
    own_goes_on = tf.gather(tf.concat([[False], goes_on], 0), at + 1)
    return tf.where(own, tf.gather(kinds, at + 1), kept), tf.where(own, own_goes_on, kept >= 0)


def joined(tokens: tf.Tensor, kind: Tokens) -> dict[str, tf.Tensor]:
    """Join tokens into texts, with the tokens' offsets, as `kbert.data.tokens.joined` and `placed` do.

    Args:
        tokens: UTF-8 strings [rows, tokens], rows padded with "".
        kind: how they are joined.

    Returns:
        `text` and `tokens`, strings [rows].
    """
    by_row = tf.RaggedTensor.from_tensor(tokens, padding="")
    token = tf.strings.unicode_transcode(by_row.values, "UTF-8", "UTF-8", errors="ignore")
    row = by_row.value_rowids()
    length = tf.strings.length(token, "UTF8_CHAR")
    some = f"[{wide_class()}]"

    def share(true: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_mean(tf.cast(true, tf.float64), row, by_row.nrows())

    if kind == "auto":
        chinese = share(tf.strings.regex_full_match(token, some))
        characters = (share(length == 1) >= SINGLE) & (chinese >= CHINESE)
    else:
        characters = tf.fill([by_row.nrows()], kind == "characters")
    follows = tf.concat([[False], row[1:] == row[:-1]], 0)[: tf.size(row)]
    after_wide = tf.concat([[False], tf.strings.regex_full_match(token, f"(?s).*{some}")], 0)[: tf.size(row)]
    apart = follows & (length > 0) & ~after_wide & ~tf.strings.regex_full_match(token, f"(?s){some}.*")
    apart &= ~tf.gather(characters, row)
    gap = tf.cast(apart, tf.int32)
    stop = tf.cumsum(length + gap)
    stop -= tf.gather(tf.concat([[0], stop], 0), tf.gather(by_row.row_starts(), row))
    places = tf.strings.as_string(stop - length) + " " + tf.strings.as_string(stop)
    text = tf.where(apart, " ", "") + token
    return {
        "text": tf.strings.reduce_join(by_row.with_values(text), 1),
        "tokens": tf.strings.reduce_join(by_row.with_values(places), 1, separator=" "),
    }
