"""Make pre-training examples of plain text, as sharded TFRecords.

    python tools/make_pretraining_data.py --input='text-*.txt' --vocab=vocab.txt --lowercase --output=shards
    python -m kbert.pretrain --train_data='shards/train-*.tfrecord' --dev_data='shards/dev-*.tfrecord' ...

The same examples as kbert.pretrain makes on the fly, in `--passes` differently masked passes, all shuffled together; the
layout is that of google-research/bert. What was finished stays when the command is interrupted, and the same command goes
on. The result depends on the seed alone, not on the number of processes.
"""

import dataclasses
import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # kbert itself, where it is not installed

from kbert import flags, runtime
from kbert.config import flag, read_json
from kbert.errors import DataError, UsageError
from kbert.files import check_apart, write_json, write_text
from kbert.permutation import ORDER, seed_of
from kbert.pretraining.flags import ShardFlags
from kbert.progress import over

if TYPE_CHECKING:
    from kbert.pretraining.examples import TextExamples

log = logging.getLogger("kbert.make_pretraining_data")

ABOUT = """
Make pre-training examples of plain text as sharded TFRecords, in several processes and constant memory. Interrupted, the
same command goes on.
"""
WORK = ".work"  # the folder of the tokenized text, until all is written
OPTIONS = "options.json"
ADDED = ("input_bytes", "vocab_crc32", "text_column")  # what OPTIONS had not always


@dataclass(frozen=True, kw_only=True)
class DataFlags(ShardFlags):
    output: str = flag(help="Directory of the shards; made if it is not there.")
    input: str = flag(help="Plain text files (.gz and globs work), or - for standard input.")
    dev_fraction: float = flag(0.0, help="Fraction of the documents for dev-*.tfrecord, of one pass.", low=0.0, high=0.9)
    processes: int | None = flag(None, help="Worker processes; by default one for each core.", low=1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return flags.main("python tools/make_pretraining_data.py", ABOUT, argv, lambda _: (DataFlags,), run)


def run(options: DataFlags) -> int:
    """Tokenize, then write the shards that are not there yet; returns the exit code."""
    output = Path(options.output).expanduser()
    options = dataclasses.replace(options, max_predictions=options.predictions(options.max_length))
    order = ORDER
    recorded = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("output", "processes")}
    runtime.start()
    from kbert.pretraining.examples import warn
    from kbert.pretraining.masking import Special

    vocabulary = _vocabulary(options)
    Special.of(vocabulary)  # says the error before minutes of work
    recorded["input_bytes"] = _size(options.input)
    recorded["vocab_crc32"] = zlib.crc32("\n".join(vocabulary).encode())
    for name in ("vocab.txt", OPTIONS, "manifest.json"):
        check_apart("--output", str(output / name), {"--input": options.input})
    try:
        (output / WORK).mkdir(parents=True, exist_ok=True)
        if (output / OPTIONS).exists():
            before = read_json(output / OPTIONS)
            order = before.get("data_order", 1) if isinstance(before, dict) else ORDER
            _check_same(before, recorded, output)
    except OSError as error:
        raise DataError(f"--output={output}: cannot be written: {error.strerror}") from None
    for stale in output.glob(".*.tfrecord.*"):  # half of a shard, of a process that was killed
        stale.unlink()
    recorded["data_order"] = order  # shards that are there stay those of one permutation with the others
    options = dataclasses.replace(options, seed=seed_of(options.seed, order))
    write_json(output / OPTIONS, recorded)
    made = read_json(output / "manifest.json") if (output / "manifest.json").exists() else None
    if made is not None and all((output / name).exists() for name in made["examples"]):
        print(f"{output} is finished; use another --output, or remove it, to make it anew")
        shutil.rmtree(output / WORK, ignore_errors=True)
        return 0

    workers = options.processes or os.cpu_count() or 1
    written: dict[str, int] = {}
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(options, output)) as pool:
        try:
            digest = _tokenize(options, output / WORK, pool, workers)
            if made is not None and made["digest"] != digest:
                raise DataError(f"--input={options.input} is not what the other shards in {output} are made of")
            splits = {split: _examples(options, output / WORK, split) for split in _splits(options)}
            warn(splits["train"].tokens, vocabulary, splits["train"].how, splits["train"].masked)
            counts = {split: len(examples) for split, examples in splits.items()}
            if counts["train"] * options.passes < options.shards:
                raise UsageError(f"--shards={options.shards}: there are {counts['train'] * options.passes} examples")
            tasks = [(split, shard, count) for split, count in counts.items() for shard in range(_shards(options, split))]
            futures = [pool.submit(_write, *task) for task in tasks]
            for future in over(futures, desc="writing", unit="shard", total=len(futures)):
                name, count = future.result()
                written[name] = count
        except BrokenProcessPool:
            raise DataError("a worker process was killed, perhaps for want of memory; the same command goes on") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    write_text(output / "vocab.txt", "".join(token + "\n" for token in vocabulary))
    write_json(output / "manifest.json", {"options": recorded, "digest": digest, "examples": written})
    shutil.rmtree(output / WORK)
    print(f"{output}: {sum(written.values()):,} examples in {len(written)} shards")
    return 0


def _size(source: str) -> int | None:
    """Bytes of all files of a source; None for standard input, which is read but once."""
    from kbert.pretraining import corpus

    return None if source == corpus.STDIN else sum(os.path.getsize(name) for name in corpus.files(source))


def _check_same(was: Any, now: dict[str, Any], output: Path) -> None:
    for name, value in now.items():
        if name in ADDED and isinstance(was, dict) and name not in was:
            continue  # begun before it was kept
        if not isinstance(was, dict) or was.get(name) != value:
            before = was.get(name) if isinstance(was, dict) else was
            raise UsageError(f"--output={output} was begun with {name} {before}, not {value}; name another directory")


def _splits(options: DataFlags) -> list[str]:
    return ["train", "dev"] if options.dev_fraction else ["train"]


def _shards(options: DataFlags, split: str) -> int:
    return options.shards if split == "train" else max(1, math.ceil(options.shards * options.dev_fraction / options.passes))


def _tokenize(options: DataFlags, work: Path, pool: ProcessPoolExecutor, workers: int) -> int:
    """Make sure that the tokenized text is in `work`; returns its digest."""
    from kbert.pretraining import corpus, tokens

    done = work / "tokens.json"
    if not done.exists():
        blocks = corpus.blocks(options.input, options.layout, options.encoding, options.text_column)
        files = list(corpus.files(options.input))
        found = tokens.tokenized(blocks, files, _encode, pool, workers, work)
        write_text(done, json.dumps({"digest": found.digest, "files": files}))
    return int(read_json(done)["digest"])


def _examples(options: DataFlags, work: Path, split: str) -> "TextExamples":
    """Return the examples of a split, the same in each process."""
    from kbert.pretraining import tokens
    from kbert.pretraining.sources import text_examples

    vocabulary = _vocabulary(options)
    done = read_json(work / "tokens.json")
    corpus = tokens.kept(work, len(vocabulary), done["files"], done["digest"])
    if options.dev_fraction:
        corpus = corpus.split(options.dev_fraction, options.seed)[split == "dev"]
    if not len(corpus.documents):
        raise DataError(f"{options.input}: no document is left for {split}; change --dev_fraction")
    return text_examples(corpus, vocabulary, options, options.objective, options.max_length, options.seed)


def _vocabulary(options: DataFlags) -> list[str]:
    from kbert.data.tokenizer import read_vocabulary

    return read_vocabulary(Path(options.vocab).expanduser())


# What follows runs in the workers, which keep what they have made.
_tools: dict[str, Any] = {}


def _start(options: DataFlags, output: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runtime.start()
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    _tools.update(options=options, output=output)


def _end_with_parent() -> None:
    """End this worker when the first process is gone, killed perhaps; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode(block: Any) -> Any:
    """Return a block's ids, as `kbert.pretraining.tokens.Encode` gives them."""
    if "encode" not in _tools:
        from kbert.data.segmenters import segmenter
        from kbert.data.tokenizer import Tokenizer
        from kbert.pretraining.tokens import Encode

        options: DataFlags = _tools["options"]
        tokenizer = Tokenizer(_vocabulary(options), lowercase=options.lowercase, strip_accents=options.lowercase)
        _tools["encode"] = Encode(tokenizer, None if options.segmenter is None else segmenter(options.segmenter))
    return _tools["encode"](block)


def _write(split: str, shard: int, examples: int) -> tuple[str, int]:
    """Write a shard unless it is there; returns its name and how many examples it has."""
    from kbert.pretraining.records import write_shard

    options: DataFlags = _tools["options"]
    output: Path = _tools["output"]
    shards, passes = _shards(options, split), options.passes if split == "train" else 1
    bounds = [round(i * examples * passes / shards) for i in (shard, shard + 1)]
    name = f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
    if not (output / name).exists():
        if split not in _tools:
            _tools[split] = _examples(options, output / WORK, split)
        write_shard(output / name, _tools[split], passes, range(*bounds), options.seed)
    return name, bounds[1] - bounds[0]


if __name__ == "__main__":
    sys.exit(main())
