"""Write sharded TFRecords of pre-training examples with several processes, in constant memory.

In: text files and the options of `kbert make_pretraining_data`. Out: a folder of shards with its vocabulary, options and
manifest. Every file is written whole; a second call writes the missing ones only. Each worker computes the same examples
from the tokenized text that the first process keeps in the folder, and writes shards of them. TensorFlow is imported in
functions: a worker imports this module before `runtime.start` can keep TensorFlow's greeting off stderr.
"""

import dataclasses
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
import zlib
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbert import runtime
from kbert.errors import DataError, UsageError
from kbert.files import check_apart, read_json, write_json, write_text
from kbert.permutation import ORDER, seed_of
from kbert.pretraining.flags import DataFlags
from kbert.progress import over

if TYPE_CHECKING:
    from kbert.pretraining.examples import TextExamples

WORK = ".work"  # the folder of the tokenized text, until all is written
OPTIONS = "options.json"
ADDED = ("input_bytes", "vocab_crc32", "text_column")  # missing from the OPTIONS of earlier versions


def write(options: DataFlags, output: Path) -> dict[str, int] | None:
    """Tokenize the text and write the shards that `output` lacks.

    Returns:
        File name -> number of examples, of all shards; None if `output` was finished before.

    Raises:
        UsageError: `output` was started with other options, or there are fewer examples than shards.
        DataError: a file that cannot be read, a missing special token, no document for a split.
    """
    from kbert.pretraining.examples import warn
    from kbert.pretraining.masking import Special

    options = dataclasses.replace(options, max_predictions=options.predictions(options.max_length))
    order = ORDER
    recorded = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("output", "processes")}
    vocabulary = _vocabulary(options)
    Special.of(vocabulary)  # raises before minutes of work
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
    for stale in output.glob(".*.tfrecord.*"):  # half a shard, left by a killed process
        stale.unlink()
    recorded["data_order"] = order  # all shards of a folder come from one permutation
    options = dataclasses.replace(options, seed=seed_of(options.seed, order))
    write_json(output / OPTIONS, recorded)
    made = read_json(output / "manifest.json") if (output / "manifest.json").exists() else None
    if made is not None and all((output / name).exists() for name in made["examples"]):
        shutil.rmtree(output / WORK, ignore_errors=True)
        return None

    workers = options.processes or os.cpu_count() or 1
    written: dict[str, int] = {}
    with _pool(workers, options, output) as pool:
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
            raise DataError("a worker process was killed, perhaps because memory ran out; the same command continues") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _tools.clear()
    write_text(output / "vocab.txt", "".join(token + "\n" for token in vocabulary))
    write_json(output / "manifest.json", {"options": recorded, "digest": digest, "examples": written})
    shutil.rmtree(output / WORK)
    return written


def _size(source: str) -> int | None:
    """Return the bytes of all files of a source; None for standard input, which can be read once only."""
    from kbert.pretraining import corpus

    return None if source == corpus.STDIN else sum(os.path.getsize(name) for name in corpus.files(source))


def _check_same(was: Any, now: dict[str, Any], output: Path) -> None:
    for name, value in now.items():
        if name in ADDED and isinstance(was, dict) and name not in was:
            continue  # begun by an earlier version
        if not isinstance(was, dict) or was.get(name) != value:
            before = was.get(name) if isinstance(was, dict) else was
            raise UsageError(f"--output={output} was begun with {name} {before}, not {value}; name another directory")


def _splits(options: DataFlags) -> list[str]:
    return ["train", "dev"] if options.dev_fraction else ["train"]


def _shards(options: DataFlags, split: str) -> int:
    return options.shards if split == "train" else max(1, math.ceil(options.shards * options.dev_fraction / options.passes))


def _pool(workers: int, options: DataFlags, output: Path) -> Executor:
    """Make what runs the functions below: worker processes, or a thread of this process in place of a single one."""
    if workers == 1:
        return ThreadPoolExecutor(1, initializer=_keep, initargs=(options, output))
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(options, output))


def _tokenize(options: DataFlags, work: Path, pool: Executor, workers: int) -> int:
    """Tokenize the text into `work` unless it is there; return its digest."""
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
    from kbert.data.vocabulary import read_vocabulary

    return read_vocabulary(Path(options.vocab).expanduser())


# The functions below run in the workers; each worker keeps its tokenizer and examples.
_tools: dict[str, Any] = {}


def _start(options: DataFlags, output: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runtime.start()
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    _keep(options, output)


def _keep(options: DataFlags, output: Path) -> None:
    _tools.clear()
    _tools.update(options=options, output=output)


def _end_with_parent() -> None:
    """End this worker when the first process is gone, perhaps killed; otherwise it would wait for work forever."""
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
    """Write a shard unless it exists; return its name and its number of examples."""
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
