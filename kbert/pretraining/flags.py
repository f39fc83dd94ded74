"""Flags of the commands that write pre-training shards: `kbert make_pretraining_data`, `kbert.pretraining.beam`."""

from dataclasses import dataclass
from typing import Literal

from kbert.pretrain_config import ExampleFlags
from kbert.settings import flag


@dataclass(frozen=True, kw_only=True)
class ShardFlags(ExampleFlags):
    """The flags that the content of shards depends on."""

    input: str = flag(help="Plain text files (globs and .gz work).")
    output: str = flag(help="Path prefix of the shards.")
    vocab: str = flag(help="Vocabulary file, one token per line.")
    lowercase: bool = flag(False, help="Lowercase the text and strip its accents, for an uncased model.")
    objective: Literal["mlm+nsp", "mlm", "mlm+sop"] = flag(
        "mlm+nsp", help="Objective the examples are made for, as in kbert pretrain."
    )
    max_length: int = flag(128, help="Maximum length of an example in tokens, including [CLS] and [SEP].", low=5)
    passes: int = flag(10, help="Passes over the text, each with its own masks.", low=1)
    shards: int = flag(16, help="Number of shards to write.", low=1, high=99_999)
    seed: int = flag(0, help="Seed of all random choices.", low=0, high=2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class DataFlags(ShardFlags):
    """The flags of `kbert make_pretraining_data`."""

    output: str = flag(help="Directory of the shards; created if missing.")
    input: str = flag(help="Plain text files (.gz and globs work), or - for standard input.")
    dev_fraction: float = flag(0.0, help="Fraction of the documents for dev-*.tfrecord, of one pass.", low=0.0, high=0.9)
    processes: int | None = flag(None, help="Number of worker processes.", otherwise="one per core", low=1)
