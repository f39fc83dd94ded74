"""Mistakes in small files are reported before TensorFlow is imported."""

import json
import subprocess
import sys

# Runs command lines given as JSON, each with TensorFlow and Keras out of reach; prints exit code and message of each.
PROGRAM = """
import contextlib, importlib, io, json, sys
for name in ("tensorflow", "keras", "tensorflow_text", "keras_nlp"):
    sys.modules[name] = None
for command, argv in json.load(sys.stdin):
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            code = importlib.import_module(f"kbert.{command}").main(argv)
        except ImportError as missing:
            code = f"imports {missing.name}"
    print(json.dumps([code, error.getvalue()]))
"""


def results(commands, environment):
    text = json.dumps([[command, [str(each) for each in argv]] for command, argv in commands])
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=text, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# A task's flags, its file, and what is wrong in it.
MISTAKES = {
    "a missing column": ([], "f.tsv", "text\tmood\na\tb\n", "f.tsv: no column 'label'"),
    "a bad row": ([], "f.tsv", "text\tlabel\na\tb\nc\n", "f.tsv:3: "),
    "one label": ([], "f.tsv", "text\tlabel\na\tb\nc\tb\n", "f.tsv: one label only ('b')"),
    "too few rows": ([], "f.tsv", "text\tlabel\na\tb\nb\tc\n", "f.tsv: no dev rows can be set aside ("),
    "several labels": (
        [],
        "f.txt",
        "__label__a __label__b c\n",
        "f.txt:1: 2 labels (a, b), expected one; several labels a row",
    ),
    "an empty label in a list": (["--objective=multilabel"], "f.tsv", "text\tlabel\na\tb,,c\n", "f.tsv:2: an empty label"),
    "no number": (["--objective=regression"], "f.tsv", "text\tlabel\na\tb\n", "f.tsv:2: expected a number"),
    "mixed schemes": (["--task=tag"], "f.conll", "a B-X\nb E-X\n\nc I-X\nd L-X\n", "f.conll:5: "),
    "a misplaced answer": (
        ["--task=answer", "--max_question_length=4", "--doc_stride=4"],
        "f.jsonl",
        '{"question": "q", "context": "c", "answers": ["x"]}\n',
        "f.jsonl:1: the answer 'x' is not found",
    ),
    "no grade": (["--task=match", "--label_column=label"], "f.tsv", "title\ttext\tlabel\na\tb\tx\n", "f.tsv:2: label 'x'"),
    "no polarity": (["--task=aspect", "--text_columns=text,aspect"], "f.tsv", "text\taspect\tlabel\na\tb\tx\n", "f.tsv:2: "),
}
AFTERWARDS = {
    "an unknown label": ("evaluate", "text\tlabel\na\tother\n", "f.tsv:2: label 'other' is not among the model's labels"),
    "no column": ("evaluate", "text\tmood\na\tpositive\n", "f.tsv: no column 'label'"),
    "no text": ("predict", "label\na\n", "f.tsv: no column 'text'"),
}


def test_mistakes_in_small_files_are_found_before_tensorflow_is_imported(environment, checkpoint, trained, tmp_path):
    commands, messages = [], []
    for number, (flags, name, text, message) in enumerate(MISTAKES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_text(text)
        given = {"init": checkpoint, "train_data": folder / name, "max_length": 20, "model_dir": folder / "m"}
        commands.append(("finetune", [*(f"--{flag}={value}" for flag, value in given.items()), *flags]))
        messages.append(f"python -m kbert.finetune: {folder}/{message}")
    (tmp_path / "f.tsv").write_text("label\na\n")
    commands.append(("encode", [f"--init={checkpoint}", f"--input={tmp_path / 'f.tsv'}", f"--output={tmp_path / 'v.npy'}"]))
    messages.append(f"python -m kbert.encode: {tmp_path / 'f.tsv'}: no column 'text'")
    for number, (command, text, message) in enumerate(AFTERWARDS.values()):
        folder = tmp_path / f"{command}{number}"
        folder.mkdir()
        (folder / "f.tsv").write_text(text)
        data = "data" if command == "evaluate" else "input"
        commands.append((command, [f"--model_dir={trained}", f"--{data}={folder / 'f.tsv'}"]))
        messages.append(f"python -m kbert.{command}: {folder}/{message}")
    for (code, shown), message in zip(results(commands, environment), messages, strict=True):
        assert message in shown
        assert code == 1
