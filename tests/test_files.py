"""Files that appear when they are whole, beside which nothing is left, and that are none of those read."""

import os
import signal

import pytest

from kbert import encode, evaluate, inspect, make_pretraining_data, make_vocab, predict
from kbert.errors import DataError, UsageError
from kbert.files import check_output, replaced, whole, whole_directory, write_text
from kbert.interruption import Interrupted, handled, raised


def test_the_file_beside_cannot_be_foreseen_and_is_removed(tmp_path):
    target, seen = tmp_path / "x.txt", set()
    mask = os.umask(0o027)
    try:
        for _ in range(3):
            with replaced(target) as beside:
                seen.add(beside.name)
                assert beside.parent == tmp_path and beside.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)
    assert len(seen) == 3 and not any(str(os.getpid()) in name.split(".") for name in seen)
    with pytest.raises(DataError, match="No space"), whole(target) as file:
        file.write("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(Interrupted), handled(raised, (signal.SIGTERM,)), whole(target) as file:
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RuntimeError), whole_directory(tmp_path / "d") as folder:
        (folder / "f").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"] and target.read_text() == ""


def test_a_file_in_the_way_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / ".x.known").symlink_to(tmp_path / "theirs")
    with pytest.raises(DataError, match="cannot be written"):
        write_text(tmp_path / "x", "ours")
    assert (tmp_path / "theirs").read_text() == "kept"


def test_names_as_long_as_they_may_be(tmp_path):
    write_text(tmp_path / ("长" * 84), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["长" * 84]


@pytest.mark.parametrize("how", ["same", "symlink", "hard link", "glob", "dots"])
def test_an_output_that_is_read_is_refused(tmp_path, how):
    read, written = tmp_path / "in.txt", tmp_path / "out.txt"
    read.write_text("kept")
    source = str(tmp_path / "*.txt" if how == "glob" else read)
    if how == "symlink":
        written.symlink_to(read)
    elif how == "hard link":
        os.link(read, written)
    elif how == "glob":
        written.write_text("")
    else:
        written = read if how == "same" else tmp_path / "." / ".." / tmp_path.name / "in.txt"
    with pytest.raises(UsageError, match=r"--output=.*: the file is (that of|among the files of) --input=.*overwritten"):
        check_output("--output", str(written), {"--other": None, "--input": source})
    check_output("--output", str(tmp_path / "new.txt"), {"--input": source, "--data": "-"})


def test_all_commands_refuse_it(tmp_path, trained, data, checkpoint, capsys):
    kept = {path: path.read_bytes() for path in data.iterdir()}
    source, model = data / "dev.tsv", f"--model_dir={trained}"
    vocab = checkpoint / "vocab.txt"
    (tmp_path / "v.index.jsonl").write_text('{"text": "fine"}\n')
    (tmp_path / "manifest.json").write_text("x")
    for main, flags in (
        (predict.main, [model, f"--input={source}", f"--output={source}"]),
        (evaluate.main, [model, f"--data={data / '*.tsv'}", f"--metrics_out={source}"]),
        (inspect.main, [f"--vocab={vocab}", f"--input={source}", f"--output={vocab}"]),
        (encode.main, [f"--init={checkpoint}", f"--input={source}", f"--output={source}", "--output_format=jsonl"]),
        (encode.main, [f"--init={checkpoint}", f"--input={tmp_path / 'v.index.jsonl'}", f"--output={tmp_path / 'v.npy'}"]),
        (make_vocab.main, [f"--input={source}", f"--output={source}"]),
        (
            make_pretraining_data.main,
            [f"--input={tmp_path / 'manifest.json'}", f"--vocab={vocab}", f"--output={tmp_path}"],
        ),
    ):
        assert main(flags) == 2, main
        assert "overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.iterdir()} == kept
