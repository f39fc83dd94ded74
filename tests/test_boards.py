"""TensorBoard's event files, read back."""

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf
from conftest import finetune_flags
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

from kbert import finetune
from kbert.model_dir import ModelDir
from kbert.tasks import markdown
from kbert.tasks.reports import Lines
from kbert.train import boards


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


def test_points_are_means_since_the_last_point():
    written = []

    class Board:
        def train(self, step, scalars):
            written.append((step, scalars["loss"]))

    losses = [float(i) for i in range(40)]

    def mean(step):  # since the epoch's start, epochs of 25 steps
        return {"loss": np.mean(losses[(step - 1) // 25 * 25 : step])}

    curves = boards.Curves(Board(), 25)
    for step in range(1, 35):
        if curves.due(step) or step == 13:  # a checkpoint makes a point too
            curves.add(step, mean(step), 0.1)
        if step == 13:  # and a run that goes on from it makes the same points
            curves = boards.Curves(Board(), 25)
            curves.start(13, mean(13))
    expected = {10: range(10), 13: range(10, 13), 20: range(13, 20), 25: range(20, 25), 35: range(25, 35)}
    expected.pop(35)
    assert written == [(step, pytest.approx(np.mean(part))) for step, part in expected.items()]


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
    # The row is named after the model directory; flags that are not as by default have the first columns.
    assert data.session_start_info.group_name == str(run[0].path)
    page = plugin_data_pb2.HParamsPluginData.FromString(found["_hparams_/experiment"][0][1].metadata.plugin_data.content)
    columns = [info.name for info in page.experiment.hparam_infos]
    given = {"init", "train_data", "dev_data", "max_length", "batch_size", "epochs", "learning_rate"} | {"precision"}  # the chosen
    assert set(columns[: len(given)]) == given and set(columns) == set(values)
    assert values["options.pooling"].string_value == "pooler" and values["encoder.num_layers"].number_value == 2


def test_mistakes_are_shown(run):
    _, found = run
    for epoch, step in enumerate((24, 48)):
        shown = tf.make_ndarray(dict(found["dev/mistakes"])[step].tensor).item().decode().splitlines()
        assert shown[0] == "| text | gold | predicted | probability |"
        wrong = round(40 * (1 - number(found["dev/accuracy"][epoch][1])))
        assert 0 < wrong == len(shown) - 2
    _, gold, predicted, probability = (cell.strip() for cell in shown[2].strip("|").split("|"))
    assert {gold, predicted} == {"positive", "negative"} and 0.5 <= float(probability) <= 1


def test_a_panel_of_mistakes_is_bounded():
    from kbert.tasks.labels import MISTAKES, LabelScorer

    scorer = LabelScorer(("a", "b"), ("text", "text_b"))
    for _ in range(3):
        raw = {"text": np.array([b"x"] * 40), "text_b": np.array([b"|y"] * 40), "label": np.array([b"a", b"b"] * 20)}
        probabilities = np.tile(np.array([0.25, 0.75], np.float32), (40, 1))
        scorer.update(raw, {"label": np.array([b"b"] * 40), "probabilities": probabilities})
    lines = scorer.result().texts()["mistakes"].splitlines()
    assert len(lines) == 2 + MISTAKES and lines[2] == "| x | \\|y | a | b | 0.7500 |"


def test_long_texts_of_a_panel_are_on_several_lines():
    """TensorBoard gives the other columns room then; Chinese has no blanks to break at."""
    *_, row = markdown.table(("text", "gold"), [("a <good> film… " * 9, "很好" * 21)]).splitlines()
    text, gold = (cell.strip().split("<br>") for cell in row.strip("|").split("|"))
    assert text[0] == "a &lt;good> film… " * 5 + "a" and len(text) == 2
    assert gold == ["很好" * 20, "很好"]


def test_percentages_are_fractions_among_the_curves(tmp_path):
    from kbert.tasks.answer.report import AnswerReport

    board = boards.Board(tmp_path)
    board.report("dev", 1, AnswerReport({"exact_match": 50.0, "f1": 75.0, "rows": 2, "rules": "squad"}, [], None))
    board.close()
    found = events(tmp_path)
    assert number(found["dev/exact_match"][0][1]) == 0.5 and number(found["dev/f1"][0][1]) == 0.75


def test_a_line_of_one_point_is_seen():
    """Answers whose probabilities are all in one bin have a point in the reliability diagram, beside its diagonal."""
    images = [
        boards.lines_image(Lines("x", "y", {"answers": (np.array(x), np.array(x) - 0.2)}, diagonal=True)) for x in ([], [0.9])
    ]
    assert (images[0] != images[1]).any()


def test_matrix_images_with_chinese_labels_and_empty_classes(tmp_path):
    image = boards.matrix_image(np.array([[3, 1], [0, 0]]), ("好评 $_$", "差评"))
    assert image.dtype == np.uint8 and image.shape[2] == 3
    Image.fromarray(image).save(tmp_path / "m.png")


def test_many_labels_make_no_picture(tmp_path):
    class Report:
        percent = False

        def scalars(self):
            return {"accuracy": 0.5}

        def matrices(self):
            return {"confusion_matrix": (np.eye(50), tuple(map(str, range(50))))}

        def lines(self):
            return {}

        def texts(self):
            return {"mistakes": "gold | predicted"}

    board = boards.Board(tmp_path)
    board.report("dev", 1, Report())
    board.close()
    assert set(events(tmp_path)) == {"dev/accuracy", "dev/mistakes"}
