"""Several replicas and several processes give what one device gives, through the command line."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, finetune_flags, reviews, write_hugging_face, write_tsv
from safetensors.numpy import load_file

from kbert import finetune
from kbert.model_dir import ModelDir

# Two virtual CPUs; they must be asked for before TensorFlow starts.
MIRRORED = """
import sys
from kbert import runtime
runtime.start()
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from kbert import finetune
sys.exit(finetune.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A checkpoint without dropout, 105 rows (the last batch of 16 has 9), and a run on one device."""
    path = tmp_path_factory.mktemp("strategies")
    write_tsv(path / "train.tsv", reviews(105, 1))
    write_tsv(path / "dev.tsv", reviews(20, 2))
    checkpoint = write_hugging_face(path / "init", config={"hidden_dropout_prob": 0.0})

    def flags(name: str, **more: object) -> list[str]:
        return finetune_flags(checkpoint, path, path / name, epochs=1, head_dropout=0.0, clip_norm=0.5, **more)

    assert finetune.main(flags("one")) == 0
    return path, flags


def close(one, other) -> None:
    """Weights, and the optimizer's state, which shows a gradient of the wrong size (by half, say) where Adam hides it."""
    for file, tolerance in (("weights.safetensors", 3e-4), ("state.safetensors", 5e-3)):
        a, b = (load_file(ModelDir(path).best().path / file) for path in (one, other))
        assert len(a) == len(b)
        for name, like in zip(sorted(a), sorted(b), strict=True):
            if "seed_generator" not in name and "key/bias" not in name and "key_bias" not in name:
                # (A key's bias has no gradient but rounding, which Adam blows up.)
                scale = max(float(np.abs(a[name]).max()), 1e-3)
                assert float(np.abs(a[name].astype(float) - b[like].astype(float)).max()) < tolerance * scale, name
    figures = [ModelDir(path).best().metrics["loss"] for path in (one, other)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)


def line(output: str) -> str:
    """What a run says of its training steps: accuracy and loss."""
    return next(line.split("ms/step - ")[1].split(" - dev")[0] for line in output.splitlines() if "ms/step" in line)


def test_two_replicas_in_parts_are_one_device(setting, environment):
    path, flags = setting
    command = [sys.executable, "-c", MIRRORED, *flags("mirrored", strategy="mirrored", accumulation_steps=2)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--strategy=mirrored: 2 replicas, 8 rows of a batch each" in done.stderr
    close(path / "one", path / "mirrored")


def test_two_workers_are_one_device_and_the_chief_alone_writes(setting, environment):
    path, flags = setting
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("localhost", 0))
        workers = [f"localhost:{one.getsockname()[1]}" for one in (first, second)]
    command = [sys.executable, "-m", "kbert.finetune", *flags("workers", strategy="multi_worker")]
    children = []
    for index in range(2):
        cluster = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        children.append(
            subprocess.Popen(
                command,
                env={**environment, "TF_CONFIG": cluster},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [child.communicate(timeout=240)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], outputs
    assert line(outputs[0]) == line(outputs[1])
    assert "the best on dev" in outputs[0] and "the best on dev" not in outputs[1]
    events = [file for file in (path / "workers" / "tb").iterdir() if file.is_file()]
    assert len(events) == 1 and f".{children[0].pid}." in events[0].name
    close(path / "one", path / "workers")
    assert os.path.exists(path / "workers" / "metrics.json")
