"""Learn a WordPiece vocabulary from text.

In: blocks of sentences, and the casing to read them with. Out: the tokens in id order: special tokens,
unused ones, characters that are words of their own (Chinese ones, punctuation), and pieces of all other words. Words are
counted as `kbert.data.tokenizer` splits and normalises them, so that the vocabulary fits the tokenizer; pieces are learnt by
Hugging Face `tokenizers` (tensorflow-text's trainer, in Python, needs minutes where it needs seconds).
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable

import tensorflow as tf

from kbert import graphs
from kbert.data.tokenizer import Tokenizer
from kbert.data.vocabulary import CLS, MASK, PAD, SEP, UNKNOWN
from kbert.errors import DataError, UsageError
from kbert.pretraining.corpus import Block

log = logging.getLogger(__name__)

SPECIAL = [PAD, UNKNOWN, CLS, SEP, MASK]
MOST_WORDS = 2_000_000  # maximum distinct words counted; the rarest are dropped to make room
MOST_LEARNT = 50_000_000  # maximum words to learn pieces from, counting all occurrences
MOST_LETTERS = 2000  # maximum distinct letters of words


def count_words(blocks: Iterable[Block], *, lowercase: bool) -> Counter[str]:
    """Count normalised words in the text; memory is bounded by `MOST_WORDS` of them."""
    tokenizer = Tokenizer([*SPECIAL, "a"], lowercase=lowercase, strip_accents=lowercase)
    words = graphs.function(tokenizer.words, input_signature=[tf.TensorSpec([None], tf.string)])
    counts: Counter[bytes] = Counter()
    least = 1
    for block in blocks:
        counts.update(words(tf.constant(block.sentences)).values.numpy().tolist())
        while len(counts) > MOST_WORDS:
            counts = Counter({word: count for word, count in counts.items() if count > least})
            log.warning("more than %d different words: those seen %d times so far are dropped", MOST_WORDS, least)
            least += 1
    found = Counter({word.decode(): count for word, count in counts.items()})
    del found[UNKNOWN]  # replaces words of more than 200 characters
    return found


def vocabulary(counts: Counter[str], size: int, *, unused: int = 0, least: int = 2) -> list[str]:
    """Learn at most `size` tokens from word counts.

    Args:
        unused: number of `[unusedN]` tokens.
        least: minimum count of a character that is a word of its own.

    Raises:
        DataError: the size is too small for the required tokens.
    """
    fixed = [*SPECIAL, *(f"[unused{i}]" for i in range(unused))]
    room = size - len(fixed)
    letters = {letter for word in counts if len(word) > 1 for letter in word}
    # Characters that BERT splits off occur in no other word; they need no "##" form.
    alone = [word for word, count in counts.most_common() if len(word) == 1 and word not in letters and count >= least]
    joined = Counter({word: count for word, count in counts.items() if len(word) > 1 or word in letters})
    if room <= 0 or (joined and room < 100):
        raise DataError(f"--vocab_size={size}: too small for {len(fixed)} special and unused tokens and pieces of words")
    alone = alone[: room - (room // 20 if joined else 0)]
    tokens = [*fixed, *alone, *_pieces(joined, room - len(alone))]
    if len(tokens) < 0.9 * size:
        log.warning("%d tokens instead of %d: the text has no more that occur often enough", len(tokens), size)
    return tokens


def _pieces(counts: Counter[str], room: int) -> list[str]:
    """Learn at most `room` pieces of words, letters first, then in order of merging."""
    try:
        from tokenizers import Tokenizer as Learner
        from tokenizers import models, pre_tokenizers, trainers
    except ImportError:
        raise UsageError("making a vocabulary needs tokenizers; pip install 'kbert-keras[vocab]'") from None
    if not counts or room <= 0:
        return []
    learner = Learner(models.WordPiece(unk_token=UNKNOWN))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Each letter can be needed twice, alone and after "##"; words with rarer letters stay [UNK].
    trainer = trainers.WordPieceTrainer(
        vocab_size=room,
        min_frequency=2,
        show_progress=False,
        limit_alphabet=max(1, min(MOST_LETTERS, room // 4)),
        continuing_subword_prefix="##",
    )
    # The trainer counts words itself, so a word is repeated as often as it was seen, or proportionally for large corpora.
    share = min(1.0, MOST_LEARNT / counts.total())
    repeated = ((word + " ") * math.ceil(count * share) for word, count in sorted(counts.items()))
    learner.train_from_iterator(repeated, trainer)
    pieces: dict[str, int] = learner.get_vocab(with_added_tokens=False)
    return sorted(pieces, key=lambda piece: pieces[piece])[:room]
