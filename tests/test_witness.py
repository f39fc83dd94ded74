"""Ids against Google's own tokenizer: every assigned code point, and a share of the random strings of `witness_text.py`."""

import pytest
import tensorflow as tf
import witness_text
from conftest import VOCABULARY

from kbert.text import Tokenizer

# Pieces of many scripts in their normalised forms, so that an id says which letters were read.
LETTERS = [
    chr(c)
    for low, high in [
        *((0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0xC0, 0x24F), (0x391, 0x3CE), (0x410, 0x44F), (0x5D0, 0x5EA)),
        *(
            (0x621, 0x64A),
            (0x904, 0x939),
            (0x1100, 0x11FF),
            (0x3041, 0x30FE),
            (0x4E00, 0x4F00),
            (0x300, 0x36F),
            (0x1F600, 0x1F64F),
        ),
    ]
    for c in range(low, high + 1)
]
MANY = list(dict.fromkeys([*VOCABULARY, *LETTERS, *("##" + c for c in LETTERS), "##el", "##ing", "the", "他们", "##σς"]))


@pytest.mark.parametrize("lowercase", [True, False])
def test_words_of_code_points(lowercase):
    """Alone, between letters and doubled; words decide ids, whatever the vocabulary."""
    basic = witness_text.google().BasicTokenizer(do_lower_case=lowercase)
    tokenizer = Tokenizer(VOCABULARY, lowercase=lowercase, strip_accents=lowercase)
    texts = list(witness_text.code_points(2048, sparsely=True))
    assert sum(len(text.decode().split()) for text in texts) > 600_000
    for text in texts:
        found = tokenizer._words(tf.constant([text])).values.numpy()
        assert [word.decode() for word in found] == [w if len(w) <= 200 else "[UNK]" for w in basic.tokenize(text)]


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_of_random_strings(lowercase):
    total, different = witness_text.differences(MANY, lowercase, witness_text.random_strings(8000, seed=1))
    assert total == 8000 and different == []


def test_the_witness_sees_a_difference():
    texts = [b"caf\xc3\xa9", b"film"]
    vocabulary = [*VOCABULARY[:5], "cafe", "café"]
    assert witness_text.differences(vocabulary, True, iter(texts)) == (2, [])
    witness = witness_text.full_tokenizer(vocabulary, False)
    assert witness(texts[0]) == [6] and witness(texts[1]) == [1]
