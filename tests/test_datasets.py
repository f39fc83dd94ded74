"""The data sets of the demo: their splits, and the whole way from raw files to rows."""

import pytest
from conftest import tool
from hypothesis import given
from hypothesis import strategies as st

from kbert import finetune
from kbert.data.indexing import open_table
from kbert.data.spans import read_spans
from kbert.datasets import movie_snippets, newspaper_zh, reviews
from kbert.source import SourceConfig
from kbert.tasks.tag.task import Tag


@given(st.text(min_size=1))
def test_copies_that_look_different_share_a_split(text):
    assert reviews.split_of(text) == reviews.split_of(f"  {text} !_")


def test_shares_are_eight_one_one():
    names = [reviews.split_of(f"text number {i}") for i in range(20_000)]
    assert [round(names.count(name) / 20_000, 1) for name in ("train", "dev", "test")] == [0.8, 0.1, 0.1]


def test_copies_and_contradictions_are_dropped():
    rows = [("Good!", "p"), ("good", "p"), ("mixed", "p"), ("Mixed.", "n"), ("mixed", "p"), ("!!", "p"), ("bad", "n")]
    assert list(reviews.unique(rows)) == [("Good!", "p"), ("bad", "n")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """As tools/fetch_demo.py leaves it: the data sets' folder, and the snippets' ratings."""
    cache = tmp_path_factory.mktemp("demo")
    raw = cache / "raw"
    raw.mkdir()
    words = ["good", "fine", "very", "film", "plot", "a", "the"]
    texts = [f"{words[i % 7]} {words[i // 7 % 7]} {words[i // 49 % 7]}" for i in range(343)]
    ratings = [(i % 9 - 4) / 2 for i in range(343)]
    lines = [f"{i}\t{r}\t{t}\r\n" for i, (t, r) in enumerate(zip(texts, ratings, strict=True))]
    (raw / movie_snippets.RAW).write_bytes("".join(lines).encode())
    numbers = [f"{a}{b}" for a in "一二三四五六七八九" for b in "一二三四五六七八九"]
    good, bad = [f"很好{n}" for n in numbers], [f"很坏{n}" for n in numbers]
    (raw / "pos.txt").write_text("\n".join([*good, good[0] + "。", "", "好坏"]), encoding="utf-8")
    (raw / "neg.txt").write_text("\n".join([*bad, bad[0], "好坏！"]), encoding="utf-8")
    lines = [f"记者/n  江/nr  泽民/nr  在/p  {a}{b}/ns  。/w" for a in "一二三四五六七八九" for b in "东西南北"]
    (raw / newspaper_zh.RAW).write_text("\n".join([*lines, lines[0], "", "无/v"]), encoding="utf-8")
    tool("fetch_demo").prepare(cache)
    return cache / "tfds", dict(zip(texts, ratings, strict=True))


def rows(folder, name, split):
    table = open_table(f"tfds:{name}:{split}", SourceConfig(tfds_dir=str(folder)), ("text", "label"), keyed_by=1)
    read = table.read(range(len(table)))
    return [(t.decode(), y.decode()) for t, y in zip(read["text"], read["label"], strict=True)]


def test_movie_snippets(prepared):
    folder, ratings = prepared
    found = {split: rows(folder, "movie_snippets", split) for split in ("train", "dev", "test")}
    texts = [text for split in found.values() for text, _ in split]
    assert len(texts) == len(set(texts)) == sum(abs(r) > 0.5 for r in ratings.values())
    for split, pairs in found.items():
        assert all(reviews.split_of(text) == split for text, _ in pairs)
        assert all((label == "positive") == (ratings[text] > 0) for text, label in pairs)


def test_short_reviews(prepared):
    found = {split: rows(prepared[0], "short_reviews_zh", split) for split in ("train", "dev", "test")}
    texts = [text for pairs in found.values() for text, _ in pairs]
    assert len(texts) == len(set(texts)) == 162 and "好坏" not in texts
    assert all(("很好" in text) == (label == "positive") for pairs in found.values() for text, label in pairs)
    assert all(reviews.split_of(text) == split for split, pairs in found.items() for text, _ in pairs)
    plain = (prepared[0].parent / "short_reviews_zh.train.txt").read_text(encoding="utf-8")
    assert sorted(plain.splitlines()) == sorted(text for text, _ in found["train"])


def test_newspaper(prepared):
    found = {}
    for split in ("train", "dev", "test"):
        source = f"tfds:newspaper_zh:{split}"
        config = SourceConfig(tfds_dir=str(prepared[0]))
        table = open_table(
            source,
            config,
            ("text", "entities"),
            keyed_by=1,
            nested=True,
            tokens="auto",
            check=Tag.audit(source, ("text",), None),
        )
        read = table.read(range(len(table)))
        rows = zip(read["text"], read["entities"], strict=True)
        found |= {text.decode(): (split, read_spans(spans)) for text, spans in rows}
    assert len(found) == 37 and found.pop("无")[1] == []
    for text, (split, spans) in found.items():
        assert reviews.split_of(text) == split
        assert spans == [(2, 5, "person"), (6, 8, "place")] and text[2:5] == "江泽民"


def test_names_are_joined_and_words_with_slashes_kept():
    line = "王/nr  明/nr  李/nr  刚/nr  、/w  克林顿/nr  江/nr  说/v  １/２/m  新华社/nt  北京/ns"
    assert newspaper_zh.paragraph(line) == (
        "王明李刚、克林顿江说１/２新华社北京",
        [(0, 2, "person"), (2, 4, "person"), (5, 8, "person"), (8, 9, "person"), (13, 16, "organisation"), (16, 18, "place")],
    )


def test_the_command_line_trains_on_them(prepared, checkpoint, tmp_path):
    flags = [
        f"--init={checkpoint}",
        f"--tfds_dir={prepared[0]}",
        f"--model_dir={tmp_path / 'm'}",
        "--epochs=1",
        "--max_length=9",
    ]
    assert finetune.main([*flags, "--train_data=tfds:movie_snippets:train", "--dev_data=tfds:movie_snippets:dev"]) == 0


def test_a_split_that_is_not_there(prepared, checkpoint, tmp_path, capsys):
    flags = [f"--init={checkpoint}", f"--tfds_dir={prepared[0]}", f"--model_dir={tmp_path / 'm'}", "--max_length=9"]
    assert finetune.main([*flags, "--train_data=tfds:movie_snippets:holdout"]) == 1
    assert "tfds:movie_snippets:holdout" in capsys.readouterr().err
