"""Export a trained model for TF Serving: `python -m kbert.export --model_dir=DIR --export_dir=savedmodels/NAME`.

With `--init` instead of `--model_dir`, the model is one that another toolkit fine-tuned (`kbert.adopt`).
"""

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbert import flags, runtime
from kbert.config import N_BEST_HELP
from kbert.errors import UsageError
from kbert.model_dir import ModelDir
from kbert.predict import columns_of
from kbert.releases import Release
from kbert.settings import changed, flag
from kbert.source import SourceOverrides
from kbert.tasks import OPTIONS, adoption, rows_of
from kbert.tasks.adoption import AdoptionFlags
from kbert.trained import model_directory

if TYPE_CHECKING:
    import numpy as np

    from kbert.data.table import Table
    from kbert.serving import Predictor

WARMUP_ROWS = 32  # of --warmup_data that are kept
ABOUT = """
Write a SavedModel that answers raw text, under EXPORT_DIR/VERSION, as TensorFlow Serving wants it: of a model that
kbert trained (--model_dir), or of a checkpoint that another toolkit fine-tuned (--init).
"""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    model_dir: str | None = flag(None, help="Model directory of kbert finetune, pretrain or adopt.")
    init: str | None = flag(
        None, help="Instead of --model_dir: a fine-tuned checkpoint of Hugging Face or Google TF1, as kbert adopt reads it."
    )
    export_dir: str = flag(help="Directory to export versions to, for example savedmodels/NAME.")
    n_best: int | None = flag(None, help=N_BEST_HELP, low=1, high=100)
    version: int | None = flag(None, help="Version number.", otherwise="the next free one", low=1, high=2**63 - 1)
    keep_versions: int | None = flag(None, help="Keep only this many versions.", otherwise="all", low=1)
    certify: bool = flag(True, help="Publish only if a fresh process without kbert answers golden rows the same.")
    target_serving: Release | None = flag(
        None, help="Oldest release of TensorFlow Serving that has to have the model's operations.", otherwise="any"
    )
    warmup_data: str | None = flag(
        None,
        help="Rows, in training's columns, to warm servers up with; some of their texts are written beside the model.",
        otherwise="made-up rows of several lengths",
    )


def groups(task: str | None) -> tuple[type, ...]:
    """Return the dataclasses that the flags fill; those of a task and `AdoptionFlags` go with --init."""
    return (ExportFlags, *([] if task is None else [OPTIONS[task]]), AdoptionFlags)


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.export") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, groups, run, takes_task="optional")


def run(options: ExportFlags, *more: Any) -> int:
    """Write the SavedModel; returns the exit code.

    Args:
        more: the options of the task, if it is named, and `AdoptionFlags`.
    """
    *of_task, adoption_flags = more
    if (options.model_dir is None) == (options.init is None):
        raise UsageError("give one of --model_dir, a model of kbert, and --init, a checkpoint that another toolkit fine-tuned")
    if not options.certify:
        for name in ("target_serving", "warmup_data"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} needs the certificate, which --certify=false leaves out")
    with contextlib.ExitStack() as kept:
        if options.init is not None:
            found = adoption.read(options.init, adoption_flags, *of_task)
            found.config.with_n_best(options.n_best)
            model_dir = kept.enter_context(tempfile.TemporaryDirectory(prefix="kbert-"))
            runtime.start()
            found.write(ModelDir(model_dir))
            print(found)
        else:
            assert options.model_dir is not None
            if given := sorted(changed(adoption_flags)) or (["task"] if of_task else []):
                raise UsageError(f"--{given[0]} goes with --init; the model in --model_dir={options.model_dir} has its own")
            model_dir = options.model_dir
            model_directory(model_dir).read_config()[0].with_n_best(options.n_best)
        table = None if options.warmup_data is None else table_like_training(ModelDir(model_dir), options.warmup_data)
        runtime.start()
        from kbert import serving
        from kbert.serving import certificate

        predictor = serving.load(model_dir, options.n_best)
        path = serving.export(
            predictor,
            options.export_dir,
            options.version,
            certify=options.certify,
            target_serving=options.target_serving,
            keep_versions=options.keep_versions,
            warmup_rows=None if table is None else warmup_rows(predictor, table),
        )
    if report := certificate.table(path):
        print(report)
    print(f"exported: {path}")
    return 0


def table_like_training(directory: ModelDir, rows: str) -> "Table":
    """Open a source whose rows are read as in training, without their labels."""
    model, train = directory.read_config()
    source, recorded = columns_of(model, train, SourceOverrides())
    from kbert.data.indexing import open_table

    tokens = None if model.task not in OPTIONS else rows_of(model.task).tokens(model.options)
    return open_table(rows, source, source.text_columns, keyed_by=len(model.fields), tokens=tokens, recorded=recorded)


def warmup_rows(predictor: "Predictor[Any]", table: "Table") -> "dict[str, np.ndarray]":
    """Return rows of every length among the table's first ones: the fields of `serving_default`, bytes [rows] each."""
    import numpy as np

    from kbert.train.batches import raw_rows

    first = next(iter(raw_rows(predictor.task, table, gold=False)))
    fields = {name: first[name].numpy() for name in predictor.task.signatures()["serving_default"].fields}
    by_length = np.argsort([sum(map(len, row)) for row in zip(*fields.values(), strict=True)], kind="stable")
    chosen = by_length[np.unique(np.linspace(0, len(by_length) - 1, WARMUP_ROWS).astype(int))]
    return {name: np.asarray(values, object)[chosen] for name, values in fields.items()}


if __name__ == "__main__":
    sys.exit(main())
