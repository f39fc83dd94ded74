"""Answers of a trained model: `python -m kbert.predict --model_dir=DIR --text="one sentence"`."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbert import flags, runtime
from kbert.config import N_BEST_HELP, ModelConfig
from kbert.errors import UsageError
from kbert.files import check_output
from kbert.model_dir import ModelDir
from kbert.progress import Progress
from kbert.row_output import is_table, row_output
from kbert.settings import flag
from kbert.source import SOURCE_HELP, Recorded, SourceConfig, SourceOverrides
from kbert.trained import model_directory

if TYPE_CHECKING:
    from kbert.data.table import Table
    from kbert.serving import Predictor
    from kbert.tasks.base import Task
    from kbert.tasks.lengths import CutRows

log = logging.getLogger("kbert.predict")  # __name__ is "__main__" when it runs

ABOUT = """
Write a JSON line for each row of the input: its number (from 1), its id if it has one, its text, the model's answer, and
"cut": true where the row is longer than what the model reads of it.
"""


@dataclass(frozen=True, kw_only=True)
class PredictFlags:
    model_dir: str = flag(help="Model directory of kbert finetune or pretrain.")
    input: str | None = flag(
        None, help=f"Rows to predict: {SOURCE_HELP}, or - for standard input (one text a line, or --format)."
    )
    id_column: str | None = flag(
        None, help="Column of --input to copy to each output line as `id`; SQuAD's layout has one of that name."
    )
    output: str = flag(
        "-", help="File to write, by its ending .csv, .tsv or .parquet, else JSON lines; - for JSON lines on standard output."
    )
    carry: tuple[str, ...] = flag(
        (),
        help="Columns of --input to copy to the output, comma-separated, or all; texts then have the input's column names, and "
        "what the model says under a name that a copied column has is written as predicted_NAME.",
    )
    n_best: int | None = flag(None, help=N_BEST_HELP, low=1, high=100)
    text: str | None = flag(None, help="Predict this one text instead of --input.")
    text_b: str | None = flag(None, help="Second text of a pair, with --text.")


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.predict") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (PredictFlags, SourceOverrides), run)


def run(options: PredictFlags, overrides: Any) -> int:
    """Answer and write; returns the exit code."""
    directory = model_directory(options.model_dir)
    model, train = directory.read_config()
    model.with_n_best(options.n_best)
    given = [text for text in (options.text, options.text_b) if text is not None]
    if (options.text is not None) == (options.input is not None) or (given and options.text is None):
        raise UsageError("give one of --input and --text")
    if given and options.id_column:
        raise UsageError("--id_column: a column of --input, which --text takes the place of")
    if given and options.carry:
        raise UsageError("--carry: columns of --input, which --text takes the place of")
    if given and len(given) != len(model.fields):
        wanted = "--text and --text_b: it reads pairs" if len(model.fields) == 2 else "--text alone: it reads single texts"
        raise UsageError(f"the model needs {wanted}")
    columns_of(model, train, overrides)
    table = is_table(options.output)
    if options.output != "-":
        check_output("--output", options.output, {"--input": options.input})

    def predictor() -> "Predictor[Any]":
        from kbert import serving

        return serving.load(options.model_dir, options.n_best)

    with row_output(options.output) as write:
        if given:
            runtime.start()
            from kbert.tasks.lengths import CutRows

            raw = {name: [text.encode("utf-8", "surrogateescape")] for name, text in zip(model.fields, given, strict=True)}
            loaded = predictor()
            cut = CutRows(loaded.task)
            lines = _answered(loaded, raw, 1, cut)
        else:
            assert options.input is not None
            beside = options.output == "-" and sys.stdout.isatty()  # answers and a bar would be mixed up
            how: Any = {"id_column": options.id_column, "carry": options.carry, "own_names": table, "quiet": beside}
            lines = answers(directory, options.input, overrides, predictor, **how)
        for line in lines:
            write(line)
        if given:
            cut.log("--text")
    return 0


def columns_of(model: ModelConfig, train: Any, overrides: Any) -> tuple[SourceConfig, Recorded]:
    """How rows to answer are read: as training's, but for what `SourceOverrides` say.

    Raises:
        UsageError: they name more or fewer text columns than the model reads.
    """
    source, recorded = Recorded.of(train.source.read_by(model.fields), train.train_data, model.labels).overridden(overrides)
    flags.check_columns(source.text_columns, model.fields)
    return source, recorded


def answers(
    directory: ModelDir,
    rows: str,
    overrides: Any,
    predictor: "Callable[[], Predictor[Any]]",
    *,
    id_column: str | None = None,
    carry: Sequence[str] = (),
    own_names: bool = False,
    quiet: bool = False,
) -> Iterator[dict[str, Any]]:
    """Answer the rows of a source, in their order, each as JSON values by name.

    Args:
        directory: the model's.
        rows: the source.
        overrides: `SourceOverrides`: how the rows are read where that is not as in training.
        predictor: loads the model; called once the rows are read.
        id_column: whose value is among the answer's, as `id`.
        carry: names of columns whose values are among the answer's, or "all"; texts then have the names of their columns.
        own_names: give texts the names of their columns in any case.
        quiet: show no progress.
    """
    model, train = directory.read_config()
    source, recorded = columns_of(model, train, overrides)

    from kbert.data.indexing import open_table
    from kbert.tasks import OPTIONS, rows_of

    ids = (id_column,) if id_column else ()
    columns = (*source.text_columns, *ids)
    tokens = None if model.task not in OPTIONS else rows_of(model.task).tokens(model.options)
    table = open_table(rows, source, columns, keyed_by=len(model.fields), tokens=tokens, recorded=recorded)
    carried = Carried(table, carry, dict(zip(model.fields, source.text_columns, strict=True)), own_names)
    runtime.start()
    from kbert.tasks.lengths import CutRows
    from kbert.train.batches import raw_rows

    loaded = predictor()
    row, cut = 1, CutRows(loaded.task)
    with Progress(len(table), desc="predicting", unit="row", leave=False, quiet=quiet) as bar:
        for raw in raw_rows(loaded.task, table, gold=False, others=("id",) if ids else ()):
            for line in carried.joined(list(_answered(loaded, raw, row, cut)), row - 1):
                yield {**line, "row": table.number(row - 1)}
                row += 1
            bar.update(row - 1 - bar.done)
    cut.log(rows)


class Carried:
    """The columns of the input that answers are written with.

    Args:
        table: the rows.
        names: the columns asked for, or "all".
        texts: the model's raw inputs -> the columns they are read from.
        own_names: whether texts have the names of their columns even if no columns are asked for.

    Raises:
        UsageError: the input has no such column.
    """

    def __init__(self, table: "Table", names: Sequence[str], texts: Mapping[str, str], own_names: bool):
        self.table, self.texts, self.names = table, texts, set(names) | {*texts.values()}
        self.every, self.needed = "all" in names, bool(names) or own_names
        known = table.whole([0])[0] if names else {}
        for name in names if not self.every else ():
            if name not in known:
                raise UsageError(f"--carry={name}: no such column; the input has {', '.join(known) or 'no names of columns'}")

    def joined(self, lines: Sequence[dict[str, Any]], first: int) -> Iterator[dict[str, Any]]:
        """Yield answers with the columns of their rows, of which the first has this number in the table."""
        if not self.needed:
            yield from lines
            return
        for line, row in zip(lines, self.table.whole(range(first, first + len(lines))), strict=True):
            own = {name: value for name, value in row.items() if self.every or name in self.names}
            given = {"row", *(["id"] if "id" in own else ()), *(key for key, column in self.texts.items() if column in own)}
            said = {key: value for key, value in line.items() if key not in given}
            yield {"row": line["row"], **own, **{f"predicted_{key}" if key in own else key: said[key] for key in said}}


def _answered(predictor: "Predictor[Task]", raw: Any, row: int, cut: "CutRows") -> Iterator[dict[str, Any]]:
    """The answers to some rows, of which the first has this number."""
    import tensorflow as tf

    tensors = {name: tf.constant(values) for name, values in raw.items()}
    decoded = {name: value.numpy() for name, value in predictor(tensors).items()}
    texts = {name: tensors[name].numpy() for name in ("id", *predictor.task.config.fields) if name in tensors}
    not_whole = cut(texts, decoded)
    for i in range(len(next(iter(texts.values())))):
        shown = {name: column[i].decode("utf-8", "ignore") for name, column in texts.items()}
        yield {"row": row + i, **shown, **predictor.task.present(decoded, i), **({"cut": True} if not_whole[i] else {})}


if __name__ == "__main__":
    sys.exit(main())
