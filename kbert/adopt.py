"""Make a model of a fine-tuned checkpoint, without training: `python -m kbert.adopt --init=DIR --model_dir=DIR`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbert import flags, runtime
from kbert.callable_module import make_callable
from kbert.config import RunFlags
from kbert.model_dir import ModelDir
from kbert.settings import flag
from kbert.tasks import OPTIONS, adoption
from kbert.tasks.adoption import Adoption, AdoptionFlags

ABOUT = """
Write a model directory of a checkpoint that another toolkit fine-tuned (BertForSequenceClassification,
BertForTokenClassification, BertForQuestionAnswering, BertForMaskedLM, Google's run_classifier.py and run_squad.py),
with its labels, so that kbert.predict, evaluate, export and finetune --init work on it. A head that kbert cannot serve
exactly is refused with the reason.
"""


@dataclass(frozen=True, kw_only=True)
class AdoptFlags:
    init: str = flag(help="Fine-tuned checkpoint: a directory of Hugging Face, or a Google TF1 checkpoint.")


def groups(task: str | None) -> tuple[type, ...]:
    """Return the dataclasses that the flags fill: without a task, what its options are follows from the checkpoint."""
    return (RunFlags, AdoptFlags, *([] if task is None else [OPTIONS[task]]), AdoptionFlags)


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.adopt") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, groups, run, takes_task="optional")


def run(run_flags: RunFlags, options: AdoptFlags, *more: Any) -> int:
    """Write the model directory and say what it is; return the exit code."""
    print(f"{write(run_flags, options, *more)}\nmodel: {run_flags.model_dir}")
    return 0


def write(run_flags: RunFlags, options: AdoptFlags, *more: Any) -> Adoption:
    """Write the model directory.

    Args:
        more: the options of the task, if it is named, and `AdoptionFlags`.
    """
    directory = ModelDir(run_flags.model_dir)
    directory.check_writable(run_flags.overwrite)
    directory.check_not_in(options.init)
    *of_task, adoption_flags = more
    found = adoption.read(options.init, adoption_flags, *of_task)
    runtime.start()
    found.write(directory, run_flags.overwrite)
    return found


make_callable(__name__)  # `kbert.adopt(...)` is `kbert.api.adopt(...)`

if __name__ == "__main__":
    sys.exit(main())
