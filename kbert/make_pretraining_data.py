"""Make pre-training examples of plain text, as sharded TFRecords.

    kbert make_pretraining_data --input='text-*.txt' --vocab=vocab.txt --lowercase --output=shards
    kbert pretrain --train_data='shards/train-*.tfrecord' --dev_data='shards/dev-*.tfrecord' ...

The same examples as kbert.pretrain makes on the fly, in `--passes` differently masked passes, all shuffled together; the
layout is that of google-research/bert. Interrupted, the same command continues and keeps the finished shards. The result
depends on the seed, not on the number of processes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from kbert import flags, runtime
from kbert.pretraining.flags import DataFlags

ABOUT = """
Make pre-training examples of plain text as sharded TFRecords, in several processes and constant memory. Interrupted, the
same command continues.
"""


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.make_pretraining_data") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (DataFlags,), run)


def run(options: DataFlags) -> int:
    """Write the shards that are missing; return the exit code."""
    output = Path(options.output).expanduser()
    runtime.start()
    from kbert.pretraining import sharding

    written = sharding.write(options, output)
    if written is None:
        print(f"{output} is finished; use another --output, or remove it, to make it again")
    else:
        print(f"{output}: {sum(written.values()):,} examples in {len(written)} shards")
    return 0


if __name__ == "__main__":
    sys.exit(main())
