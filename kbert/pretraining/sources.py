"""Open a pre-training run's training and held-out examples.

In: the sources given by flags, plain text or shards. Out: `Examples` of both.
"""

import dataclasses
import fnmatch
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kbert.config import ModelConfig
from kbert.data.segmenters import segmenter
from kbert.data.tokenizer import Tokenizer
from kbert.data.vocabulary import read_vocabulary
from kbert.errors import DataError, UsageError
from kbert.files import read_json
from kbert.pretrain_config import ExampleFlags, PretrainConfig
from kbert.pretraining import corpus
from kbert.pretraining.cutting import Cut, Objective
from kbert.pretraining.examples import Examples, TextExamples, warn
from kbert.pretraining.masking import Masking
from kbert.pretraining.records import RecordExamples, is_records
from kbert.pretraining.tokens import Encode, Tokens, tokenized
from kbert.tasks.pretrain.options import PretrainOptions

log = logging.getLogger(__name__)


def learnt_and_held_out(
    train: PretrainConfig, options: PretrainOptions, model: ModelConfig, tokenizer: Tokenizer
) -> tuple[Examples, Examples]:
    """Open the training and the held-out examples of a run.

    Args:
        train: the sources, and how to read text.
        options: the objective.
        model: the model's configuration.
        tokenizer: the model's.

    Returns:
        The training examples and the held-out examples.

    Raises:
        DataError: text or shards are missing, damaged, of another vocabulary, or too few to hold any out.
        UsageError: the shards have another objective, or cannot be split.
    """

    def records(source: str) -> RecordExamples:
        examples = RecordExamples(
            source,
            vocabulary_size=len(tokenizer.vocabulary),
            max_length=model.max_length,
            pairs=options.pairs is not None,
            skip=train.skip_damaged_shards,
        )
        _check_manifest(Path(examples.names[0]).parent, options, tokenizer.vocabulary, model.text.lowercase, train)
        for damaged in examples.damaged:
            log.warning("left out: %s", damaged)
        return examples

    def text(tokens: Tokens) -> TextExamples:
        return text_examples(tokens, tokenizer.vocabulary, train, options.objective, model.max_length, train.seed)

    def held_out(tokens: Tokens) -> TextExamples:
        try:
            return text(tokens)
        except DataError as error:
            raise DataError(f"held out: {error}. Hold more out with --dev_fraction or --dev_data") from None

    examples: Examples
    held: Examples
    if train.dev_data is None:
        kept, rest = _split(train, tokenizer)
        examples, held = text(kept), held_out(rest)
    else:
        _check_apart(train.train_data, train.dev_data)
        if is_records(train.train_data) and is_records(train.dev_data):
            _check_no_example_flags(train)
        source, dev = train.train_data, train.dev_data
        examples = records(source) if is_records(source) else text(_read(source, train, tokenizer))
        held = records(dev) if is_records(dev) else held_out(_read(dev, train, tokenizer))
    if isinstance(examples, TextExamples):
        warn(examples.tokens, tokenizer.vocabulary, examples.how, examples.masked)
    return examples, held


def text_examples(
    tokens: Tokens, vocabulary: Sequence[str], flags: ExampleFlags, objective: Objective, max_length: int, seed: int
) -> TextExamples:
    """Build the examples of a corpus from the flags; see `TextExamples`."""
    how = Cut(objective, max_length, flags.short_seq_prob)
    masking = Masking(flags.mask_unit, flags.mask_rate, flags.predictions(max_length))
    return TextExamples(tokens, vocabulary, how, masking, seed)


def _split(train: PretrainConfig, tokenizer: Tokenizer) -> tuple[Tokens, Tokens]:
    """Split the text into training and held-out documents."""
    source = train.train_data
    if is_records(source):
        raise UsageError("--train_data holds shards, which cannot be split; give held-out shards or text by --dev_data")
    tokens = _read(source, train, tokenizer)
    if len(tokens.documents) == 1:
        raise DataError(
            f"{source}: there is only one document, and none to hold out; are blank lines missing between documents, or is a "
            "line a document (--layout=documents)? Or give held-out text by --dev_data"
        )
    kept, rest = tokens.split(train.dev_fraction or 0.05, train.seed)
    if not len(kept.documents) or not len(rest.documents):
        raise DataError(f"{source}: too few documents to hold any out; raise --dev_fraction, or give --dev_data")
    return kept, rest


def _check_apart(source: str, dev: str) -> None:
    """Raise UsageError if a file is in both the training and the held-out data, DataError if one is missing."""
    both = set(_files(source)) & set(_files(dev))
    if both:
        raise UsageError(f"--dev_data: {min(both)} is among the files of --train_data; held-out data must not be trained on")


def _files(source: str) -> list[str]:
    return [name if name == corpus.STDIN else os.path.realpath(name) for name in corpus.files(source)]


def _check_no_example_flags(train: PretrainConfig) -> None:
    """Raise UsageError if a flag concerns making examples although the sources are finished shards."""
    for spec in dataclasses.fields(ExampleFlags):
        if (given := getattr(train, spec.name)) != spec.default:
            raise UsageError(
                f"--{spec.name}={given}: --train_data and --dev_data are shards, whose examples are already made; it is for "
                "kbert make_pretraining_data"
            )


def _check_manifest(
    folder: Path, options: PretrainOptions, vocabulary: list[str], lowercase: bool, train: PretrainConfig
) -> None:
    """Raise if shards do not match the manifest that kbert make_pretraining_data wrote beside them, or this model."""
    if (folder / "vocab.txt").exists() and read_vocabulary(folder / "vocab.txt") != vocabulary:
        raise DataError(f"{folder}: the shards were made with another vocabulary, {folder / 'vocab.txt'}")
    if (folder / "manifest.json").exists():
        manifest = read_json(folder / "manifest.json")
        made, listed = manifest.get("options", {}), manifest.get("examples", {})
        wanted = [Path(source).name for source in (train.train_data, train.dev_data) if source is not None]
        missing = [n for n in listed if not (folder / n).exists() and any(fnmatch.fnmatch(n, name) for name in wanted)]
        if missing and not train.skip_damaged_shards:
            raise DataError(
                f"{folder / missing[0]}: no such file, though manifest.json lists it; make it again by the same command, or "
                "continue without it by --skip_damaged_shards"
            )
        if not all(is_records(source) for source in (train.train_data, train.dev_data or "")):
            for name in ("mask_unit", "mask_rate", "segmenter"):
                if made.get(name, getattr(train, name)) != getattr(train, name):
                    log.warning("--%s applies to plain text only; the shards in %s have %s", name, folder, made[name])
        if options.pairs and made.get("objective", options.objective) != options.objective:
            raise UsageError(f"--objective={options.objective}: the shards in {folder} were made for {made['objective']}")
        if made.get("lowercase", lowercase) != lowercase:
            how = ("as it is written", "in lower case")
            raise UsageError(f"the shards in {folder} have text {how[not lowercase]}, but the model reads it {how[lowercase]}")


def _read(source: str, train: PretrainConfig, tokenizer: Tokenizer) -> Tokens:
    workers = os.cpu_count() or 1
    encode = Encode(tokenizer, None if train.segmenter is None else segmenter(train.segmenter))
    with ThreadPoolExecutor(workers) as executor:
        blocks = corpus.blocks(source, train.layout, train.encoding, train.text_column)
        found = tokenized(blocks, corpus.files(source), encode, executor, workers)
    log.info("%s: %d documents, %d sentences, %d tokens", source, len(found.documents), len(found.ends) - 1, len(found.ids))
    return found
