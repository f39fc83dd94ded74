"""Fine-tune a BERT checkpoint on a task: `python -m kbert.finetune --flagfile=configs/NAME.flags`."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kbert import flags
from kbert.config import ModelFlags, RunFlags, TrainConfig
from kbert.tasks import DEFAULT, OPTIONS
from kbert.train import session

if TYPE_CHECKING:
    from kbert.train.fine_tuning import FineTuning

ABOUT = """
Fine-tune a BERT checkpoint, keep what is best on dev, and write a model directory that kbert.evaluate,
kbert.predict and kbert.export read. Interrupted, the same command continues from the last checkpoint;
finished, it continues when --epochs was raised.
"""


def groups(task: str | None) -> tuple[type, ...]:
    """Return the dataclasses that the flags of a task fill."""
    return (RunFlags, TrainConfig, ModelFlags, OPTIONS[task or DEFAULT])


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.finetune") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, groups, run, takes_task=True)


def run(run_flags: RunFlags, train: TrainConfig, model_flags: ModelFlags, options: Any) -> int:
    """Train, continue, or print that there is nothing to do; returns the exit code."""
    if not train.dev_data and not train.dev_fraction:
        train = dataclasses.replace(train, dev_fraction=0.1)
    options = options.completed(model_flags.max_length)
    options.check(model_flags.max_length)
    from kbert.data.sources import are_small
    from kbert.train.inputs import read_inputs

    def read(train: TrainConfig) -> Callable[[], "FineTuning"]:
        read = read_inputs(train, model_flags, options)

        def job() -> "FineTuning":
            from kbert.train.fine_tuning import FineTuning

            return FineTuning(read)

        return job

    session.run(run_flags, train, read, early=are_small(train.train_data, train.dev_data, train.test_data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
