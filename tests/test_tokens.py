"""Rows that come as tokens: what is learnt, decoded and measured of them, and columns of files that were not meant."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from test_tag import rowwise, serving_model, task

from kbert.data import tokens
from kbert.data.conll import Reading, read_tags
from kbert.data.conll_columns import Columns
from kbert.data.indexing import open_table
from kbert.data.schemes import Tags
from kbert.data.spans import read_spans
from kbert.data.table import PLACES
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig
from kbert.tasks.tag import units
from kbert.tasks.tag.report import TagScorer
from kbert.tasks.tag.task import Tag

RECORDED = json.loads((Path(__file__).parent / "recorded" / "seqeval.json").read_text())


def opened(path, kind="auto", **config):
    source = SourceConfig(**{"format": "conll", **config})
    columns = (*source.text_columns, source.label_column)
    return open_table(str(path), source, columns, keyed_by=1, nested=True, tokens=kind)


def rows(table):
    read = table.read(range(len(table)))
    return [tuple(value.decode() for value in values) for values in zip(*read.values(), strict=True)]


# Units


def row(words, tags, scheme, kind):
    return Reading(Columns(), scheme, kind, tokens.TokenCounts()).row(words, tags)


def tokenised(sentences, scheme="IOB2", kind="words"):
    """Raw rows of sentences of tokens and tags."""
    made = [row(*zip(*sentence, strict=True), Tags(scheme), kind) for sentence in sentences]
    return {
        name: tf.constant(list(column))
        for name, column in zip(("text", "tokens", "entities"), zip(*made, strict=True), strict=True)
    }


def test_a_token_of_several_words_has_one_tag_beside_rows_of_words():
    tag = task()
    both = tokenised([[("film-plot", "B-thing"), ("un-like", "O"), ("good.", "B-view")]])
    texts = tf.concat([both["text"], ["good film."]], 0)
    mixed = {"text": texts, "tokens": tf.concat([both["tokens"], [""]], 0)}
    gold = tf.concat([both["entities"], ['[[5, 9, "thing"]]']], 0)
    encoded = tag.encode(mixed)
    targets = tag.supervise({**mixed, "entities": gold}, encoded)
    assert targets.to_list() == [[-1, 1, -1, -1, 0, -1, -1, 3, -1, -1], [-1, 0, 1, 0, -1]]
    serving_model(tag)
    shows = encoded["shows"]
    wanted = tf.constant([1, 2, 3, 3, 1, 4, 0])
    scores = tf.one_hot(tf.gather(wanted, tf.where(shows.values < 0, 6, shows.values)), 5, 20.0, 0.0)
    decoded = tag.decode(shows.with_values(scores), encoded, mixed)
    found, _ = rowwise(decoded)
    assert found == [
        [(b"thing", b"film-plot un-like", 0, 17), (b"view", b"good.", 18, 23)],
        [(b"view", b"good", 0, 4), (b"thing", b"film", 5, 9), (b"view", b".", 9, 10)],
    ]
    shown = tag.present({name: value.numpy() for name, value in decoded.items()}, 0)
    assert shown["tokens"] == ["film-plot", "un-like", "good."] and shown["tags"] == ["B-thing", "I-thing", "B-view"]
    assert "tokens" not in tag.present({name: value.numpy() for name, value in decoded.items()}, 1)


@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_tokens_without_a_piece_follow_those_beside_them(decoder):
    # "film" in characters is one piece; nothing is left of a zero-width space.
    tag = task(decoder=decoder)
    serving_model(tag)
    row = tokenised(
        [[*zip("film", ["B-thing", *["I-thing"] * 3], strict=True), ("\u200b", "I-thing"), ("电", "I-thing"), ("\u200b", "O")]],
        kind="characters",
    )
    encoded = tag.encode(row)
    assert tag.supervise(row, encoded).to_list() == [[-1, 1, 2, -1]]
    places = [values.numpy().tolist() for values in tag.places(row["text"], row["tokens"])]
    assert places == [[0, 5], [1, 6], [2]]
    for wanted, tags in (
        ([1, 2], ["B-thing", *["I-thing"] * 5, "O"]),
        ([1, 1], ["B-thing", *["I-thing"] * 3, "O", "B-thing", "O"]),
        ([0, 3], [*["O"] * 5, "B-view", "O"]),
    ):
        shows = encoded["shows"]
        scores = tf.one_hot(tf.gather(tf.constant([*wanted, 0]), tf.where(shows.values < 0, 2, shows.values)), 5, 20.0, 0.0)
        decoded = tag.decode(shows.with_values(scores), encoded, row)
        assert [value.decode() for value in decoded["tags"].numpy()[0]] == tags
    # An entity whose first token has no piece begins with the next that has one: a CRF knows no other beginning.
    row = tokenised([[("\u200b", "B-view"), ("good", "I-view")]])
    assert tag.supervise(row, tag.encode(row)).to_list() == [[-1, 3, -1]]


@pytest.mark.parametrize("kind", ["auto", "words", "characters"])
def test_served_tokens_are_joined_as_those_of_files(kind):
    rng = random.Random(0)
    sentences = [
        [
            rng.choice(["a", "B.", "中", "中文", "。", "é", "한국", "x y", "𠀀", "1", "　", "ー"])
            for _ in range(rng.randrange(1, 9))
        ]
        for _ in range(60)
    ]
    sentences += [list("中文很APP好"), ["x"]]
    width = max(map(len, sentences))
    served = units.joined(tf.constant([[*sentence, *[""] * (width - len(sentence))] for sentence in sentences]), kind)
    for sentence, text, where in zip(sentences, served["text"].numpy(), served["tokens"].numpy(), strict=True):
        expected, starts = tokens.joined(sentence, kind)
        assert (text.decode(), where.decode()) == (expected, tokens.placed(sentence, starts))
    empty = units.joined(tf.constant([["", ""], [b"\xffa", b"\xe4"]]), kind)
    assert empty["text"].numpy()[0] == empty["tokens"].numpy()[0] == b""
    tag = task()
    signatures = tag.signatures()
    assert signatures["serving_default"].fields == ("text",) and "tags" in signatures["tokens"].outputs
    made = signatures["tokens"].raw({"tokens": tf.constant([["film", "good."], ["plot", ""]])})
    encoded = tag.encode(made)
    assert encoded["units"].starts.to_list() == [[0, 5], [0]]


# Figures


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU"])
def test_figures_over_tokens_are_seqevals(scheme):
    recorded = RECORDED["tokens"][scheme]
    tag = task(("LOC", "PER", "time-of-day"))
    scorer = TagScorer(tag.config.labels, tag.places)
    reading, iob2 = Tags(scheme), Tags("IOB2")
    for gold, predicted in zip(recorded["gold"], recorded["predicted"], strict=True):
        words = ["St.", "N.M.", "Franco-African", "%", "1,000", "film", "a", "the"][: len(gold)]
        text, places, entities = row(words, gold, reading, "words")
        spans = read_spans(row(words, predicted, iob2, "words")[2])
        columns = {"start": 0, "end": 1, "type": 2}
        answer = {
            name: np.array([[span[at].encode() if name == "type" else span[at] for span in spans]])
            for name, at in columns.items()
        }
        scorer.update(
            {
                "text": np.array([text.encode()], object),
                "tokens": np.array([places.encode()], object),
                "entities": np.array([entities.encode()], object),
            },
            {**answer, "count": np.array([len(spans)])},
        )
    metrics = scorer.result().metrics
    found = [metrics["micro"]["f1"], metrics["macro"]["f1"], metrics["strict"]["f1"], metrics["token_accuracy"]]
    assert found == pytest.approx(recorded["scores"], abs=1e-12)


def test_degenerate_figures_are_said():
    from kbert.tasks.tag.entity_metrics import Counts

    counts = Counts(("a", "b"))
    counts.add("x", [(0, 1, "a")], [])
    assert counts.report()["warnings"] == ["no entity predicted in 1 rows, but gold has 1"]
    counts.add("x", [(0, 1, "b")], [(0, 1, "b")])
    assert counts.report()["warnings"] == ["only entities of type 'b' are predicted, but gold has 2 types"]
    counts.add("x", [], [(0, 1, "a")])
    assert "warnings" not in counts.report()


# Files


def test_whether_tokens_are_characters_is_settled_once(tmp_path):
    sentence = "张三住在APP公司20楼。"
    clean = "".join(f"{c} O\n" for c in sentence)
    train, odd = tmp_path / "train.conll", tmp_path / "odd.conll"
    train.write_text("\n".join([clean] * 10) + "\n👍🏽 O\nBERT O\n", encoding="utf-8")
    table = opened(train)
    assert table.resolve_tokens() == "characters"
    assert rows(table)[0][0] == sentence and rows(table)[10][0] == "👍🏽BERT"
    odd.write_text("\n".join(["New O\nYork O\n"] * 30 + [clean]), encoding="utf-8")
    texts = [text for text, *_ in rows(opened(odd, "characters"))]
    assert texts[0] == "NewYork" and texts[-1] == sentence
    # Where training had no tokens to settle it by, a sentence shows it by itself, whatever stands around it.
    assert [text for text, *_ in rows(opened(odd))][-1] == sentence
    english = tmp_path / "english.conll"
    english.write_text("I O\na O\n. O\n\nNew O\nYork O\n")
    assert opened(english).resolve_tokens() == "words"


@pytest.mark.parametrize(
    ("written", "scheme", "untyped"),
    [
        (["S-thing", "O", "B-view", "E-view"], "BIOES", False),
        (["S-thing", "O", "B-view", "M-view", "E-view"], "BMES", False),
        (["I-thing", "O", "I-view", "I-view"], "IOB1", False),
        (["NOUN", "DET"], "bare", False),
        (["B", "I", "O", "B"], "IOB2", True),
    ],
)
def test_tags_are_answered_in_the_scheme_of_the_training_rows(tmp_path, written, scheme, untyped):
    path = tmp_path / "train.conll"
    path.write_text(
        "".join(f"{word} {tag}\n" for word, tag in zip("abcde", written, strict=False)) + "\nx y\n".replace("y", written[0])
    )
    table = opened(path)
    options = Tag.resolve_options_from_rows(table, {"tokens": "auto"})
    assert options == {"tokens": "words", "scheme": scheme, "untyped": untyped}
    tag = task(**options)
    entities = Tags(scheme, untyped).chunks(written)
    first, stop, kinds = (np.array([column]) for column in zip(*entities, strict=True))
    decoded = {
        **{name: np.zeros((1, len(entities)), int) for name in ("start", "end", "score")},
        "type": np.char.encode(kinds, "utf-8").astype(object),
        "text": np.full((1, len(entities)), b"", object),
        "count": np.array([len(entities)]),
        "start_token": first,
        "end_token": stop,
        "tokens": np.array([[b"a"] * len(written) + [b""]], object),
        "token_count": np.array([len(written)]),
    }
    assert tag.present(decoded, 0)["tags"] == written
    assert "tags" not in tag.present({**decoded, "token_count": np.array([0])}, 0)


CONLLU = """# sent_id = 1
# text = Vámonos a #x
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\tV\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\t_\t1\tobj\t_\t_
2.1\tx\tx\tX\tX\t_\t_\t_\t_\t_
3\tla mar\tmar\tNOUN\tN\t_\t1\tobl\t_\t_

# sent_id = 2
1\tya\tya\tADV\tR\t_\t0\troot\t_\t_
"""


def test_conllu_has_forms_and_upos_and_comments_are_no_tokens(tmp_path):
    path = tmp_path / "t.conllu"
    path.write_text(CONLLU, encoding="utf-8")
    found = [(text, read_tags(gold)[1]) for text, _, gold in rows(opened(path, format="auto"))]
    assert found == [("Vamos nos la mar", ["VERB", "PRON", "NOUN"]), ("ya", ["ADV"])]
    assert read_tags(rows(opened(path, label_column="XPOS"))[0][2])[1] == ["V", "P", "N"]
    plain = tmp_path / "t.conll"
    plain.write_text("# id 1\tdomain=en\n# O\nof O\nx B-X\n\n# more\ny O\n")
    assert [(text, read_tags(gold)[1]) for text, _, gold in rows(opened(plain))] == [
        ("# of x", ["O", "O", "B-X"]),
        ("y", ["O"]),
    ]


def test_columns_are_chosen_by_name_or_number(tmp_path):
    path = tmp_path / "t.conll"
    path.write_text("1 Ada NNP B-PER\n2 in IN O\n\n1 Oslo NNP B-LOC\n2 . . O\n")
    named = {"columns": ("id", "word", "pos", "ner"), "text_columns": ("word",), "label_column": "pos"}
    for config, text, tags in (
        ({"text_columns": ("2",)}, "Ada in", ["B-PER", "O"]),
        ({"text_columns": ("-3",), "label_column": "-2"}, "Ada in", ["NNP", "IN"]),
        (named, "Ada in", ["NNP", "IN"]),
        ({"text_columns": ("1",)}, "1 2", ["B-PER", "O"]),
    ):
        first = rows(opened(path, **config))[0]
        assert (first[0], read_tags(first[2])[1]) == (text, tags)
    for config, message in (
        ({"label_column": "ner"}, "--label_column=ner: no such column; a CoNLL file has no column names"),
        ({**named, "label_column": "label"}, "--label_column=label: no such column; it has id, word, pos, ner"),
        ({**named, "text_columns": ("5",)}, "--text_columns=5: there are 4 columns"),
    ):
        with pytest.raises(UsageError, match=message):
            opened(path, **config)
    with pytest.raises(DataError, match="t.conll:1: 4 columns, but column 5 is requested"):
        opened(path, text_columns=("2",), label_column="5")
    with pytest.raises(DataError, match="t.conll:1: 4 columns, expected 2"):
        opened(path, columns=("word", "ner"), text_columns=("word",), label_column="ner")


def file_of(line, sentences=12, **columns):
    rng = random.Random(1)
    out = []
    for s in range(sentences):
        words = [
            ("Ada", "NNP", "B-PER"),
            ("Osei", "NNP", "I-PER"),
            ("lives", "VBZ", "O"),
            ("in", "IN", "O"),
            ("Oslo", "NNP", "B-LOC"),
        ]
        words.insert(2, (rng.choice(["still", "now", "well", "also", "too"]), "RB", "O"))
        out.append(
            "".join(
                line.format(
                    i=i,
                    j=i - 1,
                    n=6 * s + i,
                    d=97 * i * (s + 2) % 991,
                    s=s,
                    w=w,
                    p=p,
                    t=t,
                    l=t.lower(),
                    b=t[2:] or "0",
                    o=t[2:] or "NONE",
                )
                + "\n"
                for i, (w, p, t) in enumerate(words, 1)
            )
        )
    return "\n".join(out)


LONG = ("film O\n" * 19 + ". O\n") * 10
SUSPICIOUS = {
    "an index": (file_of("{i} {w} {t}"), "the tokens are the numbers 1, 2, 3", {"text_columns": ("2",)}),
    "an index from 0": (file_of("{j} {w} {t}"), "the tokens are the numbers 0, 1, 2", {"text_columns": ("2",)}),
    "an index of the whole file": (file_of("{n} {w} {t}"), "the tokens are the numbers 1, 2, 3", {"text_columns": ("2",)}),
    "an index with stops": (file_of("{i}. {w} {t}"), "the tokens are the numbers 1., 2., 3.", {"text_columns": ("2",)}),
    "identifiers": (file_of("{d} {w} {t}"), "nearly all tokens are numbers", {"text_columns": ("2",)}),
    "names of sentences": (file_of("s{s} {w} {t}"), "the tokens of a sentence are all the same", {"text_columns": ("2",)}),
    "swapped": (file_of("{t} {w}"), "the tokens look like tags", {"text_columns": ("2",), "label_column": "1"}),
    "swapped parts of speech": (file_of("{p} {w}"), "the tags look like words", {"text_columns": ("2",), "label_column": "1"}),
    "lemmas": (file_of("{w} {p} {w}"), "the tags look like words", {"label_column": "2"}),
    "entities elsewhere": (file_of("{w} {t} {p}"), "column 2 holds tags with prefixes", {"label_column": "3"}),
    "nothing": (file_of("{w} {p} _"), "72 of 72 tokens have the tag '_'", {"label_column": "2"}),
    "one type": (file_of("{w} B-X"), "72 of 72 tokens have the tag 'B-X'", {"label_column": "2"}),
    "zero": (file_of("{w} {b}"), "the tags are '0' and types", {"label_column": "2"}),
    "none": (file_of("{w} {o}"), "the tags are 'NONE' and types", {"label_column": "2"}),
    "tokens with their tags": ("Ada/B-PER lives/O in/O Oslo/B-LOC\n" * 5, "each line looks like a whole sentence", None),
    "a header": ("token ner\n" + file_of("{w} {t}"), "line 1 (token, ner) is a header", None),
    "a header of types": ("Word Tag\n" + file_of("{w} {p}"), "line 1 (Word, Tag) is a header", None),
    "no blank lines": (
        LONG.replace("film O", "film B-X", 1),
        "200 tokens are a single sentence",
        {"text_columns": ("1",), "label_column": "2"},
    ),
    "a sentence a line": ("a very good film\tO O O B-X\n" * 5, "each line looks like a whole sentence", None),
    "pipes": ("".join("a|DT|O " * n + ".|.|O\n" for n in range(2, 9)), "each line looks like a whole sentence", None),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_columns_that_were_not_meant(case, tmp_path):
    content, message, settled = SUSPICIOUS[case]
    path = tmp_path / "t.conll"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        opened(path)
    said = str(error.value)
    assert message in said and ("--" in said or "Remove it" in said) and "line 1: token" in said and "line 2: token" in said
    if settled is not None:
        assert len(opened(path, **settled)) >= 1


def test_lists_of_tokens_that_were_not_meant_are_warned_of(tmp_path, caplog):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"tokens": ["Hi", "Ada"], "tags": ["0", "PER"]}) + "\n")
    assert len(opened(path, format="jsonl", text_columns=("tokens",), label_column="tags")) == 1
    assert "the tags are '0' and types" in caplog.text and "line 1: token 'Hi'" in caplog.text
    caplog.clear()
    path.write_text(json.dumps({"tokens": ["Hi", "Ada"], "tags": ["O", "B-PER"]}) + "\n")
    assert len(opened(path, format="jsonl", text_columns=("tokens",), label_column="tags")) == 1 and not caplog.text


def test_files_that_are_as_they_should_be_raise_no_doubt(tmp_path):
    path = tmp_path / "t.conll"
    for content in (
        file_of("{w} {p} {t}"),
        file_of("{w} {t}"),
        file_of("{w} {p}"),
        file_of("{w} {t} {t}"),  # chunks and entities
        "".join(f"{c} {t}\n" for c, t in zip("今天天气很好" * 9, "BEBESS" * 9, strict=True)),
    ):
        path.write_text(content, encoding="utf-8")
        assert len(opened(path)) >= 1


def test_lists_of_tokens_are_read_as_columns_are(tmp_path):
    path = tmp_path / "t.jsonl"
    row = {"id": "7", "tokens": ["St.", "Ives", "is"], "ner_tags": ["B-X", "I-X", "O"]}
    flags = {"format": "auto", "text_columns": ("tokens",), "label_column": "ner_tags"}
    path.write_text(json.dumps(row) + "\n\n" + json.dumps({**row, "tokens": ["a"], "ner_tags": ["O"]}) + "\n")
    found = rows(opened(path, **flags))
    assert [each[:2] for each in found] == [("St. Ives is", "0 3 4 8 9 11"), ("a", "0 1")]
    assert read_spans(found[0][2]) == [(0, 8, "X")] and read_tags(found[0][2])[1] == row["ner_tags"]
    alone = open_table(str(path), SourceConfig(**flags), ("tokens", "id"), keyed_by=1, tokens="words")
    assert rows(alone)[0] == ("St. Ives is", "0 3 4 8 9 11", "7")
    for bad, message in (
        ({"ner_tags": [3, 4, 0]}, "expected a list of tags, non-empty strings"),
        ({"tokens": ["a"]}, "1 tokens, but 3 tags"),
        ({"tokens": "a"}, "expected a list of tokens"),
    ):
        path.write_text(json.dumps(row) + "\n" + json.dumps({**row, **bad}) + "\n")
        with pytest.raises(DataError, match=f"t.jsonl:2: {message}"):
            opened(path, **flags)


def test_the_places_of_tokens_are_a_column(tmp_path):
    path = tmp_path / "t.conll"
    path.write_text("St. B-X\nFranco-African I-X\n")
    table = opened(path)
    assert table.columns == ("text", PLACES, "label")
    assert table.read([0])[PLACES][0] == b"0 3 4 18"
    lines = tmp_path / "t.jsonl"
    lines.write_text('{"text": "a film", "label": []}\n')
    assert (
        open_table(str(lines), SourceConfig(), ("text", "label"), keyed_by=1, nested=True, tokens="auto").read([0])[PLACES][0]
        == b""
    )
