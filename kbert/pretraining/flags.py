"""Flags of the commands that write pre-training shards: `kbert make_pretraining_data`, `kbert.pretraining.beam`."""

from dataclasses import dataclass
from typing import Literal

from kbert.config import ExampleFlags, flag


@dataclass(frozen=True, kw_only=True)
class ShardFlags(ExampleFlags):
    """The flags that the content of shards depends on."""

    input: str = flag(help="Plain text files (globs and .gz work).")
    output: str = flag(help="Where the shards go.")
    vocab: str = flag(help="The vocabulary, a token a line.")
    lowercase: bool = flag(False, help="Lowercase the text and strip its accents, for an uncased model.")
    objective: Literal["mlm+nsp", "mlm", "mlm+sop"] = flag("mlm+nsp", help="As in kbert.pretrain.")
    max_length: int = flag(128, help="Longest example, in tokens, with [CLS] and [SEP].", low=5)
    passes: int = flag(10, help="Differently masked passes over the text.", low=1)
    shards: int = flag(16, help="Shards to write.", low=1, high=99_999)
    seed: int = flag(0, help="Seed of all random choices.", low=0, high=2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class DataFlags(ShardFlags):
    """The flags of `kbert make_pretraining_data`."""

    output: str = flag(help="Directory of the shards; created if missing.")
    input: str = flag(help="Plain text files (.gz and globs work), or - for standard input.")
    dev_fraction: float = flag(0.0, help="Fraction of the documents for dev-*.tfrecord, of one pass.", low=0.0, high=0.9)
    processes: int | None = flag(None, help="Worker processes.", otherwise="one for each core", low=1)
