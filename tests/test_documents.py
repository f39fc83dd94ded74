"""Text to be pre-trained on: plain text, JSON lines and WikiExtractor's documents are read, what is no text is refused."""

import gzip
import json
import re

import pytest

from kbert import make_vocab, pretrain
from kbert.errors import DataError, UsageError
from kbert.pretraining import corpus
from kbert.pretraining.documents import documents, refused


def read(text, name="f.txt", layout="sentences", column="text"):
    """The documents' sentences."""
    found = []
    for sentence in documents(name, (line.strip() for line in text.splitlines()), layout, column):
        if sentence.opens:
            found.append([])
        found[-1].append(sentence.text)
    return found


@pytest.mark.parametrize("layout", ["sentences", "documents"])
def test_json_lines(layout):
    rows = [{"id": "0", "text": "Good film. Very dull!\n\n电影很好。好"}, {"id": "1", "text": ""}, {"text": "The plot"}]
    lines = "\n".join(map(json.dumps, rows))
    assert read(lines, layout=layout) == [["Good film.", "Very dull!", "电影很好。", "好"], ["The plot"]]
    assert read(lines.replace('"text"', '"body"'), "f.jsonl", layout, "body") == read(lines)


@pytest.mark.parametrize("layout", ["sentences", "documents"])
def test_what_wikiextractor_writes(layout):
    page = '<doc id="{0}" url="https://example.org/?curid={0}" title="B{0}">\nB{0}\n\nIt was built. It fell.\n\nLast line.\n\n</doc>\n'
    assert read(page.format(0) + page.format(1), layout=layout) == [
        [f"B{n}", "It was built.", "It fell.", "Last line."] for n in (0, 1)
    ]
    for text, message in (
        (page.format(0).replace("</doc>\n", ""), "f.txt:7: the file ends within a document; </doc> is missing"),
        (page.format(0) + "more\n", "f.txt:9: 'more' outside a document"),
        (page.format(0)[:-7] + "<doc>\n", "f.txt:8: '<doc>' within a document"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            read(text)


WIKI = "'''Bridge''' is a [[structure]].\n== History ==\n{{Infobox bridge\n| name = B\n}}\nIt stands in [[Oslo|the city]].\n"


@pytest.mark.parametrize(
    ("name", "text", "look"),
    [
        ("f.csv", "a text\n", "a table"),
        ("f.tsv.gz", "a text\n", "a table"),
        ("f.html", "a text\n", "markup"),
        ("f.bio", "a O\n", "tokens with labels"),
        ("f.txt", "id,text\n1,a film\n2,the plot\n", "a table with the columns id,text"),
        ("f.txt", "a film\tpos\nthe plot\tneg\n很好\tpos\n", "a table of 2 columns"),
        ("f.txt", '"a film","pos"\n"the plot","neg"\n"很好","pos"\n', "a table of quoted cells"),
        ("f.txt", WIKI, "wiki markup (WikiExtractor extracts"),
        ("f.txt", "<mediawiki>\n<page>\n", "markup (WikiExtractor extracts"),
        ("f.txt", "<p>A film.</p>\n<p>The plot.</p>\n", "markup"),
        ("f.txt", '[{"text": "a"},\n {"text": "b"}]\n', "JSON that is not one object a line"),
        ("f.txt", '{\n "text": "a"\n}\n', "JSON that is not one object a line"),
        ("f.txt", "Ada B-PER\nsits O\nhere O\n", "tokens with labels"),
    ],
)
def test_what_is_no_text_is_refused(name, text, look):
    with pytest.raises(DataError, match=re.escape(f"{name}: {look}") + ".*pre-training needs the text only; write it as"):
        read(text, name)


@pytest.mark.parametrize(
    "text",
    [
        "A film, good or bad, is a film.\nYes, and no.\n\nThe plot: dull, dull, dull.\n",
        '"Come," he said, "and see."\n"No," she said.\n"Yes, yes, yes."\n',
        "[1] A note.\n[2] Another.\n[3] {braces}\n",
        "a < b and c > d\nx <- y\nfine\n",
        "他说：“好。”\n《红楼梦》,[注]\n一,二\n",
        "yes\nno\nfine\n",
        "Vitamin O\nBlood group O\nThe plot\n",
        "A tab\there.\nNone here.\nfine\n",
    ],
)
def test_plain_text_is_none_of_these(text):
    assert refused("f.txt", [line for line in text.splitlines() if line]) == ""
    assert [sentence for document in read(text) for sentence in document] == [line for line in text.splitlines() if line]


def test_lines_that_are_not_like_the_first(tmp_path):
    first = '{"text": "a film"}\n'
    for line, message in (
        ("plain", "not a JSON object: 'plain'"),
        ('{"body": "x"}', "no key 'text'; the object has: body; set another with --text_column"),
        ('{"text": null}', "key 'text': expected a string, found null"),
        ('{"text": NaN}', "key 'text': expected a string, found NaN"),
    ):
        (tmp_path / "f.json.gz").write_bytes(gzip.compress((first + line).encode()))
        with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'f.json.gz'}:2: {message}")):
            list(corpus.blocks(str(tmp_path / "*.gz"), "sentences"))


def test_commands(tmp_path, checkpoint, capsys):
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": "x77", "body": "good film good film\\n\\ngood"}\n' * 9)
    vocab = f"--output={tmp_path / 'vocab.txt'}"
    assert make_vocab.main([f"--input={path}", vocab, "--vocab_size=300", "--text_column=body"]) == 0
    assert "good" in (tmp_path / "vocab.txt").read_text().split() and "7" not in (tmp_path / "vocab.txt").read_text()
    assert make_vocab.main([f"--input={path}", vocab]) == 1
    assert "f.jsonl:1: no key 'text'; the object has: id, body; set another with --text_column" in capsys.readouterr().err
    (tmp_path / "f.csv").write_text("id,text\n1,good\n")
    flags = [f"--init={checkpoint}", f"--train_data={tmp_path / 'f.csv'}", f"--model_dir={tmp_path / 'm'}", "--max_length=16"]
    assert pretrain.main(flags) == 1
    assert "f.csv: a table, but pre-training needs the text only" in capsys.readouterr().err
    (tmp_path / "f.txt").write_text("电影\n很好\n", encoding="utf-8")
    with pytest.raises(UsageError, match="--encoding=gb18030, but the whole file is valid UTF-8"):
        list(corpus.blocks(str(tmp_path / "f.txt"), "sentences", "gb18030"))


def test_of_few_documents_one_is_held_out(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from tiny import VOCABULARY

    from kbert.data.tokenizer import Tokenizer
    from kbert.pretraining import tokens

    path = tmp_path / "f.txt"
    path.write_text("\n\n".join(f"good {'bad ' * i}" for i in range(12)), encoding="utf-8")
    encode = tokens.Encode(Tokenizer(VOCABULARY, lowercase=True, strip_accents=True), None)
    with ThreadPoolExecutor(1) as executor:
        found = tokens.tokenized(corpus.blocks(str(path), "sentences"), [str(path)], encode, executor, 1)
    for seed in range(20):
        kept, held = found.split(0.1, seed)
        assert len(kept.documents) + len(held.documents) == 12 and len(held.documents) >= 1
        assert sorted([*kept.documents["line"], *held.documents["line"]]) == found.documents["line"].tolist()
        assert len(found.split(0.001, seed)[1].documents) <= 1
