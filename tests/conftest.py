"""Tiny checkpoints, vocabularies and texts that every test can make in a moment."""

import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kbert import runtime

runtime.start()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from forked import Forks  # noqa: E402
from hypothesis import settings  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from tiny import CONFIG, VOCABULARY, hugging_face_tensors  # noqa: E402

# A busy machine is no error, and CI should say the same of the same commit.
settings.register_profile("kbert", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kbert")

# Grappler takes a third of a toy run's time. What tests start as processes of their own, exported models too, runs with it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# What is imported is not looked through again and again, nor is the little that a test leaves behind.
gc.freeze()
gc.set_threshold(100_000, 20, 100)

# A shell's background jobs ignore Ctrl-C, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
PATIENCE = 600  # seconds until a process that a test waits for counts as hanging: no measure of any machine's speed


def tool(name: str):
    """A module of tools/."""
    if str(ROOT / "tools") not in sys.path:
        sys.path.append(str(ROOT / "tools"))  # where its worker processes find it too
    return importlib.import_module(name)


def wait_for(condition: Callable[[], object], *children: subprocess.Popen) -> None:
    """Until the condition holds; an error when one of the child processes ends before, or nothing happens for very long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        for child in children:
            assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def collect() -> None:
    """Free the graphs that were traced. They are cycles, and the rare collections above leave gigabytes of them."""
    if gc.get_count()[0] > 30_000 or gc.get_count()[1]:
        gc.collect()


@pytest.fixture(autouse=True)
def collected():
    yield
    collect()


@pytest.fixture(scope="session", autouse=True)
def collected_after_commands():
    """A test may run several commands, each with models of its own."""
    from kbert import flags

    def main(*arguments, **named):
        try:
            return run(*arguments, **named)
        finally:
            collect()

    run = flags.main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "main", main)
        yield


def _as_it_is(model_dir: str | Path) -> tuple:
    """What a loaded model is made of: the directory's files, and kbert's constants, which tests change."""
    files = (
        path for path in sorted(Path(model_dir).rglob("*")) if path.is_file() and not {"tb", "metrics.json"} & {*path.parts}
    )
    stats = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    modules = [(name, module) for name, module in sorted(sys.modules.items()) if name.startswith("kbert.")]
    numbers = [
        (n, key, value) for n, m in modules for key, value in vars(m).items() if key.isupper() and isinstance(value, int)
    ]
    return str(model_dir), *stats, *numbers


@pytest.fixture(scope="module", autouse=True)
def frozen_between_files():
    """What outlives a file of tests (modules, the session's fixtures) is not looked through in the collections of the next.

    The C library returns freed memory to the system only if told to.
    """
    yield
    gc.collect()
    gc.freeze()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """`serving.load` gives the same model for the same files: commands one after another trace its graph once.

    A file or a constant that has changed is read and traced again. Off for a test that sets `serving.load` itself.
    """
    from kbert import serving

    kept: dict[tuple, serving.Predictor] = {}

    def once(model_dir: str | Path, n_best: int | None = None) -> serving.Predictor:
        key = n_best, *_as_it_is(model_dir)
        predictor = kept.pop(key, None) or load(model_dir, n_best)
        kept[key] = predictor
        for old in list(kept)[:-2]:
            del kept[old]
        return predictor

    load = serving.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "load", once)
        yield


@pytest.fixture(scope="module", autouse=True)
def uncertified():
    """Exports are made as with `--nocertify`, but where a test asks for `certified`: the process that replays takes seconds."""
    from kbert.serving import versions

    prove = versions.prove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "prove", lambda *_: None)
        yield prove


@pytest.fixture
def certified(uncertified, monkeypatch):
    from kbert.serving import versions

    monkeypatch.setattr(versions, "prove", uncertified)


# Grappler plans the graph of each signature, for seconds each; test_serving.py has a certificate with it.
PLAIN_REPLAY = """
import runpy, sys
import tensorflow as tf
config = tf.compat.v1.ConfigProto()
config.graph_options.rewrite_options.disable_meta_optimizer = True
session = tf.compat.v1.Session
tf.compat.v1.Session = lambda **options: session(config=config, **options)
sys.argv = [sys.argv[1], "--seconds=0.001"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Replays the golden requests of exported models in one process without kbert for all, as TensorFlow takes long to start."""
    from kbert.serving import replay

    errors = tmp_path_factory.mktemp("elsewhere") / "stderr"
    command = [sys.executable, "-I", "-c", PLAIN_REPLAY, replay.__file__]
    with errors.open("w") as stderr, subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
    ) as process:  # fmt: skip

        def call(path: Path) -> dict:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, errors.read_text()
            return json.loads(line)

        yield call
        process.stdin.close()


@pytest.fixture(scope="module", autouse=True)
def undrawn(request):
    """Diagrams for TensorBoard take a seventh of a toy run's time; they are drawn where they are looked at."""
    from kbert.train import boards

    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "test_boards":
            for name in ("matrix_image", "lines_image"):
                patch.setattr(boards, name, lambda *_: np.zeros((1, 1, 3), np.uint8))
        yield


@pytest.fixture(scope="session")
def vocabulary() -> list[str]:
    return list(VOCABULARY)


def write_hugging_face(
    path: Path, tensors: dict | None = None, config: dict | None = None, tokenizer: dict | None = None
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    settings = {**CONFIG, **(config or {})}
    (path / "config.json").write_text(json.dumps(settings))
    (path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, **(tokenizer or {})}))
    (path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY), encoding="utf-8")
    save_file(hugging_face_tensors() if tensors is None else tensors, path / "model.safetensors")
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return write_hugging_face(tmp_path_factory.mktemp("checkpoint") / "tiny")


def reviews(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts whose label a tiny model can learn: one word decides."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        good = bool(rng.integers(2))
        words = [str(rng.choice(["a", "the", "film", "plot", "very", "is", "and"])) for _ in range(int(rng.integers(2, 12)))]
        words.insert(int(rng.integers(len(words))), str(rng.choice(["good", "fine"] if good else ["bad", "dull"])))
        out.append((" ".join(words), "positive" if good else "negative"))
    return out


def write_tsv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] | None = ("text", "label")) -> Path:
    lines = ["\t".join(row) for row in ([header] if header else []) + list(rows)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder with train.tsv (192 rows), dev.tsv and test.tsv (40 rows each)."""
    folder = tmp_path_factory.mktemp("data")
    write_tsv(folder / "train.tsv", reviews(192, 1))
    write_tsv(folder / "dev.tsv", reviews(40, 2))
    write_tsv(folder / "test.tsv", reviews(40, 3))
    return folder


def finetune_flags(checkpoint: Path, data: Path, model_dir: Path, **more: object) -> list[str]:
    flags = {
        "init": checkpoint,
        "train_data": data / "train.tsv",
        "dev_data": data / "dev.tsv",
        "model_dir": model_dir,
        "max_length": 20,
        "batch_size": 16,
        "epochs": 2,
        "learning_rate": 0.003,
        **more,
    }
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


@pytest.fixture(scope="session")
def trained(checkpoint, data, tmp_path_factory) -> Path:
    """A model directory of a run that has learnt its task; tests only read it."""
    from kbert import finetune

    path = tmp_path_factory.mktemp("model") / "trained"
    flags = finetune_flags(checkpoint, data, path, epochs=8, learning_rate=0.01, test_data=data / "test.tsv")
    assert finetune.main(flags) == 0
    return path


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For child processes: as ours, with the repository importable."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="session")
def forks(environment, tmp_path_factory) -> Iterator[Forks]:
    started = Forks(environment, tmp_path_factory.mktemp("forks"))
    yield started
    started.close()
