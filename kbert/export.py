"""Export a trained model for TF Serving: `python -m kbert.export --model_dir=DIR --export_dir=savedmodels/NAME`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kbert import flags, runtime
from kbert.config import N_BEST_HELP
from kbert.settings import flag
from kbert.trained import model_directory

ABOUT = """
Write a SavedModel that answers raw text, under EXPORT_DIR/VERSION, as TensorFlow Serving wants it.
"""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    model_dir: str = flag(help="Model directory of kbert finetune or pretrain.")
    export_dir: str = flag(help="Directory to export versions to, for example savedmodels/NAME.")
    n_best: int | None = flag(None, help=N_BEST_HELP, low=1, high=100)
    version: int | None = flag(None, help="Version number.", otherwise="the next free one", low=1, high=2**63 - 1)


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.export") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (ExportFlags,), run)


def run(options: ExportFlags) -> int:
    """Write the SavedModel; returns the exit code."""
    model_directory(options.model_dir).read_config()[0].with_n_best(options.n_best)

    runtime.start()
    from kbert import serving

    path = serving.export(serving.load(options.model_dir, options.n_best), options.export_dir, options.version)
    print(f"exported: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
