"""Measure baselines for a classifier: the most frequent label, and logistic regression on tf-idf, on the same rows.

    python tools/baselines.py --train_data=train.tsv --test_data=test.tsv [--models=models/one,models/two]
    python tools/baselines.py --objective=multilabel --label_column=a,b --train_data=train.tsv --test_data=test.tsv

Prints accuracy and macro F1 of both on the test rows, and those of trained model directories with the same --test_data.
All macro F1s are means over the labels that occur in gold or predictions, as in scikit-learn. The tf-idf
features are sequences of 1 to 3 characters, which suit Chinese and English alike.

Of several labels a row (`--objective=multilabel`): micro and macro F1 and subset accuracy, of the labels that most training
rows have, of all labels for every row, and of one logistic regression a label, with the thresholds that are best for F1 on
training rows by five-fold cross-validation.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # kbert itself, where it is not installed

from kbert import flags, runtime
from kbert.errors import DataError
from kbert.model_dir import ModelDir
from kbert.settings import flag
from kbert.source import SOURCE_HELP, Recorded, SourceConfig

ABOUT = """
Baselines for a classifier: the most frequent label of the training rows, and logistic regression on tf-idf of character
sequences. Results of model directories are shown beside them.
"""


@dataclass(frozen=True, kw_only=True)
class BaselineFlags:
    train_data: str = flag(help=f"Training data: {SOURCE_HELP}.")
    test_data: str = flag(help="Data to evaluate on, a SOURCE.")
    models: tuple[str, ...] = flag((), help="Model directories that were tested on the same data.")
    objective: Literal["multiclass", "multilabel"] = flag("multiclass", help="One label a row, or any number of them.")
    label_separator: str = flag(",", help="multilabel: separator of the labels within a cell.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return flags.main("python tools/baselines.py", ABOUT, argv, lambda _: (BaselineFlags, SourceConfig), run)


def run(options: BaselineFlags, source: SourceConfig) -> int:
    """Train, evaluate and print; return the exit code."""
    several = options.objective == "multilabel"
    tested = {name: _tested(name, options.test_data, several) for name in options.models}
    runtime.start()
    titles, count, found = (_several if several else _single)(options, source)
    print(f"{options.test_data} ({count:,} rows):")
    width = max(len(name) for name in (*found, *tested))
    print(f"{'':<{width}}" + "".join(f"  {title:>8}" for title in titles))
    for name, values in {**found, **tested}.items():
        print(
            f"{name:<{width}}" + "".join(f"{value:>{max(10, len(t) + 2)}.4f}" for t, value in zip(titles, values, strict=True))
        )
    return 0


Found = tuple[Sequence[str], int, Mapping[str, Sequence[float]]]  # titles of figures, test rows, figures by name


def _single(options: BaselineFlags, source: SourceConfig) -> Found:
    """Measure baselines of one label a row."""
    from sklearn.metrics import accuracy_score, f1_score

    texts, (labels,) = _rows(options.train_data, source)
    # The other rows are read like the training rows, unless their file shows otherwise.
    unseen, (gold,) = _rows(options.test_data, *Recorded.of(source, options.train_data, tuple(np.unique(labels))).overridden())
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise DataError(f"{options.train_data}: one label only ({names[0]}); there is nothing to distinguish")
    predicted = {
        "most frequent label": np.full(len(gold), names[np.argmax(counts)]),
        "tf-idf, logistic regression": _fitted(options.train_data, texts, labels).predict(unseen),
    }
    figures = {
        name: (float(accuracy_score(gold, each)), float(f1_score(gold, each, average="macro", zero_division=0)))
        for name, each in predicted.items()
    }
    return ("accuracy", "macro f1"), len(gold), figures


def _several(options: BaselineFlags, source: SourceConfig) -> Found:
    """Measure baselines of several labels a row; unknown ones are neither learnt nor measured."""
    from sklearn.model_selection import cross_val_predict

    from kbert.tasks.classify.multilabel_gold import MultilabelAudit, numbers
    from kbert.tasks.classify.multilabel_metrics import best_thresholds, multilabel
    from kbert.tasks.classify.options import ClassifyOptions

    columns = source.label_columns if len(source.label_columns) > 1 else ()
    given = ClassifyOptions(objective="multilabel", label_separator=options.label_separator, label_columns=columns)

    def read(name: str, labels: tuple[str, ...] | None, *how: Any) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
        texts, cells = _rows(name, *how)
        audit = MultilabelAudit(name, labels, 1, options.label_separator, columns)
        for row in zip(texts, *cells, strict=True):
            try:
                audit(row)
            except ValueError as error:
                raise DataError(f"{name}: {error}") from None
        audit.finish()
        if labels is None:
            audit.check_learnable()
        known = {label: number for number, label in enumerate(audit.labels)}
        return (
            texts,
            numbers([np.array([cell.encode() for cell in column], object) for column in cells], known, given),
            audit.labels,
        )

    texts, gold, labels = read(options.train_data, None, source)
    recorded = Recorded.of(source, options.train_data, labels).overridden()
    unseen, expected, _ = read(options.test_data, labels, *recorded)
    shares = (gold == 1).sum(0) / np.maximum(1, (gold >= 0).sum(0))
    own, test = np.zeros(gold.shape, np.float32), np.zeros(expected.shape, np.float32)  # probabilities
    for label, share in enumerate(shares):
        rows = np.flatnonzero(gold[:, label] >= 0)
        if 0 < share < 1:
            some, targets = [texts[row] for row in rows], gold[rows, label]
            test[:, label] = _fitted(options.train_data, some, targets).predict_proba(unseen)[:, 1]
            folds = min(5, np.bincount(targets).min())
            if folds > 1:
                own[rows, label] = cross_val_predict(_learner(), some, targets, cv=folds, method="predict_proba")[:, 1]
    thresholds = best_thresholds(gold, own, shared=False)
    probabilities = {
        "labels of most rows": (np.tile(shares.astype(np.float32), (len(unseen), 1)), np.full(len(labels), 0.5, np.float32)),
        "all labels": (np.ones_like(test), np.zeros(len(labels), np.float32)),
        "tf-idf, logistic regression": (test, thresholds),
    }
    figures = {name: _figures(multilabel(expected, *each, labels), True) for name, each in probabilities.items()}
    return ("micro f1", "macro f1", "subset accuracy"), len(unseen), figures


def _learner() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=10, max_iter=1000))


def _fitted(name: str, texts: list[str], targets: np.ndarray) -> Any:
    try:
        return _learner().fit(texts, targets)
    except ValueError as error:
        raise DataError(f"{name}: nothing to learn from: {error}") from None


def _rows(name: str, source: SourceConfig, recorded: Recorded | None = None) -> tuple[list[str], list[np.ndarray]]:
    """Read texts (pairs are concatenated) and the label columns of a SOURCE."""
    from kbert.data.indexing import open_table

    columns, fields = (*source.text_columns, *source.label_columns), len(source.text_columns)
    table = open_table(name, source, columns, keyed_by=fields, recorded=recorded)
    read = [[value.decode() for value in column] for column in table.read(range(len(table))).values()]
    return ["\n".join(parts) for parts in zip(*read[:fields], strict=True)], [np.array(column) for column in read[fields:]]


def _tested(name: str, test_data: str, several: bool) -> tuple[float, ...]:
    """Return the figures of a model directory on its test data, which must be `test_data`."""
    metrics: dict[str, Any] = ModelDir(name).metrics()
    needed = "subset_accuracy" if several else "accuracy"
    if metrics.get("test_data") != test_data or needed not in metrics.get("test", {}):
        kind = "a classifier of several labels" if several else "a classifier"
        raise DataError(f"--models={name}: it was not tested on {test_data} as {kind}; see kbert.finetune --test_data")
    return _figures(metrics["test"], several)


def _figures(test: dict[str, Any], several: bool) -> tuple[float, ...]:
    if several:
        return tuple(value or 0.0 for value in (test["micro"]["f1"], test["macro"]["f1"], test["subset_accuracy"]))
    macro_f1 = test["macro"]["f1"]
    if "confusion_matrix" in test:  # older versions counted labels in neither gold nor predictions as failures
        matrix = np.array(test["confusion_matrix"])
        occurs = matrix.sum(0) + matrix.sum(1) > 0
        macro_f1 = np.mean([row["f1"] for row, there in zip(test["per_class"].values(), occurs, strict=True) if there])
    return test["accuracy"], float(macro_f1)


if __name__ == "__main__":
    sys.exit(main())
