"""Read a vocabulary of WordPiece tokens, `vocab.txt`, and number its tokens.

In: a file. Out: the tokens in id order, checked. No TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path

from kbert.errors import DataError

UNKNOWN, CLS, SEP, PAD, MASK = "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"


def read_vocabulary(path: Path) -> list[str]:
    """Return the tokens of a `vocab.txt`, one a line; a token's id is its line, counted from 0.

    As in Google's and Hugging Face's readers a blank line takes an id, and a token listed twice has the id of its last line
    (`numbered`). A byte-order mark, line ends of any kind and blank lines at the end are not part of the tokens.

    Raises:
        DataError: the file is missing, not UTF-8, or lacks [UNK], [CLS], [SEP] or [PAD].
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text: {error}") from None
    vocabulary = [line.strip() for line in text.split("\n")]
    while vocabulary and not vocabulary[-1]:
        vocabulary.pop()
    check_vocabulary(vocabulary, str(path))
    return vocabulary


def check_vocabulary(vocabulary: Sequence[str], where: str) -> None:
    """Raise DataError if a special token is missing."""
    for token in (UNKNOWN, CLS, SEP, PAD):
        if token not in vocabulary:
            raise DataError(f"{where}: no {token} among its {len(vocabulary):,} tokens; is it a BERT vocabulary?")


def numbered(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the id of each token: its last place in the vocabulary. Blank places are no tokens."""
    return {token: i for i, token in enumerate(vocabulary) if token}


def distinct(vocabulary: Sequence[str]) -> list[str]:
    """Return the vocabulary with what matches no text at blank places and at all but the last place of a token."""
    ids = numbered(vocabulary)
    return [token if ids.get(token) == i else f"[ {i} ]" for i, token in enumerate(vocabulary)]
