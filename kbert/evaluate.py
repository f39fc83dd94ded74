"""Measure a trained model: `python -m kbert.evaluate --model_dir=DIR --data=SOURCE`."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbert import flags, runtime
from kbert.files import check_output, write_text
from kbert.model_dir import ModelDir
from kbert.settings import flag
from kbert.source import SOURCE_HELP, Recorded, SourceOverrides
from kbert.trained import model_directory

if TYPE_CHECKING:
    from kbert.serving import Predictor
    from kbert.tasks.reports import Report

log = logging.getLogger("kbert.evaluate")  # __name__ is "__main__" when it runs

ABOUT = "Measure a trained model on labelled rows, with the very function that is served."


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    model_dir: str = flag(help="Model directory of kbert finetune.")
    data: str = flag(help=f"Labelled rows: {SOURCE_HELP}.")
    metrics_out: str | None = flag(None, help="Also write the metrics to this JSON file.")


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.evaluate") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (EvaluateFlags, SourceOverrides), run)


def run(options: EvaluateFlags, overrides: Any) -> int:
    """Measure and print; returns the exit code."""
    if options.metrics_out:
        check_output("--metrics_out", options.metrics_out, {"--data": options.data})

    def predictor() -> "Predictor[Any]":
        from kbert import serving

        return serving.load(options.model_dir)

    report, rows = measure(model_directory(options.model_dir), options.data, overrides, predictor)
    print(f"{options.data} ({rows:,} rows):\n{report.table()}")
    if options.metrics_out:
        text = json.dumps(report.metrics, indent=2, ensure_ascii=False) + "\n"
        write_text(Path(options.metrics_out), text)
    return 0


def measure(directory: ModelDir, data: str, overrides: Any, predictor: "Callable[[], Predictor[Any]]") -> tuple["Report", int]:
    """Measure a trained model on labelled rows.

    Args:
        directory: the model's.
        data: the rows' source.
        overrides: `SourceOverrides`: how the rows are read where that is not as in training.
        predictor: loads the model; called once the rows are read.

    Returns:
        The report, and the number of rows.
    """
    model, train = directory.read_config()

    from kbert.data.indexing import open_table
    from kbert.tasks import rows_of

    source, recorded = Recorded.of(train.source.read_by(model.fields), train.train_data, model.labels).overridden(overrides)
    flags.check_columns(source.text_columns, model.fields)
    read, known = source.label_columns, train.source.label_columns
    if read != known and len(read) == len(known) > 1:
        log.warning("--label_column: %s", ", ".join(f"{a} is read as {b}" for a, b in zip(read, known, strict=True)))
    task = rows_of(model.task)
    audit = task.audit(data, model.fields, model.labels, model.options)
    table = open_table(
        data,
        source,
        task.columns(source),
        keyed_by=len(model.fields),
        nested=task.nested(model.options),
        reader=task.reader(source),
        tokens=task.tokens(model.options),
        check=audit,
        recorded=recorded,
        usual=task.usual,
        several=task.several,
        separator=task.separator(model.options),
    )
    audit.finish()
    runtime.start()
    from kbert.tasks.lengths import CutRows
    from kbert.train.evaluation import evaluate

    loaded = predictor()
    cut = CutRows(loaded.task)
    report = evaluate(loaded, table, "evaluating", also=cut)
    cut.log(data)
    for warning in report.warnings():
        log.warning("%s: %s", data, warning)
    return report, len(table)


if __name__ == "__main__":
    sys.exit(main())
