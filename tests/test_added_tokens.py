"""Added tokens as units of the text: against Hugging Face's tokenizers, in the graph as in Python, with their offsets."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, write_hugging_face
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import head_tensors, hugging_face_tensors
from tokenizers import AddedToken as Theirs
from tokenizers import BertWordPieceTokenizer

import kbert
from kbert import checkpoints
from kbert.checkpoints import open_checkpoint
from kbert.checkpoints.new_tokens import SPREAD, TABLE, add_tokens
from kbert.config import AddedToken
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError

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
    *(
        "film42",
        "FILM42",
        "E\u0301mile",
        "emile",
        "E1]",
        "[",
        "GOOD",
        "goodx",
        "中",
        "文",
        "ⓐ",
        "ﬁ",
        "é",
        "\u0301",
        "\0",
        "\u200d",
    ),
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
    assert (
        OURS[True].tokenize(texts).to_list() == OURS[True].tokenize(tf.constant(["[E1]good", "film42", "", "good"])).to_list()
    )


def test_a_word_of_many_added_tokens_is_found_without_hints():
    tokens = [AddedToken(content=f"word{i}", normalized=True) for i in range(3000)]
    ours = Tokenizer(
        [*VOCABULARY, *(token.content for token in tokens)], lowercase=True, strip_accents=True, added_tokens=tokens
    )
    first = len(VOCABULARY)
    found = ours.tokenize(tf.constant(["a Word7", "wörd2999word12", "good film"])).to_list()
    assert found == [[VOCABULARY.index("a"), first + 7], [first + 2999, first + 12], [*map(VOCABULARY.index, ("good", "film"))]]


RECORDED = json.loads((Path(__file__).parent / "recorded" / "added_tokens.json").read_text(encoding="utf-8"))


def directory(path: Path, files: dict, rows: int) -> Path:
    """A Hugging Face directory with these files of a tokenizer, and as many embeddings."""
    tensors = hugging_face_tensors()
    table = tensors["embeddings.word_embeddings.weight"]
    tensors["embeddings.word_embeddings.weight"] = np.concatenate([table, np.ones((rows - len(table), 16), np.float32)])
    made = write_hugging_face(path, tensors, {"vocab_size": rows, "hidden_act": "gelu_new"})
    for name in ("vocab.txt", "tokenizer_config.json"):
        (made / name).unlink()
    for name, content in files.items():
        text = json.dumps(content) if name.endswith(".json") else "".join(token + "\n" for token in content)
        (made / name).write_text(text, encoding="utf-8")
    return made


def ids_of(checkpoint: checkpoints.Checkpoint, texts: list[str]) -> list[list[int]]:
    return Tokenizer(checkpoint.vocabulary, **vars(checkpoint.text)).tokenize(tf.constant(texts)).to_list()


@pytest.mark.parametrize("name", RECORDED["cases"])
def test_each_file_that_keeps_added_tokens_is_read_as_transformers_does(tmp_path, caplog, name):
    case = RECORDED["cases"][name]
    rows = 1 + max(max(ids) for ids in case["ids"] if ids)
    found = open_checkpoint(str(directory(tmp_path / "a", case["files"], max(rows, len(VOCABULARY)))))
    assert ids_of(found, RECORDED["texts"]) == case["ids"]
    if name == "never split, uncased":
        assert "1 tokens of never_split have capitals and the text is lowercased first, so they are never found" in caplog.text
    if name not in ("fast", "of the vocabulary", "never split, cased"):
        return
    # Every form keeps them, for kbert at least.
    for form in checkpoints.FORMATS:
        notices = checkpoints.write_checkpoint(found, str(tmp_path / form), form)
        assert any("added tokens are in tokenizer_config.json" in notice for notice in notices) == (form != "hugging_face")
        again = open_checkpoint(str(tmp_path / form))
        assert (again.vocabulary, again.text, again.encoder) == (found.vocabulary, found.text, found.encoder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"added_tokens_decoder": {"7": {"content": "[E1]"}}}, r"added token '\[E1\]' has id 7, which is that of 'film'"),
        ({"added_tokens_decoder": {"x": {"content": "[E1]"}}}, "added_tokens_decoder: 'x' is not an id"),
        ({"added_tokens_decoder": {"41": "[E1]"}}, r"not a tokenizer: expected an object, found '\[E1\]'"),
        ({"added_tokens_decoder": {"41": {"content": 1}}}, "not a tokenizer: added token .*; expected its content and its id"),
        ({"never_split": "[E1]"}, r"never_split is '\[E1\]'; expected a list of tokens"),
    ],
)
def test_malformed_lists_of_added_tokens(tmp_path, config, message):
    with pytest.raises(DataError, match=f"tokenizer_config.json: {message}"):
        open_checkpoint(str(directory(tmp_path, {"vocab.txt": VOCABULARY, "tokenizer_config.json": config}, 42)))


def test_added_tokens_that_cannot_be_units_are_logged(tmp_path, caplog):
    config = {"never_split": ["x-x"], "additional_special_tokens": [f"[E{i}]" for i in range(8)] + ["a\nb"]}
    found = open_checkpoint(str(directory(tmp_path, {"vocab.txt": VOCABULARY, "tokenizer_config.json": config}, 42)))
    assert found.vocabulary == [*VOCABULARY, "[E0]"]
    assert "7 added tokens have no row among the 42 embeddings and are tokenized as plain text: [E1], [E2], [E3]" in caplog.text
    assert "[E4], [E5], …\n" in caplog.text and "added token 'a\\nb' is read as white space: it has a line end" in caplog.text
    assert "1 tokens of never_split are not in the vocabulary: x-x" in caplog.text
    assert ids_of(found, ["[E0]good x-x"]) == [[41, VOCABULARY.index("good"), VOCABULARY.index("[UNK]")]]
    assert "added tokens:   [E0], x-x" in checkpoints.summary(found)


def test_new_tokens_take_unused_rows_first(tmp_path, caplog):
    words = ["[unused1]" if token == "dull" else token for token in VOCABULARY]
    tensors = {**hugging_face_tensors(), **head_tensors()}
    path = write_hugging_face(tmp_path, tensors)
    (path / "vocab.txt").write_text("".join(token + "\n" for token in words[:-1]), encoding="utf-8")
    was = open_checkpoint(str(path))
    with caplog.at_level("INFO"):
        found = add_tokens(was, ["[E1]", "[SEP]", "<b>", "covid", "C++"], seed=3)
    assert "[E1] (row of [unused1]), [SEP] (of the vocabulary), <b> (unused row), covid (new row), C++ (new row)" in caplog.text
    assert found.vocabulary == ["[E1]" if token == "[unused1]" else token for token in words[:-1]] + ["<b>", "covid", "C++"]
    ids = {token: i for i, token in enumerate(found.vocabulary)}
    texts = ["good[E1]film [sep][SEP]", "covids <B><b> c++C++"]
    unknown = ids["[UNK]"]
    assert ids_of(found, texts) == [
        [*(ids[token] for token in ("good", "[E1]", "film", "[")), unknown, *(ids[token] for token in ("]", "[SEP]"))],
        [*(ids[token] for token in ("covid", "s")), *[unknown] * 3, ids["<b>"], *[unknown] * 3, ids["C++"]],
    ]
    old, new, more = was.arrays()[TABLE], found.arrays()[TABLE], len(VOCABULARY)
    assert np.array_equal(new[:more], old) and new.shape == found.shapes[TABLE] == (more + 2, 16)
    assert (abs(new[more:] - old.mean(0)) > 0).all() and (abs(new[more:] - old.mean(0)) < 6 * SPREAD).all()
    assert not np.array_equal(new[more], new[more + 1]) and found.encoder.vocabulary_size == more + 2
    assert {path: array.shape for path, array in {**found.arrays(), **found.heads()}.items()} == found.shapes
    bias = found.heads()["mlm_head/output_bias"]
    assert bias.shape == (more + 2,) and (bias[more:] == bias[:more].min()).all()
    assert add_tokens(found, ["[E1]"]).text.added_tokens[-1].content == "[E1]"  # again
    for tokens, message in [(["a", "a"], "a is named twice"), ([" a"], "blanks at their edges, found ' a'"), ([""], "found ''")]:
        with pytest.raises(UsageError, match=f"--add_tokens: .*{message}"):
            add_tokens(was, tokens)


def test_a_run_with_new_tokens_is_served_with_them(checkpoint, tmp_path, caplog):
    rows = [
        {"text": f"[E1]{a} film[/E1] is {b} [e1]", "entities": [{"start": 4, "end": 9 + len(a), "type": "WORK"}]}
        for a in ("good", "bad")
        for b in ("fine", "dull")
    ]
    flags = {"task": "tag", "init": checkpoint, "label_column": "entities", "max_length": 20, "stride": 4, "freeze_layers": 1}
    data = {"train_data": rows, "dev_data": rows, "model_dir": tmp_path / "model"}
    model = kbert.train(**flags, **data, steps=2, add_tokens=["[E1]", "[/E1]"])
    assert "--add_tokens: the embeddings are frozen, so new tokens keep the embeddings that they start with" in caplog.text
    assert (model.path / "vocab.txt").read_text(encoding="utf-8").split("\n") == [*VOCABULARY, "[E1]", "[/E1]", ""]
    ids = {token: i for i, token in enumerate([*VOCABULARY, "[E1]", "[/E1]"])}
    expected = ["[CLS]", "[E1]", "good", "film", "[/E1]", "is", "fine", "[", "[UNK]", "]", "[SEP]"]
    expected = [ids[token] for token in expected]
    for init, added in [(model.path, ()), (checkpoint, ["[E1]", "[/E1]"])]:
        tokenizer = kbert.Tokenizer.from_checkpoint(init, add_tokens=added)
        assert tokenizer(rows[0]["text"])["token_ids"].numpy().tolist() == expected
    assert kbert.Encoder.from_checkpoint(checkpoint, add_tokens=["[E1]", "[/E1]"]).config == model.config.encoder
    predictor = kbert.load(model.path)._predictor
    raw = {"text": tf.constant([row["text"] for row in rows])}
    whole = predictor._whole(raw)
    encoded = predictor.task.encode(whole)
    assert encoded["token_ids"].to_list()[0] == expected
    # The entity is of the pieces between its markers.
    gold = {**whole, "entities": tf.constant([json.dumps(row["entities"]) for row in rows])}
    assert predictor.task.supervise(gold, encoded).to_list()[0] == [-1, 0, 1, 2, 0, 0, 0, 0, 0, 0, -1]
    served = tf.saved_model.load(str(model.export(tmp_path / "served"))).signatures["serving_default"](**raw)
    answered = predictor(raw)
    assert "start" in served and all((served[name].numpy() == answered[name].numpy()).all() for name in served)
    assert kbert.encode(model, ["[E1]good", "good"]).shape == (2, 16)
    with pytest.raises(kbert.UsageError, match=r"has a run with add_tokens \('\[E1\]', '\[/E1\]'\), not \('\[E1\]',\)"):
        kbert.train(**flags, **data, steps=2, add_tokens=["[E1]"])
    with pytest.raises(kbert.UsageError, match="add_tokens goes with init; from scratch, the vocabulary has the tokens"):
        (tmp_path / "text.txt").write_text("a film\n\ngood\n")
        start = {"vocab": model.path / "vocab.txt", "num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 20}
        kbert.train(task="pretrain", train_data=tmp_path / "text.txt", add_tokens=["[E1]"], model_dir=tmp_path / "p", **start)
