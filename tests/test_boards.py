"""TensorBoard's event files, read back."""

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf
from conftest import finetune_flags
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

from kbert import boards, finetune
from kbert.model_dir import ModelDir


def events(path) -> dict[str, list]:
    found = defaultdict(list)
    for file in sorted(path.glob("events.out.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                found[value.tag].append((event.step, value))
    return found


def number(value) -> float:
    return float(tf.make_ndarray(value.tensor))


@pytest.fixture(scope="module")
def run(checkpoint, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("tb") / "m"
    assert finetune.main(finetune_flags(checkpoint, data, path, epochs=2, batch_size=8)) == 0
    return ModelDir(path), events(path / "tb")


def test_curves_by_step(run):
    _, found = run
    steps = [step for step, _ in found["train/loss"]]
    assert steps == [10, 20, 24, 34, 44, 48]  # 24 steps an epoch
    rates = [number(value) for _, value in found["train/learning_rate"]]
    assert max(rates) <= 0.003 and rates[-1] < rates[1]
    assert all(0 < number(value) < 5 for _, value in found["train/loss"])
    assert all(0 <= number(value) <= 1 for _, value in found["train/accuracy"])


def test_points_are_means_since_the_last_point(tmp_path):
    written = []

    class Board:
        def train(self, step, scalars):
            written.append((step, scalars["loss"]))

    curves = boards.Curves(Board())
    optimizer = type("O", (), {"learning_rate": 0.1, "iterations": 0})()
    curves.set_model(type("M", (), {"optimizer": optimizer})())
    curves.set_params({"steps": 99})
    losses = [float(i) for i in range(20)]
    curves.on_epoch_begin(0)
    for i in range(20):
        optimizer.iterations = i + 1
        curves.on_train_batch_end(i, {"loss": np.mean(losses[: i + 1])})
    assert written[0] == (10, pytest.approx(4.5)) and written[1] == (20, pytest.approx(14.5))


def test_dev_figures_by_epoch(run):
    directory, found = run
    for name in ("loss", "accuracy", "macro_f1", "micro_f1", "weighted_f1"):
        assert [step for step, _ in found[f"dev/{name}"]] == [24, 48]
    best = directory.best()
    assert number(found["dev/accuracy"][best.epoch - 1][1]) == pytest.approx(best.metrics["accuracy"])


def test_confusion_matrix_is_a_picture(run):
    _, found = run
    width, height, png = tf.make_ndarray(found["dev/confusion_matrix"][-1][1].tensor)[:3]
    picture = tf.io.decode_png(png).numpy()
    assert picture.shape == (int(height), int(width), 3) and picture.std() > 10


def test_hyper_parameters(run):
    _, found = run
    data = plugin_data_pb2.HParamsPluginData.FromString(
        found["_hparams_/session_start_info"][0][1].metadata.plugin_data.content
    )
    values = data.session_start_info.hparams
    assert values["learning_rate"].number_value == 0.003 and values["batch_size"].number_value == 8
    assert values["options.pooling"].string_value == "pooler" and values["encoder.num_layers"].number_value == 2


def test_matrix_images_with_chinese_labels_and_empty_classes(tmp_path):
    image = boards.matrix_image(np.array([[3, 1], [0, 0]]), ("好评 $_$", "差评"))
    assert image.dtype == np.uint8 and image.shape[2] == 3
    Image.fromarray(image).save(tmp_path / "m.png")


def test_many_labels_make_no_picture(tmp_path):
    class Report:
        def scalars(self):
            return {"accuracy": 0.5}

        def matrices(self):
            return {"confusion_matrix": (np.eye(50), tuple(map(str, range(50))))}

        def texts(self):
            return {"mistakes": "gold | predicted"}

    board = boards.Board(tmp_path)
    board.report("dev", 1, Report())
    board.close()
    assert set(events(tmp_path)) == {"dev/accuracy", "dev/mistakes"}
