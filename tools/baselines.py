"""Measure baselines for a classifier: the most frequent label, and logistic regression on tf-idf, on the same rows.

    python tools/baselines.py --train_data=train.tsv --test_data=test.tsv [--models=models/one,models/two]

Prints accuracy and macro F1 of both on the test rows, and those of trained model directories with the same --test_data.
All macro F1s are means over the labels that occur in gold or predictions, as in scikit-learn. The tf-idf
features are sequences of 1 to 3 characters, which suit Chinese and English alike.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return flags.main("python tools/baselines.py", ABOUT, argv, lambda _: (BaselineFlags, SourceConfig), run)


def run(options: BaselineFlags, source: SourceConfig) -> int:
    """Train, evaluate and print; return the exit code."""
    figures = [(name, _tested(name, options.test_data)) for name in options.models]
    runtime.start()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline

    texts, labels = _rows(options.train_data, source)
    # The other rows are read like the training rows, unless their file shows otherwise.
    unseen, gold = _rows(options.test_data, *Recorded.of(source, options.train_data, tuple(np.unique(labels))).overridden())
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise DataError(f"{options.train_data}: one label only ({names[0]}); there is nothing to distinguish")
    words = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    learner = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
    try:
        learner.fit(texts, labels)
    except ValueError as error:
        raise DataError(f"{options.train_data}: nothing to learn from: {error}") from None
    found = {
        "most frequent label": np.full(len(gold), names[np.argmax(counts)]),
        "tf-idf, logistic regression": learner.predict(unseen),
    }
    measured = [(n, (accuracy_score(gold, f), f1_score(gold, f, average="macro", zero_division=0))) for n, f in found.items()]
    print(f"{options.test_data} ({len(gold):,} rows):")
    width = max(len(name) for name, _ in [*measured, *figures])
    print(f"{'':<{width}}  accuracy  macro f1")
    for name, (accuracy, f1) in [*measured, *figures]:
        print(f"{name:<{width}}{accuracy:>10.4f}{f1:>10.4f}")
    return 0


def _rows(name: str, source: SourceConfig, recorded: Recorded | None = None) -> tuple[list[str], np.ndarray]:
    """Read texts (pairs are concatenated) and labels of a SOURCE."""
    from kbert.data.table import open_table

    columns = (*source.text_columns, source.label_column)
    table = open_table(name, source, columns, keyed_by=len(source.text_columns), recorded=recorded)
    *texts, labels = ([value.decode() for value in column] for column in table.read(range(len(table))).values())
    return ["\n".join(parts) for parts in zip(*texts, strict=True)], np.array(labels)


def _tested(name: str, test_data: str) -> tuple[float, float]:
    """Return accuracy and macro F1 of a model directory on its test data, which must be `test_data`."""
    metrics: dict[str, Any] = ModelDir(name).metrics()
    if metrics.get("test_data") != test_data or "accuracy" not in metrics.get("test", {}):
        raise DataError(f"--models={name}: it was not tested on {test_data} as a classifier; see kbert.finetune --test_data")
    test = metrics["test"]
    macro_f1 = test["macro"]["f1"]
    if "confusion_matrix" in test:  # older versions counted labels in neither gold nor predictions as failures
        matrix = np.array(test["confusion_matrix"])
        occurs = matrix.sum(0) + matrix.sum(1) > 0
        macro_f1 = np.mean([row["f1"] for row, there in zip(test["per_class"].values(), occurs, strict=True) if there])
    return test["accuracy"], float(macro_f1)


if __name__ == "__main__":
    sys.exit(main())
