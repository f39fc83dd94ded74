"""Export a trained model for TF Serving: `python -m kbert.export --model_dir=DIR --export_dir=savedmodels/NAME`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kbert import flags, runtime
from kbert.config import flag
from kbert.model_dir import ModelDir

ABOUT = """
Write a SavedModel that answers raw text, under EXPORT_DIR/VERSION, as TensorFlow Serving wants it.
"""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    model_dir: str = flag(help="Directory of a model that kbert.finetune has trained.")
    export_dir: str = flag(help="Directory of the exported versions, for example savedmodels/NAME.")
    version: int | None = flag(None, help="Version number; by default the next free one.", low=1, high=2**63 - 1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return flags.main("python -m kbert.export", ABOUT, argv, lambda _: (ExportFlags,), run)


def run(options: ExportFlags) -> int:
    """Write the SavedModel; returns the exit code."""
    ModelDir(options.model_dir).read_config()

    runtime.start()
    from kbert import serving

    path = serving.export(serving.load(options.model_dir), options.export_dir, options.version)
    print(f"exported: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
