"""Flags: parsing, help, errors, and that none of it costs TensorFlow."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from conftest import ROOT

from kbert import encode, evaluate, export, finetune, flags, predict, pretrain
from kbert.config import ModelFlags, RunFlags, TrainConfig
from kbert.elsewhere import NAMES
from kbert.errors import DataError, UsageError
from kbert.pretrain_config import PretrainConfig
from kbert.pretraining.start import StartFlags
from kbert.settings import flag
from kbert.source import SourceOverrides
from kbert.tasks import OPTIONS
from kbert.tasks.answer.options import AnswerOptions
from kbert.tasks.match.options import MatchOptions
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.tasks.tag.options import TagOptions

COMMANDS = {"finetune": finetune, "evaluate": evaluate, "predict": predict, "export": export}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    names: tuple[str, ...] = flag(("a", "b"), help="Names.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    path: str = flag(help="A path.")
    count: int = flag(3, help="A count.", low=1, high=9)
    rate: float = flag(0.5, help="A rate.", low=0.0)
    kind: Literal["x", "y"] = flag("x", help="A kind.")
    loud: bool = flag(False, help="Loud.")
    limit: int | None = flag(None, help="A limit.")
    inner: Inner = Inner()


def parse(*argv: str) -> Example:
    return flags.parse("prog", "About.", argv, lambda _: (Example,))[0]


def test_defaults_and_values():
    assert parse("--path=p") == Example(path="p")
    read = parse("--path=p", "--count=9", "--rate=1e-3", "--kind=y", "--loud", "--limit=4", "--names=u,v")
    assert read == Example(path="p", count=9, rate=1e-3, kind="y", loud=True, limit=4, inner=Inner(names=("u", "v")))
    assert parse("--path=p", "--names=").inner.names == ()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--path is required: A path."),
        (["--path=p", "--cuont=3"], "unknown flag --cuont (did you mean --count?)"),
        (["--path=p", "extra"], "unexpected argument 'extra'"),
        (["--path=p", "--loud", "False"], "unexpected argument 'False'"),
        (["--path=p", "--count=0"], "--count=0"),
        (["--path=p", "--count=10"], "--count=10"),
        (["--path=p", "--count=many"], "--count=many: expected a whole number"),
        (["--path=p", "--rate=fast"], "--rate=fast: expected a number"),
        (["--path=p", "--rate=-1"], "--rate=-1"),
        (["--path=p", "--kind=z"], "--kind=z"),
        (["--path=p", "--flagfile=/nowhere.flags"], "/nowhere.flags"),
    ],
)
def test_usage_errors(argv, message):
    with pytest.raises(UsageError) as caught:
        parse(*argv)
    assert message in str(caught.value)


def test_flagfile_with_byte_order_mark_comments_and_override(tmp_path):
    inner = tmp_path / "inner.flags"
    inner.write_text("--path=inner\n--count=2\n")
    file = tmp_path / "f.flags"
    file.write_bytes(f"\ufeff--kind=y\r\n# a comment\n\n--flagfile={inner}\n".encode())
    assert parse(f"--flagfile={file}", "--count=5") == Example(path="inner", count=5, kind="y")


def test_inline_comment_in_a_flagfile_is_reported(tmp_path):
    file = tmp_path / "f.flags"
    file.write_text("--path=p\n--count=3 # three\n")
    with pytest.raises(UsageError, match="count"):
        parse(f"--flagfile={file}")


def test_help_shows_every_flag_with_its_default(capsys):
    assert flags.main("prog", "About.", ["--help"], lambda _: (Example,), lambda e: 1) == 0
    text = capsys.readouterr().out
    for part in ("About.", "--path=VALUE", "Required.", "--count=N", "Default: 3.", "--kind=x|y", "--names=NAME,...", "a,b"):
        assert part in text


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (UsageError("wrong flag"), 2, "prog: wrong flag"),
        (DataError("f.tsv:3: bad row"), 1, "prog: f.tsv:3: bad row"),
        (KeyboardInterrupt(), 130, "prog: interrupted\n"),
        (signal.SIGTERM, 143, "prog: terminated\n"),
        (MemoryError(), 1, "--batch_size"),
        (OSError(28, "No space left on device"), 1, "no space left on the disk: a temporary file in "),
        (OSError(28, "No space left on device", "out.npy"), 1, "no space left on the disk: out.npy"),
        (type("ResourceExhaustedError", (Exception,), {})(), 1, "--freeze_layers"),
    ],
)
def test_exit_codes(raised, code, message, capsys):
    cleared = []

    def body(example):
        try:
            if isinstance(raised, signal.Signals):
                os.kill(os.getpid(), raised)
            raise raised
        finally:
            cleared.append(True)

    assert flags.main("prog", "", ["--path=p"], lambda _: (Example,), body) == code
    assert cleared and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert message in capsys.readouterr().err


def test_a_bug_keeps_its_traceback():
    def body(example):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        flags.main("prog", "", ["--path=p"], lambda _: (Example,), body)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_rejects_unknown_flags(name, capsys):
    assert COMMANDS[name].main(["--help"]) == 0
    text = capsys.readouterr().out
    assert f"python -m kbert.{name}" in text and "Default:" in text
    assert COMMANDS[name].main(["--no_such_flag=1"]) == 2
    assert "unknown flag --no_such_flag" in capsys.readouterr().err


@pytest.mark.parametrize("task", OPTIONS)
def test_finetune_documents_every_flag_of_its_groups(task, capsys):
    finetune.main([f"--task={task}", "--help"])
    text = capsys.readouterr().out
    for cls in (RunFlags, TrainConfig, ModelFlags, OPTIONS[task]):
        for spec, _ in flags.specs(cls):
            assert f"--{spec.name}" in text and spec.metadata["help"].split()[0] in text
    assert "--text_columns" in text and "--task=" in text


def test_a_task_has_its_own_defaults_of_shared_flags(capsys):
    for name, default in (("classify", "text"), ("answer", "question,context")):
        finetune.main([f"--task={name}", "--help"])
        assert f"Default: {default}." in " ".join(capsys.readouterr().out.split())


def test_unknown_task(capsys):
    assert finetune.main(["--task=juggle"]) == 2
    assert "classify" in capsys.readouterr().err


def test_source_overrides_default_to_training():
    read = flags.parse("prog", "", [], lambda _: (SourceOverrides,))[0]
    assert set(vars(read).values()) == {None}


IMPORTED = """
import contextlib, importlib, io, json, sys
heavy = ("tensorflow", "keras", "tensorflow_text", "keras_nlp", "numpy", "sklearn", "scipy")
found = {}
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import kbert
    found["import kbert"] = [None, [name for name in heavy if name in sys.modules]]
    for command in sys.argv[1:]:
        main = importlib.import_module(f"kbert.{command}").main
        for argument in ("--help", "--no_such_flag", "--model_dir", "leftover"):
            code = main([argument])
            found[f"{command} {argument}"] = [code, [name for name in heavy[:4] if name in sys.modules]]
print(json.dumps(found))
"""


def test_help_and_usage_errors_do_not_import_tensorflow(environment):
    """What they cost, tools/bench/start.py measures."""
    commands = [*COMMANDS, "pretrain", "encode", "inspect"]
    done = subprocess.run([sys.executable, "-c", IMPORTED, *commands], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 1 + 4 * len(commands) and found.pop("import kbert") == [None, []]
    assert {name: [0 if name.endswith(" --help") else 2, []] for name in found} == found


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.flags")), ids=lambda p: p.name)
def test_every_config_parses(path: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    command = next(
        c for c in ("finetune", "pretrain") if first.startswith(f"# python -m kbert.{c} --flagfile=configs/{path.name}")
    )
    argv = first.split(f"kbert.{command} ")[1].split()
    if command == "pretrain":
        parts = (RunFlags, StartFlags, PretrainConfig, ModelFlags, PretrainOptions)
        read = flags.parse("pretrain", "", argv, lambda _: parts)
        assert read is not None and bool(read[1].vocab) != bool(read[2].init)
        return
    groups = lambda task: (RunFlags, TrainConfig, ModelFlags, OPTIONS[task])  # noqa: E731
    read = flags.parse("finetune", "", argv, groups, takes_task=True)
    assert read is not None and read[1].init


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lr=1"], "unknown flag --lr of --task=classify (here it is --learning_rate); --help lists the flags"),
        (["--decoder=crf"], "unknown flag --decoder of --task=classify (it belongs to --task=tag); --help"),
        (["--task=tag", "--max_query_length=3"], "(here it is --max_question_length, which belongs to --task=answer)"),
        (["--do_lower_case"], "(a checkpoint says itself whether it is uncased)"),
        (
            ["--output_dir=x", "--epochs=3", "--foo", "--num_train_epochs=3", "--output_dir=y"],
            "--output_dir of --task=classify (here it is --model_dir); unknown too: --foo, --num_train_epochs (here it is --epochs);",
        ),
        (
            ["--task=ner"],
            "--task=ner: no such task; here it is --task=tag. The tasks are:\n  classify  one label, several labels or a number for a text",
        ),
        (["--task=qa"], "here it is --task=answer"),
        (["--task=mlm"], "--task=mlm: no such task; that is kbert pretrain."),
    ],
)
def test_names_from_elsewhere(argv, message, capsys):
    assert finetune.main(argv) == 2
    assert message in capsys.readouterr().err


def test_names_from_elsewhere_are_of_flags_that_exist():
    known = {spec.name for task in OPTIONS for cls in finetune.groups(task) for spec, _ in flags.specs(cls)}
    known |= {spec.name for cls in (*pretrain.GROUPS, *encode.GROUPS) for spec, _ in flags.specs(cls)}
    known |= {
        spec.name for cls in (predict.PredictFlags, evaluate.EvaluateFlags, export.ExportFlags) for spec, _ in flags.specs(cls)
    }
    assert set(NAMES) <= known


def test_help_says_what_each_task_is(capsys):
    assert finetune.main(["--help"]) == 0
    assert "answer: the part of a text that answers a question;" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "max_length", "shared"),
    [
        (AnswerOptions(), 384, 128),
        (AnswerOptions(), 192, 62),
        (AnswerOptions(doc_stride=9), 192, 9),
        (TagOptions(), 128, 32),
        (TagOptions(), 32, 15),
        (MatchOptions(long_text="mean"), 128, 30),
    ],
)
def test_default_strides_follow_the_maximum_length(options, max_length, shared):
    options = options.completed(max_length)
    options.check(max_length)
    assert options.shared(max_length) == getattr(options, "doc_stride", getattr(options, "stride", None)) == shared
