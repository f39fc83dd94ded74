"""What long texts say of aspects: filters, the two stages of training, what is answered and served."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import finetune_flags

from kbert import evaluate, export, finetune, predict

ASPECTS = ("film_music", "film_plot")
SAID = {"1": ["good", "fine"], "-1": ["bad", "dull"]}


def review(rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A text of many sentences of which one or none speaks of each aspect, and what it says."""
    sentences = [f"a {word} is very {other}." for word, other in rng.choice(["cafe", "e", "s", "x", "un"], (6, 2))]
    labels = dict.fromkeys(ASPECTS, "-2")
    for aspect, word in zip(ASPECTS, ("film", "plot"), strict=True):
        if rng.random() < 0.5:
            labels[aspect] = str(rng.choice(list(SAID)))
            sentences.insert(int(rng.integers(len(sentences) + 1)), f"the {word} is {rng.choice(SAID[labels[aspect]])}.")
    return " ".join(sentences), labels


def write_wide(path: Path, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text", *ASPECTS])
        writer.writeheader()
        for number in range(rows):
            text, labels = review(rng)
            writer.writerow({"id": number, "text": text, **labels})
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    for name, rows, seed in (("train", 240, 1), ("dev", 60, 2), ("test", 60, 3)):
        write_wide(folder / f"{name}.csv", rows, seed)
    (folder / "names.txt").write_text("film_music\tfilm\tfilm\nfilm_plot\tplot\tplot\n", encoding="utf-8")
    return folder


def flags(checkpoint: Path, wide: Path, model_dir: Path, **more: object) -> list[str]:
    settings = {
        "train_data": wide / "train.csv",
        "dev_data": wide / "dev.csv",
        "label_column": ",".join(ASPECTS),
        "aspect_names": wide / "names.txt",
        "filter": "tfn",
        "filter_units": 8,
        "filter_learning_rate": 0.02,
        "filter_epochs": 4,
        "max_length": 24,
        "epochs": 3,
        "learning_rate": 0.01,
        **more,
    }
    return ["--task=aspect", *finetune_flags(checkpoint, wide, model_dir, **settings)]


@pytest.fixture(scope="module")
def trained(checkpoint, wide, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("aspect") / "model"
    assert finetune.main(flags(checkpoint, wide, path, test_data=wide / "test.csv")) == 0
    return path


def test_learns(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["test"]["macro_f1"] > 0.8, metrics
