"""Answers of a trained model: `python -m kbert.predict --model_dir=DIR --text="one sentence"`."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbert import flags, runtime
from kbert.config import N_BEST_HELP, ModelConfig
from kbert.errors import UsageError
from kbert.files import check_output, output
from kbert.model_dir import ModelDir
from kbert.progress import Progress
from kbert.settings import flag
from kbert.source import SOURCE_HELP, Recorded, SourceConfig, SourceOverrides

if TYPE_CHECKING:
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
    output: str = flag("-", help="File of JSON lines to write, - for standard output.")
    n_best: int | None = flag(None, help=N_BEST_HELP, low=1, high=100)
    text: str | None = flag(None, help="Predict this one text instead of --input.")
    text_b: str | None = flag(None, help="Second text of a pair, with --text.")


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.predict") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (PredictFlags, SourceOverrides), run)


def run(options: PredictFlags, overrides: Any) -> int:
    """Answer and write; returns the exit code."""
    directory = ModelDir(options.model_dir)
    model, train = directory.read_config()
    model.with_n_best(options.n_best)
    given = [text for text in (options.text, options.text_b) if text is not None]
    if (options.text is not None) == (options.input is not None) or (given and options.text is None):
        raise UsageError("give one of --input and --text")
    if given and options.id_column:
        raise UsageError("--id_column: a column of --input, which --text takes the place of")
    if given and len(given) != len(model.fields):
        wanted = "--text and --text_b: it reads pairs" if len(model.fields) == 2 else "--text alone: it reads single texts"
        raise UsageError(f"the model needs {wanted}")
    columns_of(model, train, overrides)
    if options.output != "-":
        check_output("--output", options.output, {"--input": options.input})

    def predictor() -> "Predictor[Any]":
        from kbert import serving

        return serving.load(options.model_dir, options.n_best)

    runtime.start()
    with output(options.output) as file:
        if given:
            from kbert.tasks.lengths import CutRows

            raw = {name: [text.encode("utf-8", "surrogateescape")] for name, text in zip(model.fields, given, strict=True)}
            loaded = predictor()
            lines = _answered(loaded, raw, 1, CutRows(loaded.task))
        else:
            assert options.input is not None
            beside = options.output == "-" and sys.stdout.isatty()  # answers and a bar would be mixed up
            lines = answers(directory, options.input, overrides, predictor, id_column=options.id_column, quiet=beside)
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
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
    quiet: bool = False,
) -> Iterator[dict[str, Any]]:
    """Answer the rows of a source, in their order, each as JSON values by name.

    Args:
        directory: the model's.
        rows: the source.
        overrides: `SourceOverrides`: how the rows are read where that is not as in training.
        predictor: loads the model; called once the rows are read.
        id_column: whose value is among the answer's, as `id`.
        quiet: show no progress.
    """
    model, train = directory.read_config()
    source, recorded = columns_of(model, train, overrides)

    runtime.start()
    from kbert.data.table import open_table
    from kbert.tasks import OPTIONS, fine_tuned
    from kbert.tasks.lengths import CutRows
    from kbert.train.batches import raw_rows

    ids = (id_column,) if id_column else ()
    columns = (*source.text_columns, *ids)
    tokens = None if model.task not in OPTIONS else fine_tuned(model.task).tokens(model.options)
    table = open_table(rows, source, columns, keyed_by=len(model.fields), tokens=tokens, recorded=recorded)
    loaded = predictor()
    row, cut = 1, CutRows(loaded.task)
    with Progress(len(table), desc="predicting", unit="row", leave=False, quiet=quiet) as bar:
        for raw in raw_rows(loaded.task, table, gold=False, others=("id",) if ids else ()):
            for line in _answered(loaded, raw, row, cut):
                line["row"] = table.number(row - 1)
                yield line
                row += 1
            bar.update(row - 1 - bar.done)
    if cut.cut:
        log.info("%s: %s", rows, cut)


def _answered(predictor: "Predictor[Task]", raw: Any, row: int, cut: "CutRows") -> Iterator[dict[str, Any]]:
    """The answers to some rows, of which the first has this number."""
    import tensorflow as tf

    tensors = {name: tf.constant(values) for name, values in raw.items()}
    decoded = {name: value.numpy() for name, value in predictor(tensors).items()}
    texts = {name: tensors[name].numpy() for name in ("id", *predictor.task.config.fields) if name in tensors}
    not_whole = cut(texts)
    for i in range(len(next(iter(texts.values())))):
        shown = {name: column[i].decode("utf-8", "ignore") for name, column in texts.items()}
        yield {"row": row + i, **shown, **predictor.task.present(decoded, i), **({"cut": True} if not_whole[i] else {})}


if __name__ == "__main__":
    sys.exit(main())
