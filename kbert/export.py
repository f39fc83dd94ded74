"""Export a trained model for TF Serving: `python -m kbert.export --model_dir=DIR --export_dir=savedmodels/NAME`.

With `--init` instead of `--model_dir`, the model is one that another toolkit fine-tuned (`kbert.adopt`).
"""

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbert import flags, runtime
from kbert.config import N_BEST_HELP
from kbert.errors import UsageError
from kbert.model_dir import ModelDir
from kbert.releases import Release
from kbert.settings import changed, flag
from kbert.tasks import OPTIONS, adoption
from kbert.tasks.adoption import AdoptionFlags
from kbert.trained import model_directory

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
        runtime.start()
        from kbert import serving
        from kbert.serving import certificate

        path = serving.export(
            serving.load(model_dir, options.n_best),
            options.export_dir,
            options.version,
            certify=options.certify,
            target_serving=options.target_serving,
            keep_versions=options.keep_versions,
        )
    if report := certificate.table(path):
        print(report)
    print(f"exported: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
