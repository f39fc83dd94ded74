"""Classification by objective: several labels, numbers, weights of classes and rows, long texts, calibration."""

import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import write_tsv
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, f1_score, hamming_loss, precision_recall_fscore_support
from sklearn.utils.class_weight import compute_class_weight

from kbert import convert, evaluate, export, finetune, predict
from kbert.errors import DataError, UsageError
from kbert.model_dir import ModelDir
from kbert.tasks import calibration, label_metrics
from kbert.tasks.base import Built
from kbert.tasks.classify import class_weights, losses, multilabel_metrics
from kbert.tasks.classify.multilabel import Multilabel, MultilabelScorer
from kbert.tasks.classify.multilabel_gold import MultilabelAudit, labels_of, value_of
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.classify.regression_gold import TargetAudit
from kbert.tasks.labels import LabelAudit
from kbert.train.fine_tuning import FineTuning


def flags(checkpoint, model_dir, train, dev, **more):
    given = {
        "init": checkpoint,
        "train_data": train,
        "dev_data": dev,
        "model_dir": model_dir,
        "max_length": 16,
        "batch_size": 16,
        "epochs": 1,
        "learning_rate": 0.01,
        **more,
    }
    return [f"--{name}={value}" for name, value in given.items()]


TEXTS = ["good film", "bad film", "a dull plot", "good but dull", "the film is fine", "not bad", "very bad plot", "a cafe"]


def tags(text: str) -> list[str]:
    return [word for word in ("good", "bad", "dull") if word in text]


def rows(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{TEXTS[i]} {' '.join(rng.choice(['a', 'the', 'very', 'is'], 2))}" for i in rng.integers(0, len(TEXTS), count)]


def test_cross_entropy_focal_loss_and_smoothing_by_their_formulas():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (7, 4)).astype(np.float32)
    gold = rng.integers(0, 4, 7)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    one = np.eye(4)[gold]
    plain = -np.log(p[np.arange(7), gold])
    np.testing.assert_allclose(losses.cross_entropy(gold, scores), plain, rtol=1e-5)
    smooth = one * 0.9 + 0.1 / 4
    np.testing.assert_allclose(losses.cross_entropy(gold, scores, smoothing=0.1), -(smooth * np.log(p)).sum(1), rtol=1e-5)
    focal = -((1 - p[np.arange(7), gold]) ** 2) * np.log(p[np.arange(7), gold])
    np.testing.assert_allclose(losses.cross_entropy(gold, scores, gamma=2.0), focal, rtol=1e-4)
    q, y = 1 / (1 + np.exp(-scores)), rng.integers(0, 2, (7, 4))
    binary = -(3.0 * y * np.log(q) + (1 - y) * np.log(1 - q))
    np.testing.assert_allclose(losses.binary_cross_entropy(y, scores, positive=3.0), binary, rtol=1e-4)
    focal = -(3.0 * y * (1 - q) ** 1.5 * np.log(q) + (1 - y) * q**1.5 * np.log(1 - q))
    np.testing.assert_allclose(losses.binary_cross_entropy(y, scores, gamma=1.5, positive=3.0), focal, rtol=1e-4)
    keras_loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2, reduction="none")
    own = tf.reduce_mean(losses.binary_cross_entropy(y, scores, smoothing=0.2), -1)
    np.testing.assert_allclose(own, keras_loss(y.astype(np.float32), scores), rtol=1e-4)
    sure = tf.Variable([[100.0, -100.0]])
    with tf.GradientTape() as tape:
        loss = losses.cross_entropy(tf.constant([0]), sure, gamma=0.5) + losses.binary_cross_entropy([[1, 0]], sure, gamma=0.5)
    assert np.isfinite(tape.gradient(loss, sure)).all()


def test_weights_of_classes(tmp_path):
    counts = np.array([30, 5, 0, 1])
    rows_of = np.repeat([0, 1, 3], [30, 5, 1])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=rows_of)
    np.testing.assert_allclose(np.array(class_weights.balanced(counts))[[0, 1, 3]], expected)
    assert class_weights.balanced_positives(np.array([1, 0]), np.array([50, 51])) == (50.0, 1.0)
    file = tmp_path / "w.tsv"
    file.write_text("spam\t10\n\nham\t0.5\n")
    assert class_weights.named_weights(str(file), ("ham", "other", "spam")) == (0.5, 1.0, 10.0)
    with pytest.raises(DataError, match="'spam' is not among the labels: 'ham'"):
        class_weights.named_weights(str(file), ("ham",))
    for text, said in (("a 1\n", ":1: expected a label, a tab"), ("a\t-1\n", "at least 0"), ("a\t1\na\t2\n", "twice")):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            class_weights.read_weights(str(file))
    with pytest.raises(UsageError, match="none, balanced or a file; no such file"):
        class_weights.read_weights(str(tmp_path / "none.tsv"))


@given(st.lists(st.text("abc ", min_size=1).filter(str.strip), max_size=4))
def test_cells_that_list_labels(names):
    names = [name.strip() for name in names]
    assert labels_of(json.dumps(names), ",") == tuple(names)
    assert labels_of(", ".join(names), ",") == tuple(names)
    assert labels_of("|".join(names), "|") == tuple(names)


def test_cells_of_labels_that_are_unknown_or_malformed():
    assert labels_of("?", ",") is None and labels_of("null", ",") is None and labels_of(" ", ",") == ()
    assert [value_of(cell, "a") for cell in ("1", "0", "?", "true", "1.0", "null")] == [1, 0, -1, 1, 1, -1]
    assert labels_of("['a', 'b']", ",") == ("a", "b") and labels_of("[]", ",") == () and labels_of("[1, 2]", ",") == ("1", "2")
    for cell in ("a,,b", '["a", null]', "[[1]]", "[a, b]", '{"a": 1}', "[" * 9999 + "]"):
        with pytest.raises(ValueError, match="empty label|list of labels"):
            labels_of(cell, ",")
    with pytest.raises(ValueError, match=r"column 'a': expected 1, 0 or \?"):
        value_of("yes", "a")


@settings(max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(2, 40))
def test_figures_of_several_labels_are_scikit_learns_and_thresholds_the_best(seed, labels, count):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 2, (count, labels))
    probabilities = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], (count, labels)).astype(np.float32)
    names = [f"l{i}" for i in range(labels)]
    thresholds = multilabel_metrics.best_thresholds(gold, probabilities, shared=False)
    for label in range(labels):
        tried = [f1_score(gold[:, label], probabilities[:, label] >= t, zero_division=0) for t in (0, 0.2, 0.4, 0.6, 0.8, 1)]
        own = f1_score(gold[:, label], probabilities[:, label] >= thresholds[label], zero_division=0)
        assert own == max(tried) or not gold[:, label].any()
    found = multilabel_metrics.multilabel(gold, probabilities, thresholds, names)
    predicted = (probabilities >= thresholds).astype(int)
    some = np.flatnonzero(gold.any(0) | predicted.any(0))
    wide_gold, wide = (
        np.hstack([a, np.zeros((count, 1), int)]) for a in (gold, predicted)
    )  # one column is read as two classes
    for average in ("micro", "macro", "weighted"):
        expected = precision_recall_fscore_support(wide_gold, wide, labels=some, average=average, zero_division=0)[:3]
        if len(some):
            assert list(found[average].values()) == pytest.approx(expected, abs=1e-9)
    assert found["samples"]["f1"] is None or found["samples"]["f1"] == pytest.approx(
        f1_score(wide_gold, wide, average="samples", zero_division=0)
    )
    assert found["hamming_loss"] == pytest.approx(hamming_loss(gold, predicted))
    assert found["subset_accuracy"] == (gold == predicted).all(1).mean()
    for label, name in enumerate(names):
        if gold[:, label].any():
            expected = average_precision_score(gold[:, label], probabilities[:, label])
            assert found["per_label"][name]["average_precision"] == pytest.approx(expected)
    masked = np.where(rng.random(gold.shape) < 0.3, -1, gold)
    if (masked >= 0).any():
        known = multilabel_metrics.multilabel(masked, probabilities, thresholds, names)
        right = (masked == predicted)[masked >= 0]
        assert known["hamming_loss"] == pytest.approx(1 - right.mean())


def test_several_labels_from_text_to_a_served_model(checkpoint, tmp_path, capsys, caplog):
    data = {
        "train": [(text, "|".join(tags(text))) for text in rows(120)] + [("a good film", "?")],
        "dev": [(text, "|".join(tags(text))) for text in rows(40, 1)],
    }
    paths = {name: write_tsv(tmp_path / f"{name}.tsv", given) for name, given in data.items()}
    more = {"objective": "multilabel", "label_separator": "|", "class_weights": "balanced", "epochs": 14}
    model = tmp_path / "m"
    assert finetune.main(flags(checkpoint, model, paths["train"], paths["dev"], **more)) == 0
    out = capsys.readouterr().out
    assert "subset accuracy" in out and "avg. prec." in out and "label_accuracy" in out
    config = ModelDir(model).read_config()[0]
    assert config.labels == ("bad", "dull", "good") and len(config.options["label_weights"]) == 3
    gold = np.array([[label in tags(text) for label in config.labels] for text, _ in data["train"][:-1]])
    np.testing.assert_allclose(config.options["label_weights"], (~gold).sum(0) / gold.sum(0))
    metrics = json.loads((model / "metrics.json").read_text())["dev"]
    assert metrics["micro"]["f1"] > 0.9
    assert set(ModelDir(model).best().calibration) == {f"threshold {i}" for i in range(3)}
    assert evaluate.main([f"--model_dir={model}", f"--data={paths['dev']}", f"--metrics_out={tmp_path / 'e.json'}"]) == 0
    again = json.loads((tmp_path / "e.json").read_text())
    assert again["micro"] == metrics["micro"] and again["average_precision"] == pytest.approx(metrics["average_precision"])
    assert predict.main([f"--model_dir={model}", f"--input={paths['dev']}", f"--output={tmp_path / 'p.jsonl'}"]) == 0
    answers = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    wanted = np.array([[label in tags(text) for label in config.labels] for text, _ in data["dev"]])
    given = np.array([[label in answer["labels"] for label in config.labels] for answer in answers])
    assert f1_score(wanted, given, average="micro") == pytest.approx(metrics["micro"]["f1"], abs=1e-9)
    capsys.readouterr()
    shown = MultilabelScorer(Multilabel(config, ClassifyOptions(**{**config.options, "label_columns": ()})), finds=False)
    shown.objective.calibrate(ModelDir(model).best().calibration)
    probabilities = np.array([list(answer["probabilities"].values()) for answer in answers], np.float32)
    raw = {"text": np.array([text.encode() for text, _ in data["dev"]], object)}
    shown.update(
        raw | {"label": np.array([label.encode() for _, label in data["dev"]], object)}, {"probabilities": probabilities}
    )
    assert len(shown.result().mistakes) == (wanted != given).any(1).sum()  # those that are answered, by the thresholds
    hugging_face = tmp_path / "hf"
    assert convert.main([f"--init={model}", f"--output={hugging_face}", "--format=hugging_face"]) == 0
    assert json.loads((hugging_face / "config.json").read_text())["problem_type"] == "multi_label_classification"
    assert finetune.main(flags(hugging_face, tmp_path / "again", *paths.values(), **{**more, "epochs": 0})) == 0
    assert "is kept" in capsys.readouterr().err
    kept = json.loads((tmp_path / "again" / "metrics.json").read_text())["dev"]
    assert kept["micro"]["f1"] == pytest.approx(metrics["micro"]["f1"], abs=1e-9)
    capsys.readouterr()
    assert export.main([f"--model_dir={model}", f"--export_dir={tmp_path / 'x'}"]) == 0
    served = tf.saved_model.load(str(tmp_path / "x" / "1")).signatures["serving_default"]
    found = served(text=tf.constant([text for text, _ in data["dev"]]))
    for answer, names, count in zip(answers, found["labels"].numpy(), found["count"].numpy(), strict=True):
        assert [name.decode() for name in names[:count]] == answer["labels"] and not any(names[count:])


def test_a_column_for_each_label(checkpoint, tmp_path, capsys):
    header = ("text", "good", "bad")
    given = [
        (text, str(int("good" in text)), "?" if i % 5 == 0 else str(int("bad" in text))) for i, text in enumerate(rows(80))
    ]
    train = write_tsv(tmp_path / "t.tsv", given, header)
    more = {"objective": "multilabel", "label_column": "good,bad", "thresholds": "shared", "best_metric": "macro_f1"}
    assert finetune.main(flags(checkpoint, tmp_path / "m", train, train, **more)) == 0
    config = ModelDir(tmp_path / "m").read_config()[0]
    assert config.labels == ("good", "bad")
    found = ModelDir(tmp_path / "m").best().calibration
    assert found["threshold 0"] == found["threshold 1"]
    assert "best on dev: macro_f1" in capsys.readouterr().err
    assert evaluate.main([f"--model_dir={tmp_path / 'm'}", f"--data={train}", f"--metrics_out={tmp_path / 'e.json'}"]) == 0
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--input={train}", f"--output={tmp_path / 'p.jsonl'}"]) == 0
    answers = [json.loads(line)["labels"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    bad = [(row[2] == "1", "bad" in labels) for row, labels in zip(given, answers, strict=True) if row[2] != "?"]
    both = sum(a and b for a, b in bad)
    expected = 2 * both / (sum(a for a, _ in bad) + sum(b for _, b in bad))
    measured = json.loads((tmp_path / "e.json").read_text())["per_label"]["bad"]
    assert measured["f1"] == pytest.approx(expected) and measured["rows"] == sum(a for a, _ in bad)  # without the unknown ones
    capsys.readouterr()
    other = write_tsv(tmp_path / "d.tsv", [("good film", "1")], ("text", "good"))
    assert finetune.main(flags(checkpoint, tmp_path / "n", train, other, **more)) == 1
    assert "d.tsv" in capsys.readouterr().err
    plain = {"label_column": "good,bad"}
    assert finetune.main(flags(checkpoint, tmp_path / "n", train, train, **plain)) == 2
    assert "--objective=multilabel" in capsys.readouterr().err
    assert finetune.main(flags(checkpoint, tmp_path / "n", train, train, **{**more, "best_metric": "accuracy"})) == 2
    assert "--best_metric=accuracy: --task=classify has loss, micro_f1" in capsys.readouterr().err


def test_numbers(checkpoint, tmp_path, capsys):
    grade = {text: 100.0 + 10 * i for i, text in enumerate(TEXTS)}
    given = [(text, f"{next(grade[t] for t in TEXTS if text.startswith(t)):.1f}") for text in rows(160)]
    train = write_tsv(tmp_path / "t.tsv", given)
    model = tmp_path / "m"
    assert finetune.main(flags(checkpoint, model, train, train, objective="regression", epochs=6)) == 0
    options = ModelDir(model).read_config()[0].options
    targets = np.array([float(value) for _, value in given])
    assert options["target_mean"] == pytest.approx(targets.mean()) and options["target_deviation"] == pytest.approx(
        targets.std()
    )
    metrics = json.loads((model / "metrics.json").read_text())["dev"]
    assert metrics["pearson"] > 0.8 and metrics["loss"] == pytest.approx(metrics["mse"] / targets.var())
    assert predict.main([f"--model_dir={model}", f"--input={train}", f"--output={tmp_path / 'p.jsonl'}"]) == 0
    scores = np.array([json.loads(line)["score"] for line in (tmp_path / "p.jsonl").read_text().splitlines()])
    assert metrics["mse"] == pytest.approx(np.square(scores - targets).mean(), rel=1e-5)
    assert metrics["pearson"] == pytest.approx(pearsonr(scores, targets)[0], abs=1e-6)
    # Another run takes the layer over and answers alike, although its targets have another mean.
    half = write_tsv(tmp_path / "h.tsv", given[:40])
    capsys.readouterr()
    assert finetune.main(flags(model, tmp_path / "n", half, train, objective="regression", epochs=0)) == 0
    assert "is kept" in capsys.readouterr().err
    assert json.loads((tmp_path / "n" / "metrics.json").read_text())["dev"]["mse"] == pytest.approx(metrics["mse"], rel=1e-4)
    hugging_face = tmp_path / "hf"
    assert convert.main([f"--init={model}", f"--output={hugging_face}", "--format=hugging_face"]) == 0
    config, arrays = json.loads((hugging_face / "config.json").read_text()), load_file(hugging_face / "model.safetensors")
    assert config["problem_type"] == "regression" and arrays["classifier.weight"].shape[0] == 1
    own = ModelDir(model).best().weights()  # what is written answers in the unit of the targets
    bias = own["classifier/bias"] * options["target_deviation"] + options["target_mean"]
    np.testing.assert_allclose(arrays["classifier.bias"], bias, rtol=1e-6)
    assert finetune.main(flags(hugging_face, tmp_path / "p", half, train, objective="regression", epochs=0)) == 0
    assert json.loads((tmp_path / "p" / "metrics.json").read_text())["dev"]["mse"] == pytest.approx(metrics["mse"], rel=1e-4)
    capsys.readouterr()
    for value in ("high", "nan", "", "３", "1e31"):
        bad = write_tsv(tmp_path / "b.tsv", [*given[:3], ("a film", value)])
        assert finetune.main(flags(checkpoint, tmp_path / "o", bad, train, objective="regression")) == 1
        assert "b.tsv:5: expected a number" in capsys.readouterr().err
    same = write_tsv(tmp_path / "same.tsv", [("good film", "110"), ("bad film", "110")])
    more = {"objective": "regression", "epochs": 0, "best_metric": "pearson"}
    assert finetune.main(flags(checkpoint, tmp_path / "q", train, same, **more)) == 0
    assert "dev has no pearson, so the best checkpoint is the one with the lowest loss" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"all 1 targets are 1"):
        audit = TargetAudit("f.tsv", None)
        audit(("a", "1"))
        audit.check_learnable()


def test_weights_of_rows_and_classes_in_the_loss(checkpoint, tmp_path, capsys):
    """A row of weight 2 is learnt as two rows are; one of weight 0 not at all; with parts of a batch as without."""
    given = [(text, "b" if "bad" in text else "g") for text in rows(12)]
    twice = write_tsv(tmp_path / "twice.tsv", [*given[:6], *given[:6], *given[6:]])
    weighted = [(*row, "2" if i < 6 else "1") for i, row in enumerate(given)] + [("a film", "b", "0")]
    once = write_tsv(tmp_path / "once.tsv", weighted, ("text", "label", "w"))
    dev = write_tsv(tmp_path / "dev.tsv", given)
    common = {"batch_size": 32, "dropout": 0.0, "head_dropout": 0.0, "epochs": 2, "warmup_ratio": 0.0, "optimizer": "adamw"}
    found = {}
    for name, train, more in (
        ("twice", twice, {}),
        ("once", once, {"sample_weight_column": "w"}),
        ("parts", once, {"sample_weight_column": "w", "accumulation_steps": 4}),
    ):
        assert finetune.main(flags(checkpoint, tmp_path / name, train, dev, **common, **more)) == 0
        found[name] = ModelDir(tmp_path / name).last().weights()
    for name in ("once", "parts"):
        for path, array in found["twice"].items():
            np.testing.assert_allclose(found[name][path], array, atol=2e-5, err_msg=path)
    bad = write_tsv(tmp_path / "bad.tsv", [*weighted, ("a film", "b", "-1")], ("text", "label", "w"))
    capsys.readouterr()
    assert finetune.main(flags(checkpoint, tmp_path / "o", bad, dev, sample_weight_column="w")) == 1
    assert "bad.tsv:15: --sample_weight_column: expected a number of at least 0" in capsys.readouterr().err


def test_calibration():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (4000, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gold = np.array([rng.choice(3, p=row) for row in p])
    sharp = calibration.scaled(p, 0.25)
    assert calibration.temperature(gold, sharp) == pytest.approx(4.0, rel=0.1)
    right, before = sharp.argmax(1) == gold, calibration.expected_error(sharp.argmax(1) == gold, sharp.max(1))
    after = calibration.scaled(sharp, calibration.temperature(gold, sharp))
    assert calibration.expected_error(right, after.max(1)) < 0.05 < before
    assert calibration.expected_error(np.array([True, False]), np.array([0.9, 0.9])) == pytest.approx(0.4)
    threshold = calibration.abstain_below(right, p.max(1).astype(np.float32), 0.7)
    given = calibration.answered(right, p.max(1), threshold)
    assert given["error"] < 0.3 and 0 < given["coverage"] < 1
    assert calibration.abstain_below(~right, np.full(4000, 0.5, np.float32), 0.99) > 1
    none = {"below": 2.0, "coverage": 0.0, "error": None}
    report = label_metrics.classification(np.array([0, 1]), np.array([0, 1]), np.array([0.9, 0.8]), ("a", "b"))
    assert label_metrics.classification_table({**report, "abstain": none}).endswith("\nall answers abstain")


def long_rows(count: int) -> list[tuple[str, str]]:
    """The word that decides stands at the end of texts that are too long."""
    rng = np.random.default_rng(3)
    filler = lambda n: " ".join(rng.choice(["a", "the", "film", "plot"], n))  # noqa: E731
    return [(f"{filler(18 + i % 7)} {word}", word) for i, word in enumerate(["good", "bad"] * (count // 2))]


def test_long_texts_by_their_tail_with_calibration_and_abstaining(checkpoint, tmp_path, capsys):
    given = long_rows(80)
    train = write_tsv(tmp_path / "t.tsv", given)
    more = {"long_text": "tail", "epochs": 8, "pooling": "mean", "calibrate": "temperature", "abstain": 0.5}
    assert finetune.main(flags(checkpoint, tmp_path / "m", train, train, **more)) == 0
    metrics = json.loads((tmp_path / "m" / "metrics.json").read_text())["dev"]
    assert metrics["accuracy"] > 0.95 and {"temperature", "ece", "abstain"} <= set(metrics)
    assert re.search(r"answers of probability 0\.\d{4} or more: \d+\.\d% of the rows, error \d", capsys.readouterr().out)
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--input={train}", f"--output={tmp_path / 'p.jsonl'}"]) == 0
    answers = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert np.mean([a["label"] == word for a, (_, word) in zip(answers, given, strict=True)]) == metrics["accuracy"]
    assert np.mean([not answer["abstain"] for answer in answers]) == metrics["abstain"]["coverage"]
    nll = -np.mean([np.log(a["probabilities"][word]) for a, (_, word) in zip(answers, given, strict=True)])
    assert nll == pytest.approx(metrics["loss"], rel=1e-3)


@pytest.mark.parametrize(("pooling", "pair"), [("max", False), ("mean", True), ("attention", False)])
def test_windows_are_learnt_as_they_are_measured(checkpoint, tmp_path, pooling, pair, capsys):
    """Without dropout and at a learning rate of 0 the loss of training is that of dev: rows count alike, not windows."""
    given = [(*(["the film"] if pair else []), text * (1 + i % 3), word) for i, (text, word) in enumerate(long_rows(21))]
    train = write_tsv(tmp_path / "t.tsv", given, ("text", *(["text_b"] if pair else []), "label"))
    more = {"long_text": "windows", "window_pooling": pooling, "dropout": 0.0, "head_dropout": 0.0, "learning_rate": 0.0}
    more |= {"batch_size": 8, "text_columns": "text,text_b" if pair else "text", "class_weights": "balanced"}
    assert finetune.main(flags(checkpoint, tmp_path / "m", train, train, **more)) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("3/3")]
    values = dict(part.rsplit(": ", 1) for part in line.split(" - ") if ": " in part)
    if pooling != "attention":  # its weights are random there too
        assert float(values["loss"]) == pytest.approx(float(values["dev_loss"]), abs=0.02)
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--input={train}", f"--output={tmp_path / 'p.jsonl'}"]) == 0
    cut = [json.loads(line).get("cut") for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert not any(cut)


def test_windows_in_parts_of_a_batch_are_learnt_as_in_one(checkpoint, tmp_path, capsys):
    """Parts are cut between rows: weights after two epochs are those of whole batches, rows of one window or three alike."""
    given = [(text * (1 + i % 3), word, f"{1 + i % 2}") for i, (text, word) in enumerate(long_rows(21))]
    train = write_tsv(tmp_path / "t.tsv", given, ("text", "label", "w"))
    more = {"long_text": "windows", "window_pooling": "attention", "dropout": 0.0, "head_dropout": 0.0, "epochs": 2}
    more |= {"batch_size": 8, "class_weights": "balanced", "sample_weight_column": "w", "max_windows": 4}
    found = {}
    for parts in (1, 4):
        flags_of = flags(checkpoint, tmp_path / f"{parts}", train, train, **more, accumulation_steps=parts)
        assert finetune.main(flags_of) == 0
        found[parts] = ModelDir(tmp_path / f"{parts}").last().weights()
    for path, array in found[1].items():
        if not path.endswith(("key/bias", "window_attention/bias")):  # their gradients are rounding alone, which Adam enlarges
            np.testing.assert_allclose(found[4][path], array, atol=1e-5, err_msg=path)
    losses_of = re.findall(r" - loss: ([\d.]+) - dev", capsys.readouterr().out)
    assert len(losses_of) == 4 and losses_of[:2] == losses_of[2:]
    run = SimpleNamespace(train=SimpleNamespace(strategy="tpu"))
    with pytest.raises(UsageError, match="--strategy=tpu: windows of long texts"):
        FineTuning.set_start(run, None, Built(model=None, loss=None, by_row=True), None)


def test_warnings_and_errors_of_labels(caplog):
    audit = LabelAudit("f.tsv", None)
    for i in range(100):
        audit(("a", "rare" if i % 50 == 0 else "common"))
    (note,) = audit.check_learnable()
    assert "the rarest class, 'rare', has 2 of 100 rows (2.0%)" in note and "--class_weights=balanced" in note
    audit = LabelAudit("f.tsv", None)
    for label in ("1", "1.0", "2"):
        audit((f"text {label}", label))
    with pytest.raises(DataError, match="with and without decimals"):
        audit.check_learnable()
    one = MultilabelAudit("f.tsv", None, 1, ",", ())
    one(("a", "x"))
    with pytest.raises(DataError, match="all rows have the label 'x', the only one"):
        one.check_learnable()
    none = MultilabelAudit("f.tsv", None, 1, ",", ())
    none(("a", "?"))
    with pytest.raises(DataError, match="all labels are unknown"):
        none.finish()
    whole = MultilabelAudit("f.tsv", None, 1, ",", ("x", "y"))
    whole(("a", "1", "?"))
    whole(("b", "1", "0"))
    with pytest.raises(DataError, match="every label is the same in all rows"):
        whole.check_learnable()
    split = MultilabelAudit("f.tsv", None, 1, ",", ())
    for cell in ("x|y", "y", "x"):
        split(("a", cell))
    assert any("--label_separator=," in note for note in split.check_learnable())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "regression", "loss": "focal"}, "--loss=focal"),
        ({"objective": "regression", "class_weights": "balanced"}, "has no classes"),
        ({"label_separator": "|"}, "is for --objective=multilabel"),
        ({"objective": "multilabel", "abstain": 0.9}, "--abstain=0.9"),
        ({"focal_gamma": 1.0}, "is for --loss=focal"),
        ({"stride": 4}, "is for --long_text=windows"),
        ({"long_text": "windows", "stride": 32}, "--stride=32 has to be less"),
    ],
)
def test_flags_that_do_not_go_together(options, said):
    with pytest.raises(UsageError, match=said):
        ClassifyOptions(**options).check(32)


BAD = [  # training rows, dev rows, test rows ("" for none), flags, exit code, message
    ("good\t1|bad\t1.0|dull\t0", "", "", "", 1, "train.tsv: labels are numbers with and without decimals ('0', '1', '1.0')"),
    ("good\t1|bad\t0", "good\t1.0", "", "", 1, "dev.tsv:2: label '1.0' is not among the model's labels: '0', '1'"),
    ("good\ta|bad\tb", "", "", "--class_weights={path}/w.tsv", 1, "w.tsv: 'spam' is not among the labels: 'a', 'b'"),
    ("good\ta|bad\tb", "", "", "--objective=multilabel --class_weights={path}/w.tsv", 1, "'spam' is not among the labels"),
    ("good\ta|bad\tb", "", "", "--best_metric=exact_match", 2, "--best_metric=exact_match: --task=classify has loss, accuracy"),
    ("good\t1|bad\tNaN", "", "", "--objective=regression", 1, "train.tsv:3: expected a number for --objective=regression"),
    ("good\t1|bad\thigh", "", "", "--objective=regression", 1, "train.tsv:3: expected a number for --objective=regression"),
    ("good\t1|bad\t2", "good\tnan", "", "--objective=regression", 1, "dev.tsv:2: expected a number for --objective=regression"),
    ("good\ta|bad\tb", " ", "", "--objective=multilabel", 1, "dev.tsv: no rows"),
    ("good\ta|bad\tb", "good\t?|bad\tnull", "", "--objective=multilabel", 1, "dev.tsv: all labels are unknown (? or null)"),
    ("good\ta|bad\tb", "-good", "", "", 1, "dev.tsv: no column 'label'; its first row names: text"),
    ("good\ta|bad\tb", "", "-good", "--objective=multilabel", 1, "test.tsv: no column 'label'; its first row names: text"),
    ("good\t1|bad\t2", "", "-good", "--objective=regression", 1, "test.tsv: no column 'label'; its first row names: text"),
    ("good\ta|bad\t?", "", "", "--objective=multilabel", 1, "train.tsv: all rows have the label 'a', the only one"),
    ("good\ta|bad\ta", "", "", "", 1, "train.tsv: one label only ('a')"),
]


@pytest.mark.parametrize(("train", "dev", "test", "given", "code", "said"), BAD)
def test_bad_rows_and_flags_are_named_before_training(train, dev, test, given, code, said, checkpoint, tmp_path, capsys):
    for name, lines in (("train", train), ("dev", dev or train), ("test", test or train)):
        header = "text" if lines.startswith("-") else "text\tlabel"
        body = lines.lstrip("-").strip(" ").replace("|", "\n")
        (tmp_path / f"{name}.tsv").write_text(f"{header}\n{body}\n" if body else f"{header}\n")
    (tmp_path / "w.tsv").write_text("spam\t3\n")
    argv = flags(
        checkpoint, tmp_path / "m", tmp_path / "train.tsv", tmp_path / "dev.tsv", test_data=tmp_path / "test.tsv", epochs=0
    )
    assert finetune.main([*argv, *given.format(path=tmp_path).split()]) == code
    assert said in capsys.readouterr().err and not (tmp_path / "m" / "config.json").exists()
