"""Pre-train BERT on plain text: `python -m kbert.pretrain --train_data=TEXT --vocab=vocab.txt --size=mini --model_dir=DIR`."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kbert import flags
from kbert.config import ModelFlags, RunFlags
from kbert.pretrain_config import PretrainConfig
from kbert.pretraining.start import StartFlags, check_start
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.train import session

if TYPE_CHECKING:
    from kbert.pretraining.job import Pretraining

ABOUT = """
Pre-train BERT on plain text, from scratch (--vocab with --size or the sizes themselves) or from a checkpoint (--init).
Masks are drawn anew each epoch. The model directory is a checkpoint that --init of the other commands reads, and
kbert.predict fills [MASK] with it. Interrupted, the same command continues from the last checkpoint.
"""


GROUPS = (RunFlags, StartFlags, PretrainConfig, ModelFlags, PretrainOptions)


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.pretrain") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: GROUPS, run)


def run(
    run_flags: RunFlags, start: StartFlags, train: PretrainConfig, model_flags: ModelFlags, options: PretrainOptions
) -> int:
    """Train, continue, or print that there is nothing to do; returns the exit code."""
    check_start(start, train.init)

    def read(train: PretrainConfig) -> Callable[[], "Pretraining"]:
        from kbert.pretraining.job import Pretraining

        return lambda: Pretraining(start, train, model_flags, options)

    session.run(run_flags, train, read)
    return 0


if __name__ == "__main__":
    sys.exit(main())
