"""Ids against Google's own tokenizer: every assigned code point, and a share of the random strings of `witness_text.py`."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import witness_text
from conftest import VOCABULARY

from kbert.data.tokenizer import Tokenizer

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
    texts = list(witness_text.code_points(2048, sparsely=True))[lowercase::2]  # tests/witness_text.py takes them all in both
    assert sum(len(text.decode().split()) for text in texts) > 300_000
    for text in texts:
        found = tokenizer.words(tf.constant([text])).values.numpy()
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


def test_the_table_is_what_its_generator_makes(monkeypatch):
    from kbert.data import make_unicode_table as generator

    monkeypatch.setattr(generator, "unicodedata", witness_text.google().unicodedata)
    tokenizers = {v: Tokenizer(VOCABULARY, lowercase=bool(v & 1), strip_accents=bool(v & 2)) for v in range(4)}
    with np.load(Path(generator.__file__).with_name("unicode_table.npz"), allow_pickle=False) as table:
        assert table["version"] == witness_text.UNICODE
        assert set(np.unique(table["stage2"][table["stage1"][4]])) == {generator.OTHER, generator.CASED, generator.SKIPPED}
    codes = np.array([c for c in range(0x32000) if not 0xD800 <= c <= 0xDFFF and (c < 0x3000 or c % 7 == 0)], np.int32)
    for variant, tokenizer in tokenizers.items():
        kinds = tokenizer._look_up(tokenizer._kinds, codes).numpy()
        for code, kind in zip(codes.tolist(), kinds, strict=True):
            start = tokenizer._start[kind]
            found = tuple(tokenizer._codes[start : start + tokenizer._length[kind]].tolist())
            assert found == generator.normalised(code, bool(variant & 1), bool(variant & 2))
    roles = tokenizers[0]._look_up(tokenizers[0]._beside_sigma, codes).numpy()
    # str.lower is the running Python's, which may not know the newest characters.
    for code, role in zip(codes.tolist(), roles, strict=True):
        assert role == generator.beside_sigma(code) or unicodedata.category(chr(code)) == "Cn"
