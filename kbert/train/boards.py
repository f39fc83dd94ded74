"""Write to TensorBoard: curves by step, dev figures by epoch, the confusion matrix, the run's flags.

In: the training loop's events. Out: event files in one directory.
"""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.config import ModelConfig, RunConfig
from kbert.settings import changed, to_json
from kbert.tasks import options_of
from kbert.tasks.reports import Lines, Report

EVERY = 10  # steps between points of the training curves
MOST_LABELS = 40  # maximum labels of a confusion matrix drawn as an image
FEW = 20  # a line of at most so many points has them marked, since a single one draws no line
CHINESE_FONTS = ("Noto Sans CJK SC", "WenQuanYi Micro Hei", "SimHei", "Microsoft YaHei", "PingFang SC", "Heiti SC")


class Board:
    """Writes one run's events; without a path, writes nothing."""

    def __init__(self, path: Path | None):
        self._writer = tf.summary.create_noop_writer() if path is None else tf.summary.create_file_writer(str(path))

    def start(self, model: ModelConfig, train: RunConfig, figure: str, name: str) -> None:
        """Write the run's hyper-parameters for the HParams page, where `name` is its row's.

        The first columns are those of flags that differ from their defaults.
        """
        from tensorboard.plugins.hparams import api as hp

        values = _flat({**to_json(train), **to_json(model)})
        given = _given(model, train)
        columns = sorted(values, key=lambda column: column not in given)
        with self._writer.as_default():
            hp.hparams_config(hparams=[hp.HParam(name) for name in columns], metrics=[hp.Metric(f"dev/{figure}")])
            hp.hparams(values, trial_id=name)

    def train(self, step: int, scalars: dict[str, float]) -> None:
        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(f"train/{name}", value, step)

    def report(self, split: str, step: int, report: Report) -> None:
        """Write a report's scalars (percentages as fractions), matrices and texts."""
        with self._writer.as_default():
            for name, value in report.scalars().items():
                tf.summary.scalar(f"{split}/{name}", value / 100 if report.percent else value, step)
            for name, (matrix, labels) in report.matrices().items():
                if len(labels) <= MOST_LABELS:
                    tf.summary.image(f"{split}/{name}", matrix_image(matrix, labels)[None], step)
            for name, lines in report.lines().items():
                tf.summary.image(f"{split}/{name}", lines_image(lines)[None], step)
            for name, text in report.texts().items():
                tf.summary.text(f"{split}/{name}", text, step)
        self._writer.flush()

    def weights(self, step: int, weights: Iterable[Any]) -> None:
        """Write a histogram of each weight."""
        with self._writer.as_default():
            for weight in weights:
                tf.summary.histogram(f"weights/{weight.path}", keras.ops.convert_to_numpy(weight), step)

    def close(self) -> None:
        self._writer.close()


class Curves:
    """Writes training loss, metrics and learning rate every `EVERY` steps of an epoch, at its last, and at checkpoints.

    Inputs are means since the epoch's start; points are means since the last point.
    """

    def __init__(self, board: Board, per_epoch: int):
        self.board, self.per_epoch = board, per_epoch
        self.start(0, {})

    def start(self, step: int, means: dict[str, float]) -> None:
        """Continue after a step, given the means at it."""
        self.seen = step % self.per_epoch
        self.sums = {name: value * self.seen for name, value in means.items()}

    def due(self, step: int) -> bool:
        within = step % self.per_epoch
        return within % EVERY == 0

    def add(self, step: int, means: dict[str, float], learning_rate: float) -> None:
        """Write a point after a step, from 1, given the means since the epoch's start, this step included."""
        count = (step - 1) % self.per_epoch + 1
        if count > self.seen:
            sums = {name: value * count for name, value in means.items()}
            scalars = {name: (total - self.sums.get(name, 0.0)) / (count - self.seen) for name, total in sums.items()}
            self.board.train(step, {**scalars, "learning_rate": learning_rate})
        self.start(step, means)


def matrix_image(matrix: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """Draw a square table of counts as an image, [height, width, 3] of uint8: gold down, predicted across."""
    axes, drawn = _axes(3.0 + 0.5 * len(labels), layout="constrained")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    font = {"family": _fonts()}
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontdict=font, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontdict=font, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    for i in range(len(labels)):
        for j in range(len(labels)):
            axes.text(j, i, f"{matrix[i, j]:,}", ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
    return drawn()


def lines_image(lines: Lines) -> np.ndarray:
    """Draw a diagram of lines as an image, [height, width, 3] of uint8."""
    axes, drawn = _axes(5.0)
    if lines.diagonal:
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for name, (x, y) in lines.points.items():
        axes.plot(x, y, label=name.replace("$", r"\$"), marker="." if len(x) <= FEW else None)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel(lines.x)
    axes.set_ylabel(lines.y)
    if len(lines.points) > 1:
        axes.legend(prop={"family": _fonts(), "size": 8})
    return drawn()


def _axes(size: float, layout: Literal["constrained"] | None = None) -> tuple[Any, Callable[[], np.ndarray]]:
    """Make the axes of a figure, inches wide and high, and the function that draws it.

    Without a layout the margins are those of short labels; to compute them takes as long as all the drawing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size, size), dpi=100, layout=layout)
    canvas = FigureCanvasAgg(figure)

    def drawn() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # without a Chinese font, characters are drawn as boxes
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    return figure.add_subplot() if layout else figure.add_axes((0.12, 0.11, 0.85, 0.86)), drawn


def _fonts() -> list[str]:
    """List font families: the usual one, and those for Chinese that are installed."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["DejaVu Sans", *(name for name in CHINESE_FONTS if name in installed)]


def _given(model: ModelConfig, train: RunConfig) -> set[str]:
    """Return the flags, by the names that `_flat` returns, whose values are not the defaults."""
    chosen = options_of(model)
    given = changed(train, chosen.DEFAULTS) | changed(model, chosen.DEFAULTS)
    return given | {f"options.{name}" for name in changed(chosen)}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into dotted names with values that the HParams page accepts."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            flat[prefix + name] = value
        else:
            flat[prefix + name] = str(value)[:200]
    return flat
