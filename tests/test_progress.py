"""Progress where there is no terminal: a line every half minute."""

from kbert import progress
from kbert.data import indexing as sources
from kbert.progress import EVERY, Progress, over
from kbert.source import SourceConfig


def test_lines_into_a_file_or_pipe(capsys):
    now = [0.0]
    figures = {"loss": 0.25}
    with Progress(200, desc="training", unit="step", initial=100, figures=lambda: figures, clock=lambda: now[0]) as bar:
        for _ in range(100):
            now[0] += EVERY / 40
            bar.update()
            bar.show({"not": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "training: step 140 of 200 (70 %), loss 0.2500, 1.33step/s, 00:45 left",
        "training: step 180 of 200 (90 %), loss 0.2500, 1.33step/s, 00:15 left",
    ]
    with Progress(20_000_000, desc="reading x.tsv", unit="B", unit_scale=True, clock=lambda: now[0]) as bar:
        now[0] += 20
        bar.update(2_000_000)
        now[0] += 20
        bar.update(3_000_000)
    assert capsys.readouterr().err.splitlines() == ["reading x.tsv: 5.00MB of 20.0MB (25 %), 125kB/s, 02:00 left"]
    with Progress(desc="copying", unit="row", clock=lambda: now[0]) as bar:
        now[0] += 300
        bar.update(30)
    assert capsys.readouterr().err.splitlines() == ["copying: 30 row, 10.00s/row, 05:00 so far"]


def test_what_is_quick_or_quiet_shows_nothing(capsys):
    now = [0.0]
    with Progress(10, desc="predicting", unit="row", quiet=True, clock=lambda: now[0]) as bar:
        now[0] += 1000
        bar.update()
    assert list(over(range(5), desc="counting", unit="row", total=5)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_a_long_file_says_how_far_it_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(sources, "CHUNK", 2)
    (tmp_path / "x.txt").write_text("a text\n" * 8)
    assert len(sources.open_table(str(tmp_path / "x.txt"), SourceConfig(), ("text",), keyed_by=1)) == 8
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0].rpartition("x.txt: ")[2] for line in lines] == [
        f"{at}B of 56.0B" for at in ("7.00", "21.0", "35.0", "49.0")
    ]
