"""`python -m kbert.inspect`, driven as a command."""

import io
import json
import os
import sys
import threading

import pytest
from conftest import VOCABULARY

from kbert import inspect


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(t + "\n" for t in VOCABULARY), encoding="utf-8")
    return path


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = ["Unlikely Café", "", "中文\u200b😀"]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in rows), encoding="utf-8")
    return path


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


EXPECTED = [
    {"pieces": ["un", "##like", "##ly", "cafe"], "starts": [0, 2, 6, 9], "ends": [2, 6, 8, 13]},
    {"pieces": [], "starts": [], "ends": []},
    {"pieces": ["中", "文", "[UNK]"], "starts": [0, 1, 3], "ends": [1, 2, 4]},
]
EXPECTED = [{"ids": [VOCABULARY.index(p) for p in row["pieces"]], **row} for row in EXPECTED]


def test_pieces_by_vocabulary(vocab, texts, capsys):
    assert inspect.main([f"--vocab={vocab}", "--lowercase", f"--input={texts}"]) == 0
    assert lines(capsys.readouterr().out) == EXPECTED
    assert inspect.main([f"--vocab={vocab}", f"--input={texts}"]) == 0
    assert lines(capsys.readouterr().out)[0]["pieces"] == ["[UNK]", "[UNK]"]


def test_pieces_by_checkpoint_to_a_file(checkpoint, texts, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert inspect.main([f"--init={checkpoint}", f"--input={texts}", f"--output={out}"]) == 0
    assert lines(out.read_text(encoding="utf-8")) == EXPECTED
    assert capsys.readouterr().out == ""


def test_standard_input_and_surrogates(vocab, monkeypatch, capsys):
    row = b'{"text": "good \\ud83d film \\ud83d\\ude00 a"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(row)))
    assert inspect.main([f"--vocab={vocab}", "--lowercase", "--input=-"]) == 0
    found = lines(capsys.readouterr().out)[0]
    assert (found["pieces"], found["starts"]) == (["good", "film", "[UNK]", "a"], [0, 7, 12, 14])


@pytest.mark.parametrize("form", ["checkpoint", "trained"])
def test_summary(form, request, capsys):
    init = request.getfixturevalue(form)
    capsys.readouterr()  # what making it has printed
    assert inspect.main([f"--init={init}"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 25
    origin = "Hugging Face" if form == "checkpoint" else "kbert"
    for part in (origin, "2, each with 2 heads", "16", f"{len(VOCABULARY)} tokens", "lowercased", "gelu", "parameters"):
        assert part in out


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "give one of --init and --vocab"),
        (["--init=a", "--vocab=b"], 2, "give one of --init and --vocab"),
        (["--init=a", "--lowercase"], 2, "--lowercase goes with --vocab"),
        (["--vocab={vocab}"], 2, "--vocab needs --input"),
        (["--init=a", "--output=b"], 2, "--output needs --input"),
        (["--vocab={vocab}", "--input={texts}", "--text_columns=a,b"], 2, "the model reads 1 (text)"),
        (["--vocab=none.txt", "--input={texts}"], 1, "none.txt: no such file"),
        (["--vocab={vocab}", "--input=none.jsonl"], 1, "none.jsonl: no such file"),
        (["--vocab={vocab}", "--input={vocab}", "--output=/none/x"], 1, "--output=/none/x: cannot be written"),
        (["--init=/none", "--input={texts}"], 2, "no such directory"),
    ],
)
def test_mistakes(flags, code, message, vocab, texts, capsys):
    assert inspect.main([f.format(vocab=vocab, texts=texts) for f in flags]) == code
    assert message in capsys.readouterr().err


def test_bad_line_is_named_before_anything_is_written(vocab, texts, capsys):
    texts.write_text('{"text": "a"}\n{"texts": "a"}\n', encoding="utf-8")
    assert inspect.main([f"--vocab={vocab}", f"--input={texts}"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "texts.jsonl:2: no key 'text'; the object has: texts" in captured.err


def test_output_that_cannot_be_written(vocab, texts, monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:  # closing it flushes it as the end of a process does
        patch.setattr(sys, "stdout", full)
        assert inspect.main([f"--vocab={vocab}", f"--input={texts}"]) == 1
    assert "standard output: cannot be written: No space left" in capsys.readouterr().err


def test_a_closed_standard_input(vocab, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it after <&-
    assert inspect.main([f"--vocab={vocab}", "--input=-"]) == 1
    assert "standard input is closed; name a file" in capsys.readouterr().err


def test_a_terminal_of_another_encoding(vocab, texts, monkeypatch):
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding="latin-1") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert inspect.main([f"--vocab={vocab}", "--lowercase", f"--input={texts}"]) == 0
        assert lines(written.getvalue().decode()) == EXPECTED


def test_a_named_pipe(vocab, texts, tmp_path, capsys):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(texts.read_bytes()))
    writer.start()
    assert inspect.main([f"--vocab={vocab}", "--lowercase", f"--input={pipe}"]) == 0
    writer.join()
    assert lines(capsys.readouterr().out) == EXPECTED


def test_ids_that_differ_with_places_are_a_fault(vocab, texts, monkeypatch, capsys):
    from kbert.data.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "tokenize", lambda self, t: self._careful(t, None)[:, :1])
    assert inspect.main([f"--vocab={vocab}", "--lowercase", f"--input={texts}"]) == 1
    assert "a fault in kbert" in capsys.readouterr().err
