"""What a pre-training run learns from, and what is held out of it.

In: the sources that the flags name, plain text or shards. Out: `Examples` of both.
"""

import dataclasses
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kbert.config import ExampleFlags, ModelConfig, PretrainConfig, read_json
from kbert.errors import DataError, UsageError
from kbert.options import PretrainOptions
from kbert.pretraining import corpus
from kbert.pretraining.cutting import Cut
from kbert.pretraining.examples import Examples, TextExamples, warn
from kbert.pretraining.masking import Masking
from kbert.pretraining.records import RecordExamples, is_records
from kbert.pretraining.tokens import Encode, Tokens, tokenized
from kbert.segmenters import segmenter
from kbert.text import Tokenizer, read_vocabulary

log = logging.getLogger(__name__)


def learnt_and_held_out(
    train: PretrainConfig, options: PretrainOptions, model: ModelConfig, tokenizer: Tokenizer
) -> tuple[Examples, Examples]:
    """The examples of a run.

    Args:
        train: names the sources, and how text is read.
        options: the objective.
        model: the model's configuration.
        tokenizer: the model's.

    Returns:
        What is learnt, and what is held out.

    Raises:
        DataError: text or shards that are missing, damaged, of another vocabulary, or too little to hold any out.
        UsageError: shards of another objective, or of which nothing can be held out.
    """

    def records(source: str) -> RecordExamples:
        examples = RecordExamples(
            source,
            vocabulary_size=model.encoder.vocabulary_size,
            max_length=model.max_length,
            pairs=options.pairs is not None,
            skip=train.skip_damaged_shards,
        )
        _check_manifest(Path(examples.names[0]).parent, options, tokenizer.vocabulary, model.text.lowercase, train)
        for damaged in examples.damaged:
            log.warning("left out: %s", damaged)
        return examples

    def text(tokens: Tokens) -> TextExamples:
        return _text_examples(tokens, tokenizer, train, options, model.max_length)

    sources = [train.train_data, train.dev_data]
    if is_records(train.train_data) and train.dev_data is None:
        raise UsageError("--train_data names shards, of which no documents can be held out; name shards or text by --dev_data")
    if train.dev_data is not None and (both := set(_files(train.train_data)) & set(_files(train.dev_data))):
        raise UsageError(f"--dev_data: {min(both)} is among the files of --train_data; what is learnt from is not held out")
    if all(source and is_records(source) for source in sources):
        _check_no_example_flags(train)
    made: list[Any] = [None if s is None else records(s) if is_records(s) else _read(s, train, tokenizer) for s in sources]
    if made[1] is None:
        if len(made[0].documents) == 1:
            raise DataError(
                f"{train.train_data}: there is one document only, and none to hold out; are blank lines missing between "
                "documents, or is a line a document (--layout=documents)? Or name held-out text by --dev_data"
            )
        made = list(made[0].split(train.dev_fraction or 0.05, train.seed))
        if not all(len(tokens.documents) for tokens in made):
            raise DataError(f"{train.train_data}: too few documents to hold any out; raise --dev_fraction, or name --dev_data")
    examples, held_out = made
    if not isinstance(examples, RecordExamples):
        examples = text(examples)
        warn(examples.tokens, tokenizer.vocabulary, examples.how, examples.masked)
    if not isinstance(held_out, RecordExamples):
        try:
            held_out = text(held_out)
        except DataError as error:
            raise DataError(f"held out: {error}. Or hold more out: --dev_fraction, --dev_data") from None
    return examples, held_out


def _files(source: str) -> list[str]:
    return [name if name == corpus.STDIN else os.path.realpath(name) for name in corpus.files(source)]


def _check_no_example_flags(train: PretrainConfig) -> None:
    """Raise UsageError where a flag says how examples are to be made that were made long ago."""
    for spec in dataclasses.fields(ExampleFlags):
        if (given := getattr(train, spec.name)) != spec.default:
            raise UsageError(
                f"--{spec.name}={given}: --train_data and --dev_data name shards, whose examples are made; it is for "
                "tools/make_pretraining_data.py"
            )


def _check_manifest(
    folder: Path, options: PretrainOptions, vocabulary: list[str], lowercase: bool, train: PretrainConfig
) -> None:
    """Raise where what tools/make_pretraining_data.py says beside its shards is not what is there, or not for this model."""
    if (folder / "vocab.txt").exists() and read_vocabulary(folder / "vocab.txt") != vocabulary:
        raise DataError(f"{folder}: the shards were made with another vocabulary, which is in {folder / 'vocab.txt'}")
    if (folder / "manifest.json").exists():
        manifest = read_json(folder / "manifest.json")
        made, listed = manifest.get("options", {}), manifest.get("examples", {})
        missing = [name for name in listed if not (folder / name).exists()]
        if missing and not train.skip_damaged_shards:
            raise DataError(
                f"{folder / missing[0]}: no such file, though manifest.json has it; make it anew by the same command, or go on "
                "without it by --skip_damaged_shards"
            )
        if not all(is_records(source) for source in (train.train_data, train.dev_data or "")):
            for name in ("mask_unit", "mask_rate", "segmenter"):
                if made.get(name, getattr(train, name)) != getattr(train, name):
                    log.warning("--%s is for plain text alone; the shards in %s have %s", name, folder, made[name])
        if options.pairs and made.get("objective", options.objective) != options.objective:
            raise UsageError(f"--objective={options.objective}: the shards in {folder} were made for {made['objective']}")
        if made.get("lowercase", lowercase) != lowercase:
            how = ("as it is written", "in lower case")
            raise UsageError(f"the shards in {folder} have text {how[not lowercase]}, and the model reads it {how[lowercase]}")


def _read(source: str, train: PretrainConfig, tokenizer: Tokenizer) -> Tokens:
    workers = os.cpu_count() or 1
    encode = Encode(tokenizer, None if train.segmenter is None else segmenter(train.segmenter))
    with ThreadPoolExecutor(workers) as executor:
        blocks = corpus.blocks(source, train.layout, train.encoding)
        found = tokenized(blocks, corpus.files(source), encode, executor, workers)
    log.info("%s: %d documents, %d sentences, %d tokens", source, len(found.documents), len(found.ends) - 1, len(found.ids))
    return found


def _text_examples(
    tokens: Tokens, tokenizer: Tokenizer, train: PretrainConfig, options: PretrainOptions, max_length: int
) -> TextExamples:
    how = Cut(options.objective, max_length, train.short_seq_prob)
    masking = Masking(train.mask_unit, train.mask_rate, train.predictions(max_length))
    return TextExamples(tokens, tokenizer.vocabulary, how, masking, train.seed)
