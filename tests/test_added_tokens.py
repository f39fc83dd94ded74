"""Added tokens as units of the text: against Hugging Face's tokenizers, in the graph as in Python, with their offsets."""

import tensorflow as tf
from conftest import VOCABULARY
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken as Theirs
from tokenizers import BertWordPieceTokenizer

from kbert.config import AddedToken
from kbert.data.tokenizer import Tokenizer

TOKENS = (
    AddedToken(content="[E1]"),
    AddedToken(content="[E1]x"),
    AddedToken(content="good", between="words", wordpiece=True),
    AddedToken(content="_x_", between="words"),
    AddedToken(content="a.b"),
    AddedToken(content="Film42", normalized=True, between="words"),
    AddedToken(content="un", normalized=True, wordpiece=True),
    AddedToken(content="Émile", normalized=True),
    AddedToken(content="中文 x", normalized=True),
    AddedToken(content="(s)", normalized=True, between="words"),
    AddedToken(content="2nd one", normalized=True),
)
MANY = [*VOCABULARY, *(token.content for token in TOKENS if token.content not in VOCABULARY)]
CASINGS = [True, False]
OURS = {lower: Tokenizer(MANY, lowercase=lower, strip_accents=lower, added_tokens=TOKENS) for lower in CASINGS}
STRINGS = [tf.TensorSpec([None], tf.string)]
GRAPHS = {lower: tf.function(ours.tokenize_with_offsets, input_signature=STRINGS) for lower, ours in OURS.items()}


def witness(lower: bool, strip: bool) -> BertWordPieceTokenizer:
    found = BertWordPieceTokenizer({token: i for i, token in enumerate(VOCABULARY)}, lowercase=lower, strip_accents=lower)
    for i, token in enumerate(TOKENS):
        stripped = {"lstrip": strip and i % 3 == 0, "rstrip": strip and i % 4 == 0}
        found.add_tokens([Theirs(token.content, single_word=token.between == "words", normalized=token.normalized, **stripped)])
    return found


WITNESSES = {(lower, strip): witness(lower, strip) for lower in CASINGS for strip in (True, False)}
FRAGMENTS = [
    *(token.content for token in TOKENS),
    *("film42", "FILM42", "E\u0301mile", "emile", "E1]", "[", "GOOD", "goodx", "中", "文", "ⓐ", "ﬁ", "é", "\u0301", "\0", "\u200d"),
    *("_", "-", ".", "x", "s", " ", "\t", "  ", "\u3000", "'", "2ND\nONE", "unlikely"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=9).map("".join)


@settings(max_examples=200)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from(CASINGS))
@example(["film42[E1]film42 [E1]x[E1]x good.good_x_ _x_"], True)
def test_ids_and_offsets_are_those_of_hugging_face(texts, lower):
    ids, starts, ends = (part.to_list() for part in GRAPHS[lower](tf.constant(texts)))
    expected = WITNESSES[lower, False].encode_batch(texts, add_special_tokens=False)
    assert ids == OURS[lower].tokenize(tf.constant(texts)).to_list() == [each.ids for each in expected]
    places = [list(zip(*each, strict=True)) for each in zip(starts, ends, strict=True)]
    assert places == [each.offsets for each in expected]
    # White space around a token belongs to no piece, whether a token takes it or not.
    assert ids == [each.ids for each in WITNESSES[lower, True].encode_batch(texts, add_special_tokens=False)]


def test_bytes_that_are_no_text_are_ignored_within_a_token():
    texts = tf.constant([b"\xff[E\xff1]good", b"fi\xfflm42", b"\xff", b"good"])
    assert OURS[True].tokenize(texts).to_list() == OURS[True].tokenize(tf.constant(["[E1]good", "film42", "", "good"])).to_list()


def test_a_word_of_many_added_tokens_is_found_without_hints():
    tokens = [AddedToken(content=f"word{i}", normalized=True) for i in range(3000)]
    ours = Tokenizer(
        [*VOCABULARY, *(token.content for token in tokens)], lowercase=True, strip_accents=True, added_tokens=tokens
    )
    first = len(VOCABULARY)
    found = ours.tokenize(tf.constant(["a Word7", "wörd2999word12", "good film"])).to_list()
    assert found == [[VOCABULARY.index("a"), first + 7], [first + 2999, first + 12], [*map(VOCABULARY.index, ("good", "film"))]]
