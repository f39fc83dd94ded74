"""`--precision=auto`: what is faster on this machine is chosen once, and kept for the run."""

import json
import logging

import pytest
import tensorflow as tf
from conftest import finetune_flags

from kbert import finetune
from kbert.config import EncoderConfig, TrainConfig
from kbert.train import precision
from kbert.train.strategies import Devices

SHAPE = EncoderConfig(vocabulary_size=30_522, num_layers=6, num_heads=12, hidden_dim=384, intermediate_dim=1536)
SMALL = EncoderConfig(vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32)


def chosen(shape: EncoderConfig = SHAPE, **settings) -> str:
    return precision.choose_precision(TrainConfig(init="x", train_data="y", **settings), shape, Devices()).precision


def test_the_faster_one_is_chosen(monkeypatch, caplog):
    caplog.set_level(logging.INFO, precision.__name__)
    for seconds, wanted in (([0.2, 0.1], "bfloat16"), ([0.1, 0.2], "float32"), ([0.1, 0.099], "float32")):
        monkeypatch.setattr(precision, "step_seconds", lambda *_, found=seconds: found)
        assert chosen() == wanted
    assert "auto: bfloat16 (a layer's training step takes 200 ms in float32, 100 ms in bfloat16)" in caplog.text
    monkeypatch.setattr(precision, "step_seconds", lambda *_: pytest.fail("nothing is measured"))
    assert chosen(SMALL) == "float32" and chosen(precision="float16") == "float16"


def test_on_a_gpu_its_capability_decides(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"] if kind == "GPU" else [])
    for capability, wanted in (((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda _, found=capability: {"compute_capability": found}
        )
        assert chosen() == wanted


def test_both_are_measured():
    assert all(0 < seconds < float("inf") for seconds in precision.step_seconds(SMALL, ("float32", "bfloat16")))


def test_the_choice_is_kept_for_a_resumed_run(checkpoint, data, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "WORTH_MEASURING", 0)
    monkeypatch.setattr(precision, "step_seconds", lambda *_: [0.2, 0.1])
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "run", steps=1)) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["precision"] == "bfloat16"
    monkeypatch.setattr(precision, "step_seconds", lambda *_: [0.1, 0.2])
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "run", steps=2)) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["precision"] == "bfloat16"
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "run", steps=3, precision="float32")) == 2


def test_an_unchosen_precision_is_no_arithmetic():
    with pytest.raises(ValueError, match="has not been chosen"):
        _ = TrainConfig(init="x", train_data="y").arithmetic
