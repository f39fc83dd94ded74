"""CoNLL columns: every scheme, broken sequences, mixed ones; and entities' figures against seqeval's."""

import json
import logging
import sys
from pathlib import Path

import pytest
from conftest import tool
from hypothesis import given
from hypothesis import strategies as st

from kbert.data import conll_survey
from kbert.data.conll_columns import Columns
from kbert.data.indexing import open_table
from kbert.data.memo import Memo
from kbert.data.schemes import Tags
from kbert.data.spans import read_spans
from kbert.data.tokens import joined, placed
from kbert.data.tokens import places as read_places
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig
from kbert.tasks.tag import entity_metrics
from kbert.tasks.tag.entity_metrics import Counts, mistakes_markdown

RECORDED = json.loads((Path(__file__).parent / "recorded" / "seqeval.json").read_text())
LETTERS = {"BILOU": {"E": "L", "S": "U"}, "BMES": {"I": "M"}}


def entities(scheme, tags):
    return Tags(scheme).chunks(tags)


def respelt(scheme, tags):
    """Tags of BIOES in the letters of another scheme."""
    letters = LETTERS.get(scheme, {})
    return [letters.get(tag[0], tag[0]) + tag[1:] for tag in tags]


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES"])
def test_every_sequence_is_read_as_seqeval_reads_it(scheme):
    recorded = RECORDED["IOB2" if scheme.startswith("IOB") else "BIOES"]
    for side, spans in zip(("gold", "predicted"), recorded["entities"], strict=True):
        for tags, expected in zip(recorded[side], spans, strict=True):
            found = entities(scheme, respelt(scheme, tags))
            assert [(kind, first, behind - 1) for first, behind, kind in found] == [tuple(e) for e in expected]


def compare(gold, predicted, recorded):
    types = sorted({kind for row in [*gold, *predicted] for *_, kind in row})
    counts = Counts(types)
    for spans, others in zip(gold, predicted, strict=True):
        counts.add("", spans, others)
    report = counts.report()
    names = ("precision", "recall", "f1")
    for average in ("micro", "macro"):
        assert [report[average][name] for name in names] == pytest.approx(recorded[average], abs=1e-12)
    for name, expected in zip(names, recorded["None"], strict=True):
        assert [report["per_type"][kind][name] for kind in types] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scheme", ["IOB2", "BIOES"])
def test_figures_are_seqevals(scheme):
    recorded = RECORDED[scheme]
    compare(*([entities(scheme, tags) for tags in recorded[side]] for side in ("gold", "predicted")), recorded["scores"])


@pytest.mark.parametrize("mode", ["default", "strict"])
def test_figures_of_whole_sequences_are_seqevals_in_either_mode(mode):
    # What kbert predicts are spans, which have no broken sequence: the two modes then say the same.
    recorded = RECORDED["whole"]
    compare(*([entities("IOB2", tags) for tags in recorded[side]] for side in ("gold", "predicted")), recorded[mode])


def test_nothing_found_or_nothing_there():
    counts = Counts(("a", "b"))
    assert counts.report()["micro"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    counts.add("x", [(0, 1, "a")], [])
    counts.add("y", [], [(0, 1, "b")])
    report = counts.report()
    assert report["micro"]["f1"] == 0.0 and report["confusion"] == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    counts.add("z|", [(0, 1, "a"), (1, 2, "b")], [(0, 1, "b"), (1, 2, "b")])
    assert counts.report()["confusion"] == [[0, 0, 1], [1, 0, 1], [0, 0, 1]]
    text = mistakes_markdown(counts.mistakes)
    assert text.count("\n") == 4 and text.endswith("| z\\| | a: z (0–1) | b: z (0–1) |")
    named = Counts(("micro",))
    named.add("x", [(0, 1, "micro")], [])
    assert entity_metrics.table(named.report()).count("\nmicro ") == 2
    for _ in range(100):
        counts.add("x", [(0, 1, "a")], [])
    assert len(counts.mistakes) == 50


# Files


def table(path, *columns):
    return open_table(str(path), SourceConfig(format="conll"), columns or ("text", "label"), keyed_by=1, nested=True)


def rows(path):
    read = table(path)
    values = read.read(range(len(read)))
    return [
        (text.decode(), list(map(list, read_spans(gold)))) for text, gold in zip(values["text"], values["label"], strict=True)
    ]


def test_english_columns(tmp_path, caplog):
    path = tmp_path / "f.conll"
    path.write_bytes(
        b"-DOCSTART- -X- -X- O\r\n\r\nEU\tNNP  B-NP I-ORG\r\nrejects VBZ B-VP O\r\nGerman JJ B-NP I-MISC\r\n\r\n"
        b"\r\nPeter NNP B-NP I-PER\r\nBlackburn NNP I-NP I-PER\r\n \nYork NNP X I-LOC\nPeru NNP X B-LOC"
    )
    assert rows(path) == [
        ("EU rejects German", [[0, 2, "ORG"], [11, 17, "MISC"]]),
        ("Peter Blackburn", [[0, 15, "PER"]]),
        ("York Peru", [[0, 4, "LOC"], [5, 9, "LOC"]]),
    ]
    assert not caplog.records  # IOB1: an I may begin an entity
    assert [table(path).where(i) for i in range(3)] == [f"{path}:3", f"{path}:8", f"{path}:11"]


def test_chinese_characters(tmp_path):
    path = tmp_path / "f.bmes"
    sentence = zip("高勇M2，　1年", ["B-N", "E-N", "B-X", "E-X", "O", "O", "B-T", "E-T"], strict=True)
    path.write_text("".join(f"{a} {b}\n" for a, b in sentence), encoding="utf-8")
    assert rows(path) == [("高勇M2，　1年", [[0, 2, "N"], [2, 4, "X"], [6, 8, "T"]])]


def test_words_stand_apart_unless_one_is_chinese():
    assert joined(["New", "York", "纽约", "A", "B", "。", "한국", "말"], "words") == (
        "New York纽约A B。한국 말",
        [0, 4, 8, 10, 12, 13, 14, 17],
    )


@given(
    st.lists(st.text("aB中。é", min_size=1, max_size=3), min_size=1, max_size=6),
    st.sampled_from(["auto", "words", "characters"]),
)
def test_tokens_stand_where_they_are_said_to(tokens, kind):
    text, places = joined(tokens, kind)
    assert [text[start:end] for start, end in read_places(placed(tokens, places))] == tokens
    assert [text[at : at + len(token)] for at, token in zip(places, tokens, strict=True)] == tokens


@pytest.mark.parametrize(
    ("lines", "text", "spans"),
    [
        ("New York\tNNP\tB-LOC\nis VBZ O\n", "New York is", [[0, 8, "LOC"]]),
        ("甲\tB-X\n \tI-X\n乙\tI-X\n", "甲 乙", [[0, 3, "X"]]),
        ("甲 B-X\n  I-X\n乙 I-X\n", "甲 乙", [[0, 3, "X"]]),
        ("甲 B\n乙 I\n丙 O\n丁 B\n", "甲乙丙丁", [[0, 2, "_"], [3, 4, "_"]]),
        ("甲 B\n乙 E\n丙 S\n", "甲乙丙", [[0, 2, "_"], [2, 3, "_"]]),
        ("甲 B\n乙 N\n", "甲乙", [[0, 1, "B"], [1, 2, "N"]]),  # parts of speech
    ],
)
def test_odd_columns(tmp_path, lines, text, spans):
    path = tmp_path / "f.conll"
    path.write_text(lines, encoding="utf-8")
    assert rows(path) == [(text, spans)]
    read = table(path, "text")
    assert read.read(range(1))["text"][0].decode() == text


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["I-a", "I-a", "B-a", "O"], "IOB1"),
        (["B-a", "I-a", "I-b", "O"], "IOB2"),
        (["O", "O"], "IOB2"),
        (["B-a", "E-a", "S-b"], "BIOES"),
        (["B-a", "M-a", "E-a"], "BMES"),
        (["B-a", "L-a", "U-a", "O"], "BILOU"),
        (["B", "I", "O"], "IOB2"),
        (["B", "M", "E", "S"], "BMES"),
        (["a", "a", "b", "O"], "IO"),
        (["B_a", "I_a", "O"], "IOB2"),
        (["a-B", "a-M", "a-E", "b-S", "O"], "BMES"),
        (["b-a", "i-a", "o"], "IOB2"),
        (["b", "i", "o"], "IOB2"),
        (["hepatitis-B", "O"], "IO"),
    ],
)
def test_schemes_are_told_apart(tags, scheme, tmp_path):
    seen = conll_survey.survey([f"x {tag}" for tag in tags], Columns())
    assert conll_survey.scheme("f", seen.followed)[0].scheme == scheme


def test_a_file_of_many_different_lines_is_surveyed_and_read_alike(tmp_path, monkeypatch):
    texts = [f"w{i % 7} {'B-X' if i % 3 else 'O'}" if i % 5 else "" for i in range(100)] + ["# B-X", "x y O", "one", ". O"]
    path = tmp_path / "f.conll"
    path.write_text("\n".join([line for line in texts if line != "one"]))

    def found():
        seen = conll_survey.survey(texts, Columns())
        table = open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1, tokens="words")
        return seen, [tuple(row) for row in zip(*table.read(range(len(table))).values(), strict=True)]

    whole, rows = found()
    monkeypatch.setattr(Memo, "KEPT", 2)
    kept, again = found()
    assert (kept, again) == (whole, rows) and len(rows) > 10
    assert (whole.malformed, whole.ends, whole.counts.tokens) == (1, 1, sum(whole.widths.values()))


def test_broken_sequences_are_reported_and_mended(tmp_path, caplog):
    path = tmp_path / "f.bio"
    path.write_text("a O\nb I-X\n\nc B-X\nd I-Y\n\ne I-X\nf B-X\n")
    with caplog.at_level(logging.WARNING):
        found = rows(path)
    assert [spans for _, spans in found] == [[[2, 3, "X"]], [[0, 1, "X"], [2, 3, "Y"]], [[0, 1, "X"], [2, 3, "X"]]]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}:2: I-X after O, which is invalid in IOB2 (1 times in the file)",
        f"{path}:5: I-Y after B-X, which is invalid in IOB2 (1 times in the file)",
        f"{path}:7: I-X at the start of a sentence, which is invalid in IOB2 (1 times in the file)",
        f"{path}: 3 broken tag sequences, read as seqeval reads them",
    ]
    caplog.clear()
    path.write_text("a B-X\n\nb E-X\nc S-X\nd I-X\n")
    with caplog.at_level(logging.WARNING):
        rows(path)
    assert "f.bio:1: the sentence ends after B-X, which is invalid in BIOES" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb B-X\nc M-X\n\nd I-X\n", ":5: a tag with I- in a file that has B, M, O: mixed schemes"),
        ("a S-X\nb U-X\n", ":2: a tag with U- in a file that has S: mixed schemes"),
        ("a O\nb\n", ":2: one column ('b'), expected a token and its tag"),
        ("a B-X\rb I-X\r\n", ":1: a lone carriage return"),
        (
            "a O\n" + "b NN\n" * 9,
            ":2: 10% of the tokens have the tag 'O', the others have none of B-, I-, such as tag 'NN': O may",
        ),
        ("a X-PER\nb B-PER\n", ":2: a tag with B- in a file that has tags without one: mixed schemes"),
        ("a B-PER\nb B-\n", ":2: tag 'B-' without a prefix in a file that has B: mixed schemes"),
        ("\n\n", ": no rows"),
    ],
)
def test_malformed_files(content, message, tmp_path):
    path = tmp_path / "f.conll"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        rows(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_tags_without_prefixes_are_of_single_tokens(tmp_path, caplog):
    path = tmp_path / "f.conll"
    path.write_text("The DT\nold JJ\nold JJ\nman NN\n. .\n\n( -LRB-\nhm UH\n")
    with caplog.at_level(logging.WARNING):
        read = rows(path)
    assert read == [
        ("The old old man .", [[0, 3, "DT"], [4, 7, "JJ"], [8, 11, "JJ"], [12, 15, "NN"], [16, 17, "."]]),
        ("( hm", [[0, 1, "-LRB-"], [2, 4, "UH"]]),
    ]
    assert not caplog.records


def test_text_alone_needs_no_tags(tmp_path):
    path = tmp_path / "f.conll"
    path.write_text("a\nb\n\nc PER\n")
    read = table(path, "text")
    assert read.read([0, 1])["text"].tolist() == [b"a b", b"c"]
    with pytest.raises(UsageError, match="conll holds a text and its tags"):
        table(path, "text", "label", "more")


def test_terms_become_columns(tmp_path, monkeypatch, capsys):
    def converted(source, target):
        monkeypatch.setattr(sys, "argv", ["terms_to_conll", str(source), str(target)])
        return tool("terms_to_conll").main()

    source, target = tmp_path / "x.seg", tmp_path / "x.conll"
    source.write_text("\ufeffthe $T$ is $ad\nwine list\n1\nthe wine list is $T$\nnew ad\n0\n".replace("$ad", "new ad"))
    assert converted(source, target) == 0 and "1 sentences, 2 terms" in capsys.readouterr().out
    tags = ["the O", "wine B-TERM", "list I-TERM", "is O", "new B-TERM", "ad I-TERM"]
    assert target.read_text().splitlines() == tags
    for text in ("", "no place\nx\n1\n", "a $T$\nx\n"):
        source.write_text(text)
        assert converted(source, target) == 1 and "expected three lines an example" in capsys.readouterr().err
    assert target.read_text().splitlines() == tags, "what was there is not lost"
    source.write_text("a $T$\nx\n1\n")
    assert converted(source, tmp_path / "none" / "x") == 1
    assert f"{tmp_path / 'none' / 'x'}: cannot be written" in capsys.readouterr().err
