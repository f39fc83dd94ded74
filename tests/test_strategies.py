"""Several replicas and several processes give what one device gives, through the command line."""

import json
import os
import re
import socket
import subprocess

import numpy as np
import pytest
from conftest import PATIENCE, ROOT, VOCABULARY, finetune_flags, reviews, wait_for, write_hugging_face, write_tsv
from forked import Forks, program_of
from safetensors.numpy import load_file
from test_boards import events, number
from test_pretrain import arguments
from test_pretraining_data import text

from kbert import finetune, pretrain
from kbert.model_dir import ModelDir

# Two virtual CPUs; they must be asked for before TensorFlow's first operation.
MIRRORED = """
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
"""

# A worker that waits for the other, and then is busy by itself.
BUSY = """
import time
from kbert.train import strategies
with strategies.devices("multi_worker", 2, 1) as devices:
    devices.wait()
    print("together", flush=True)
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A checkpoint without dropout, 105 rows (the last batch of 16 has 9), and a run on one device."""
    path = tmp_path_factory.mktemp("strategies")
    write_tsv(path / "train.tsv", reviews(105, 1))
    write_tsv(path / "dev.tsv", reviews(20, 2))
    checkpoint = write_hugging_face(path / "init", config={"hidden_dropout_prob": 0.0})

    def flags(name: str, **more: object) -> list[str]:
        shared = {"epochs": 1, "head_dropout": 0.0, "clip_norm": 0.5, "checkpoint_steps": 1}
        return finetune_flags(checkpoint, path, path / name, **{**shared, **more})

    assert finetune.main(flags("one")) == 0
    return path, flags


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory):
    """Text with pairs, and a run of seven steps on one device; every step's loss is in TensorBoard."""
    path = tmp_path_factory.mktemp("pretraining")
    for name, documents, seed in (("text.txt", 60, 1), ("other.txt", 20, 2)):
        (path / name).write_text(text(documents, seed), encoding="utf-8")
    (path / "vocab.txt").write_text("".join(token + "\n" for token in VOCABULARY), encoding="utf-8")

    def flags(name: str, **more: object) -> list[str]:
        shared = {"dropout": 0, "steps": 7, "checkpoint_steps": 1, "learning_rate": 0.003, "clip_norm": 0.5}
        return arguments(path, path / name, **{**shared, **more})

    assert pretrain.main(flags("one")) == 0
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
    # Steps after a kill are in the log twice, of which the later counts.
    expected, found = ({step: number(value) for step, value in events(path / "tb")["train/loss"]} for path in (one, other))
    assert len(expected) == 7 and expected == pytest.approx(found, abs=1e-4)


def line(output: str) -> str:
    """What a run says of its training steps: accuracy and loss."""
    return next(line.split("ms/step - ")[1].split(" - dev")[0] for line in output.splitlines() if "ms/step" in line)


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_two_replicas_in_parts_are_one_device(kind, setting, pretraining, forks, environment):
    path, flags = {"finetune": setting, "pretrain": pretraining}[kind]
    child = forks.start(MIRRORED + program_of(kind), flags("mirrored", strategy="mirrored", accumulation_steps=2), environment)
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 0, output
    assert "--strategy=mirrored: 2 replicas, 8 rows of a batch each" in output
    close(path / "one", path / "mirrored")


def test_windows_of_long_texts_on_two_replicas_are_one_device(setting, forks, environment):
    """Replicas share a batch's rows, each with all of its windows; the last batch has fewer rows than parts."""
    path, flags = setting
    more = {"long_text": "windows", "max_length": 7, "stride": 1, "max_windows": 3}
    assert finetune.main(flags("windows", **more)) == 0
    both = flags("both", **more, strategy="mirrored", accumulation_steps=2)
    child = forks.start(MIRRORED + program_of("finetune"), both, environment)
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 0, output
    close(path / "windows", path / "both")


class Workers:
    """Two processes of one job on this machine, each with its TF_CONFIG; killed when the block is left."""

    def __init__(self, forks: Forks, program: str, arguments: list[str], environment: dict[str, str]):
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.bind(("localhost", 0))
            addresses = [f"localhost:{one.getsockname()[1]}" for one in (first, second)]
        self.children = []
        for index in range(2):
            cluster = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
            self.children.append(forks.start(program, arguments, {**environment, "TF_CONFIG": cluster}))

    def __enter__(self):
        return self.children

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.communicate(timeout=PATIENCE)


def ended(child) -> str:
    """What a worker said that ended because another was killed just now."""
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 1, output
    assert "Traceback" not in output and "Run the same command on all to continue" in output
    return output


def test_two_workers_are_one_device_and_the_chief_alone_writes(setting, forks, environment):
    """One of them is killed, and its last checkpoint damaged, before both run to the end."""
    path, flags = setting
    job = forks, program_of("finetune"), flags("workers", strategy="multi_worker", keep_checkpoints=3), environment
    directory = ModelDir(path / "workers")
    with Workers(*job) as (chief, other):
        wait_for(lambda: len(directory.checkpoints()) >= 2, chief, other)
        other.kill()
        ended(chief)
    last = directory.last()
    assert 2 <= last.step < 7
    (last.path / "state.safetensors").write_bytes(b"half")

    with Workers(*job) as children:
        outputs = [child.communicate(timeout=PATIENCE)[0] for child in children]
        assert [child.returncode for child in children] == [0, 0], outputs
        assert line(outputs[0]) == line(outputs[1])
        assert f"damaged-{last.path.name}" in outputs[0] and "damaged" not in outputs[1]
        assert all(f"continuing after step {last.step - 1}" in output for output in outputs)
        assert "the best on dev" in outputs[0] and "the best on dev" not in outputs[1]
        events = [file.name for file in (path / "workers" / "tb").iterdir() if file.is_file()]
        assert len(events) == 2 and not any(f".{other.pid}." in name or f".{children[1].pid}." in name for name in events)
    close(path / "one", path / "workers")
    assert os.path.exists(path / "workers" / "metrics.json")


def test_two_workers_pretrain_in_parts_as_one_device(pretraining, forks, environment):
    path, flags = pretraining
    job = forks, program_of("pretrain"), flags("workers", strategy="multi_worker", accumulation_steps=2), environment
    with Workers(*job) as children:
        outputs = [child.communicate(timeout=PATIENCE)[0] for child in children]
        assert [child.returncode for child in children] == [0, 0], outputs
    assert "held out, " in outputs[0] and "held out, " not in outputs[1]
    close(path / "one", path / "workers")


@pytest.mark.parametrize("gone", [0, 1])
def test_a_worker_ends_with_another_whatever_it_does(forks, environment, gone):
    """As when the chief measures, or writes, for a long time: it takes part in nothing."""
    with Workers(forks, BUSY, [], environment) as children:
        wait_for(lambda: all("together\n" in child.output.read_text() for child in children), *children)
        children[gone].kill()
        assert f"worker /job:worker/replica:0/task:{gone} is gone" in ended(children[1 - gone])


def test_launchers_tell_each_worker_its_place(tmp_path, environment):
    """With programs of SLURM's names that answer as SLURM does, and the commands of the Kubernetes job."""
    programs = {
        "scontrol": 'printf "%s\\n" node7 node9',
        "srun": 'for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done',
        "python": 'echo "$TF_CONFIG" | tr "\\n" " "; echo; echo "$@"',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    launch = ROOT / "tools" / "launch"
    job = re.search(r"- \|\n(.*?)\n +volumeMounts", (launch / "kubernetes.yaml").read_text(), re.DOTALL)[1]
    slurm = ["bash", launch / "slurm.sh", "--flagfile=a b.flags"]
    found = {}
    for name, command in (("slurm", slurm), ("kubernetes", ["sh", "-c", job])):
        path = {"PATH": f"{tmp_path}:{environment['PATH']}", "SLURM_JOB_NODELIST": "node[7,9]", "JOB_COMPLETION_INDEX": "1"}
        lines = subprocess.run(
            command, env={**environment, **path}, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        found[name] = [json.loads(line) for line in lines[::2]]
        assert all(line.startswith("-m kbert.pretrain ") and line.endswith(" --strategy=multi_worker") for line in lines[1::2])
    assert found["slurm"] == [
        {"cluster": {"worker": ["node7:2222", "node9:2222"]}, "task": {"type": "worker", "index": index}} for index in (0, 1)
    ]
    [told] = found["kubernetes"]
    assert told["cluster"]["worker"] == ["kbert-0.kbert:2222", "kbert-1.kbert:2222"] and told["task"]["index"] == 1
