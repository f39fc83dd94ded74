"""Text into ids: against an independent WordPiece, against the reference's own loops, and by its rules."""

import re

import pytest
import tensorflow as tf
from conftest import VOCABULARY
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from kbert.data.tokenizer import PLAIN, Tokenizer
from kbert.data.vocabulary import check_vocabulary, read_vocabulary
from kbert.errors import DataError

TOKENIZERS = {
    (lower, strip): Tokenizer(VOCABULARY, lowercase=lower, strip_accents=strip)
    for lower in (True, False)
    for strip in (True, False)
}
GRAPHS = {
    key: tf.function(tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)])
    for key, tokenizer in TOKENIZERS.items()
}


def pieces(text: str | bytes, lowercase: bool = True, strip_accents: bool | None = None) -> list[str]:
    key = (lowercase, lowercase if strip_accents is None else strip_accents)
    return [VOCABULARY[i] for i in GRAPHS[key](tf.constant([text])).to_list()[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good film.", ["good", "film", "."]),
        ("unlikely", ["un", "##like", "##ly"]),
        ("Café", ["cafe"]),
        ("cafe\u0301", ["cafe"]),
        ("中文film很好", ["中", "文", "film", "很", "好"]),
        ("[CLS] good [SEP]", ["[", "[UNK]", "]", "good", "[", "[UNK]", "]"]),
        ("[UNK]", ["[", "[UNK]", "]"]),
        ("good\u00a0film\u3000a\u2028the", ["good", "film", "a", "the"]),
        ("go\u200bod\0 \ufffdfi\x1flm", ["good", "film"]),
        ("", []),
        (" \t\r\n", []),
        ("x" * 200, ["x", *["##x"] * 199]),
        ("x" * 201, ["[UNK]"]),
        ("a zebra", ["a", "[UNK]"]),
        (b"good\xff\xfe film\xe4\xb8", ["good", "film"]),
    ],
)
def test_rules(text, expected):
    assert pieces(text) == expected


def test_cased_and_accents():
    assert pieces("Good", lowercase=False) == ["[UNK]"]
    assert pieces("café", lowercase=True, strip_accents=False) == ["[UNK]"]
    assert pieces("cafe\u0301", lowercase=False, strip_accents=True) == ["cafe"]


WITNESS = BertWordPieceTokenizer({token: i for i, token in enumerate(VOCABULARY)}, lowercase=True)
# Blocks that are as old as the witness's Unicode tables.
BLOCKS = [(0x20, 0x377), (0x384, 0x3A1), (0x3AA, 0x513), (0x1E00, 0x1EFF), (0x2000, 0x203E), (0x3000, 0x3096), (0xAC00, 0xD7A3)]
OLD = st.one_of([st.characters(min_codepoint=a, max_codepoint=b, categories=["L", "M", "N", "P", "S", "Z"]) for a, b in BLOCKS])


OLD_TEXTS = st.text(st.one_of(OLD.filter(lambda c: c not in "\u2028\u2029"), st.sampled_from("abcdefgx.,!?中文 ")), max_size=40)


@settings(max_examples=150, deadline=None)
@given(st.lists(OLD_TEXTS, min_size=1, max_size=8))
def test_ids_equal_an_independent_tokenizer(texts):
    found = GRAPHS[True, True](tf.constant(texts)).to_list()
    assert found == [e.ids for e in WITNESS.encode_batch(texts, add_special_tokens=False)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6))
def test_batch_graph_and_eager_agree_on_any_bytes(texts):
    together = GRAPHS[True, True](tf.constant(texts)).to_list()
    assert together == [GRAPHS[True, True](tf.constant([text])).to_list()[0] for text in texts]
    assert together == TOKENIZERS[True, True].tokenize(tf.constant(texts)).to_list()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.one_of(st.characters(), st.sampled_from("ab 中\0.Σ'·Α\u0301")), max_size=90), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_reading_few_words_gives_the_same_head(texts, words):
    tokenizer = TOKENIZERS[True, True]
    texts = [text.encode("utf-8", "surrogatepass") for text in texts]
    assert (
        tokenizer._first_words(tf.constant(texts), words).to_list() == tokenizer.words(tf.constant(texts))[:, :words].to_list()
    )


def test_a_sigma_looks_beyond_the_head_of_a_long_text():
    tokenizer = Tokenizer([*VOCABULARY, "α", "##ς", "##σ"], lowercase=True, strip_accents=True)
    texts = tf.constant(["ΑΣ" + "." * 2100 + "Α", "ΑΣ" + "." * 2100, "ΑΣ" + "." * 2100 + " Α"])
    whole = tokenizer.tokenize(texts).to_list()
    assert [row[1] - len(VOCABULARY) for row in whole] == [2, 1, 1]
    assert tokenizer.tokenize(texts, max_words=20)[:, :20].to_list() == [row[:20] for row in whole]


def test_few_words_behind_much_that_is_dropped():
    texts = ["\0" * 5000 + "good film", " " * 5000 + "bad", "a " * 3000, "x" * 3000 + " the"]
    found = TOKENIZERS[True, True].tokenize(tf.constant(texts), max_words=2).to_list()
    assert [[VOCABULARY[i] for i in ids] for ids in found] == [["good", "film"], ["bad"], ["a", "a"], ["[UNK]", "the"]]


def test_final_sigma():
    vocabulary = [*VOCABULARY, "οδος", "οδοσ", "σας", "σ", "ς", "aσ"]
    tokenizer = Tokenizer(vocabulary, lowercase=True, strip_accents=True)
    texts = ["ΟΔΟΣ", "ΟΔΟΣ.", "ΟΔΟΣ\u0301 ΣΑΣ", "Σ", "οδοσ", "AΣ\u200b\u0301a ΟΔΟΣ中", "AΣ"]
    found = [[vocabulary[i] for i in ids] for ids in tokenizer.tokenize(tf.constant(texts)).to_list()]
    assert found == [["οδος"], ["οδος", "."], ["οδος", "σας"], ["σ"], ["οδοσ"], ["[UNK]", "οδος", "中"], ["[UNK]"]]
    sigma = Tokenizer([*VOCABULARY, "aσa"], lowercase=True, strip_accents=True)
    assert sigma.tokenize(tf.constant(["AΣ\u200b\u0301a"])).to_list() == [[len(VOCABULARY)]]


PLAIN_CHARACTERS = [chr(c) for c in range(0x110000) if re.fullmatch(PLAIN, chr(c))]
MANY = list(
    dict.fromkeys([*VOCABULARY, *PLAIN_CHARACTERS[4:2000], *("##" + c for c in "abcXYZ019１ａ"), "１", "Good", "##ood"])
)


def same_either_way(tokenizer, texts):
    ids = tokenizer._quick(texts).to_list()
    assert ids == tokenizer._careful(texts, None).to_list()
    quick = [part.to_list() for part in tokenizer._quick_with_offsets(texts)]
    assert quick == [part.to_list() for part in tokenizer._careful_with_offsets(texts)] and quick[0] == ids


@pytest.mark.parametrize("lowercase", [True, False])
def test_plain_characters_take_either_way_to_the_same_ids(lowercase):
    tokenizer = Tokenizer(MANY, lowercase=lowercase, strip_accents=lowercase)
    assert len(PLAIN_CHARACTERS) > 21_000
    for form in ("{0}", "a{0}b", "{0}{0}", "中{0}. "):
        texts = tf.constant([form.format(c) for c in PLAIN_CHARACTERS])
        same_either_way(tokenizer, texts)
    for length in (66, 67, 99, 100, 101, 199, 200, 201):
        texts = tf.constant([unit * length for unit in ("a", "z9", *PLAIN_CHARACTERS[::97])])
        same_either_way(tokenizer, texts)


class Watched:
    """A WordPiece operation that keeps the texts it is given."""

    def __init__(self, pieces):
        self.pieces, self.seen = pieces, []

    def _keep(self, texts):
        tf.py_function(lambda some: self.seen.extend(some.numpy().tolist()), [texts], [])
        return texts

    def tokenize(self, texts):
        return self.pieces.tokenize(self._keep(texts))

    def tokenize_with_offsets(self, texts):
        return self.pieces.tokenize_with_offsets(self._keep(texts))


def test_only_plain_text_reaches_the_operation_that_splits_by_its_own_tables():
    """TensorFlow Text before 2.18.1 never returns where its tables and those that built the model differ, as at U+1B7F."""
    tokenizer = Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)
    tokenizer._plain_pieces = watched = Watched(tokenizer._plain_pieces)
    characters = [chr(c) for c in (*range(0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 97))]
    assert "\u1b7f" in characters
    texts = tf.constant([f"a{c} b" for c in characters] + [b"a\xff"])
    for call in (tokenizer.tokenize, lambda some: tokenizer.tokenize(some, 3), tokenizer.tokenize_with_offsets):
        watched.seen.clear()
        call(texts)
        assert len(watched.seen) == len(PLAIN_CHARACTERS) and all(re.fullmatch(PLAIN, t.decode()) for t in watched.seen)


@pytest.mark.parametrize("unit", ["１", "a１", "ａ", "é", "中", "각", "x"])
def test_long_words_of_any_width_are_kept_up_to_200_characters(unit):
    tokenizer = EITHER[True]
    for count in (66, 67, 100, 101, 200, 201):
        text = tf.constant([(unit * count)[:count]])
        whole = tokenizer.tokenize_with_offsets(text)[0].to_list()
        assert tokenizer.tokenize(text).to_list() == whole == tokenizer.tokenize(text, max_words=300).to_list()
        if unit in ("x", "a１", "１"):
            assert (whole == [[VOCABULARY.index("[UNK]")]]) == (count > 200)


@given(
    st.lists(
        st.text(st.one_of(st.sampled_from(PLAIN_CHARACTERS), st.sampled_from("abcxyzXYZ09.,[]# 中文。，")), max_size=60)
        | st.integers(195, 205).map("x".__mul__),
        min_size=1,
    ),
    st.booleans(),
)
def test_plain_texts_take_either_way_to_the_same_ids(texts, lowercase):
    tokenizer = EITHER[lowercase]
    same_either_way(tokenizer, tf.constant(texts))


EITHER = {lower: Tokenizer(MANY, lowercase=lower, strip_accents=lower) for lower in (True, False)}


@pytest.mark.parametrize(
    ("texts", "quick"),
    [
        (["good film.", "中文，很好。", ""], ["good film.", "中文，很好。", ""]),
        (["good", "Café", "bad"], ["good", "bad"]),
        (["Σ", "good\0"], []),
        ([b"good\xff", b"bad"], ["bad"]),
        (["x " * 2000, "bad"], ["bad"]),  # too long to be read whole
    ],
)
def test_which_way_a_text_takes(monkeypatch, texts, quick):
    tokenizer = EITHER[True]
    expected = [tokenizer._careful(tf.constant([t]), 20).to_list()[0] for t in texts]
    taken = []

    def spy(values):
        taken.extend(v.decode() for v in values.numpy())
        return type(tokenizer)._quick(tokenizer, values)

    monkeypatch.setattr(tokenizer, "_quick", spy)
    assert tokenizer._ids(tf.constant(texts), 20).to_list() == expected
    assert taken == quick


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good film.", [("good", 0, 4), ("film", 5, 9), (".", 9, 10)]),
        ("\u200b un\0likely", [("un", 2, 4), ("##like", 5, 9), ("##ly", 9, 11)]),
        ("cafe\u0301 x", [("cafe", 0, 4), ("x", 6, 7)]),
        ("\u0301cafe", [("cafe", 1, 5)]),
        ("ca\u0301fé", [("cafe", 0, 5)]),
        ("中文", [("中", 0, 1), ("文", 1, 2)]),
        ("😀 zebra x", [("[UNK]", 0, 1), ("[UNK]", 2, 7), ("x", 8, 9)]),
        ("x" * 201 + " a", [("[UNK]", 0, 201), ("a", 202, 203)]),
        ("é" * 201 + "a", [("[UNK]", 0, 202)]),
        ("", []),
        (b"\xff\xe4good\xf0\x9f film", [("good", 0, 4), ("film", 5, 9)]),
        ("[UNK]", [("[", 0, 1), ("[UNK]", 1, 4), ("]", 4, 5)]),
        ("\ufeffgood", [("good", 1, 5)]),
    ],
)
def test_offsets(text, expected):
    tokenizer = TOKENIZERS[True, True]
    found = [values.to_list()[0] for values in tokenizer.tokenize_with_offsets(tf.constant([text]))]
    assert [(VOCABULARY[i], start, end) for i, start, end in zip(*found, strict=True)] == expected


def test_offsets_within_one_character():
    tokenizer = Tokenizer([*VOCABULARY, "\u1100", "##\u1161", "##\u11a8"], lowercase=True, strip_accents=True)
    _, starts, ends = tokenizer.tokenize_with_offsets(tf.constant(["中각각"]))
    assert [row[0] for row in (starts.to_list(), ends.to_list())] == [[0, 1], [1, 3]]
    _, starts, ends = tokenizer.tokenize_with_offsets(tf.constant(["a 각"]))
    assert starts.to_list() == [[0, 2, 2, 2]] and ends.to_list() == [[1, 3, 3, 3]]


ANY_TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("abcxyzÉéİΣ中文각\0\u200b\u0301 .,[]")), max_size=40
)


@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.booleans())
def test_offsets_of_any_text(texts, lowercase):
    """Ids as without offsets; places in order, inside the text, and cut out they give the same piece again."""
    tokenizer = EITHER[lowercase]
    ids, starts, ends = (v.to_list() for v in tokenizer.tokenize_with_offsets(tf.constant(texts)))
    assert ids == tokenizer.tokenize(tf.constant(texts)).to_list()
    cut, pieces = [], []
    for text, row, begins, limits in zip(texts, ids, starts, ends, strict=True):
        assert all(0 <= a < b <= len(text) for a, b in zip(begins, limits, strict=True))
        assert begins == sorted(begins) and limits == sorted(limits)
        for i, a, b in zip(row, begins, limits, strict=True):
            piece = MANY[i]
            if piece != "[UNK]" and (begins.count(a), limits.count(b)) == (1, 1):
                cut.append(text[a:b])
                pieces.append(piece.removeprefix("##"))
    words = tokenizer.words(tf.constant(cut)).to_list() if cut else []
    joined = ["".join(w.decode() for w in row) for row in words]
    # Out of its word a sigma is not final.
    assert [j.replace("ς", "σ") for j in joined] == [p.replace("ς", "σ") for p in pieces]


@given(st.lists(OLD_TEXTS, min_size=1, max_size=5))
def test_offsets_equal_an_independent_tokenizer(texts):
    _, starts, ends = (v.to_list() for v in TOKENIZERS[True, True].tokenize_with_offsets(tf.constant(texts)))
    expected = [e.offsets for e in WITNESS.encode_batch(texts, add_special_tokens=False)]
    assert [list(zip(a, b, strict=True)) for a, b in zip(starts, ends, strict=True)] == expected


def reference_pair(a: list[int], b: list[int], length: int) -> tuple[list[int], list[int]]:
    """`_truncate_seq_pair` and the packing of google-research/bert run_classifier.py, as loops."""
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        (a if len(a) > len(b) else b).pop()
    cls, sep = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
    return [cls, *a, sep, *b, sep], [0] * (len(a) + 2) + [1] * (len(b) + 1)


IDS = st.lists(st.integers(5, 30), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=5), st.integers(3, 30))
def test_pairs_are_cut_and_packed_as_the_reference_does(pairs, length):
    parts = [tf.ragged.constant([p[k] for p in pairs], dtype=tf.int32) for k in (0, 1)]
    packed = TOKENIZERS[True, True].pack(parts, length)
    expected = [reference_pair(a, b, length) for a, b in pairs]
    assert packed["token_ids"].to_list() == [ids for ids, _ in expected]
    assert packed["segment_ids"].to_list() == [segments for _, segments in expected]


@given(st.lists(IDS, min_size=1, max_size=5), st.integers(3, 15))
@settings(max_examples=60, deadline=None)
def test_single_texts_are_packed(rows, length):
    packed = TOKENIZERS[True, True].pack([tf.ragged.constant(rows, dtype=tf.int32)], length)
    cls, sep = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
    assert packed["token_ids"].to_list() == [[cls, *row[: length - 2], sep] for row in rows]
    assert not any(tf.nest.flatten(packed["segment_ids"].to_list()))


def test_vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n[UNK]\n[CLS]\n[SEP]\n中\n\n".encode())
    assert read_vocabulary(path) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "中"]
    path.write_bytes("\ufeff[PAD]\n[UNK]\n[CLS]\n\na\n[SEP]\n\nb \na\n\n".encode())
    vocabulary = read_vocabulary(path)
    assert vocabulary == ["[PAD]", "[UNK]", "[CLS]", "", "a", "[SEP]", "", "b", "a"]  # each line takes an id
    for text in ("a b", "à b"):  # either way
        assert Tokenizer(vocabulary, lowercase=True, strip_accents=True).tokenize(tf.constant([text])).to_list() == [[8, 7]]
    with pytest.raises(DataError, match="no such file"):
        read_vocabulary(tmp_path / "none.txt")
    path.write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="not readable as UTF-8"):
        read_vocabulary(path)


def test_a_vocabulary_without_a_special_token():
    with pytest.raises(DataError, match=r"v: no \[SEP\] among its 3 tokens"):
        check_vocabulary(["[PAD]", "[UNK]", "[CLS]"], "v")
