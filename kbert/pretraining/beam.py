"""Make pre-training shards on a cluster: an Apache Beam pipeline over the same code (the extra `kbert-keras[beam]`).

    python -m kbert.pretraining.beam --input='gs://…/part-*.txt' --vocab=vocab.txt --lowercase --output=gs://…/train \\
        --shards=1000 [--runner=DataflowRunner …]

In: text files in any file system Beam supports, each read by one worker (so keep them to some hundred megabytes), a sentence
a line and a blank line between documents, or a document a line. Out: shards that `kbert.pretrain` reads. Documents are
distributed over as many groups as there are shards by a hash of their text; a group is tokenized, cut, paired and masked like
a corpus of its own, so random partners come from the same group. The examples depend only on the seed and the
number of shards; which shard holds them, and in what order, is up to Beam. Flags that --help does not list are Beam's.
"""

import argparse
import dataclasses
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.io.tfrecordio import WriteToTFRecord
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from kbert import flags, runtime
from kbert.errors import DataError, UsageError
from kbert.pretraining.flags import ShardFlags

runtime.start()

from kbert.data.segmenters import segmenter  # noqa: E402
from kbert.data.tokenizer import Tokenizer  # noqa: E402
from kbert.data.vocabulary import read_vocabulary  # noqa: E402
from kbert.pretraining import tokens  # noqa: E402
from kbert.pretraining.corpus import Block, decoded  # noqa: E402
from kbert.pretraining.cutting import Cut  # noqa: E402
from kbert.pretraining.documents import Layout, documents  # noqa: E402
from kbert.pretraining.examples import TextExamples  # noqa: E402
from kbert.pretraining.masking import Masking, Special  # noqa: E402
from kbert.pretraining.records import AT_ONCE, serialised  # noqa: E402

Document = list[bytes]  # its sentences, UTF-8


def read_documents(file: Any, layout: Layout, encoding: str, text_column: str) -> Iterator[Document]:
    """Yield the documents of a file given by `beam.io.fileio.ReadMatches`."""
    found: Document = []
    with file.open() as stream:
        name = file.metadata.path
        for sentence in documents(name, decoded(stream, encoding, name), layout, text_column):
            if sentence.opens and found:
                yield found
                found = []
            found.append(sentence.text.encode("utf-8", "replace"))
    if found:
        yield found


class MakeExamples(beam.DoFn):
    """Converts (group, its documents) to serialised examples.

    Args:
        vocabulary, lowercase, segmenter: see `kbert.pretraining.tokens.Encode`.
        how, masked: see `TextExamples`.
        passes: number of differently masked passes.
        seed: seed of all random choices.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool,
        segmenter: str | None,
        how: Cut,
        masked: Masking,
        passes: int,
        seed: int,
    ):
        self.vocabulary, self.lowercase, self.segmenter = list(vocabulary), lowercase, segmenter
        self.how, self.masked, self.passes, self.seed = how, masked, passes, seed

    def setup(self) -> None:
        tokenizer = Tokenizer(self.vocabulary, lowercase=self.lowercase, strip_accents=self.lowercase)
        self.encode = tokens.Encode(tokenizer, None if self.segmenter is None else segmenter(self.segmenter))

    def process(self, element: tuple[int, Iterable[Document]]) -> Iterator[bytes]:
        group, members = element
        ordered = sorted(members)  # a cluster delivers them in any order
        blocks = (Block(d, np.arange(len(d)) == 0, np.zeros(len(d), np.int64), np.zeros(len(d), np.int64)) for d in ordered)
        with ThreadPoolExecutor(1) as executor:
            try:
                corpus = tokens.tokenized(blocks, [f"group {group}"], self.encode, executor, 1)
                examples = TextExamples(corpus, self.vocabulary, self.how, self.masked, self.seed)
            except DataError as error:
                found = f"group {group} of {len(ordered)} documents (fewer --shards make larger groups)"
                raise DataError(f"{found}: {error}") from None
        for epoch in range(self.passes):
            for start in range(0, len(examples), AT_ONCE):
                arrays = examples.read(np.arange(start, min(start + AT_ONCE, len(examples))), epoch)
                yield from serialised(arrays, self.how.max_length, self.masked.most)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    names = {"help", "flagfile", *(spec.name for spec in dataclasses.fields(ShardFlags))}
    ours = [argument for argument in argv if argument.lstrip("-").split("=")[0] in names]
    beams = [argument for argument in argv if argument not in ours]
    about = __doc__.partition("\n")[0]
    return flags.main("python -m kbert.pretraining.beam", about, ours, lambda _: (ShardFlags,), lambda given: run(given, beams))


def _check_known(beams: Sequence[str]) -> None:
    """Raise UsageError for a flag that Beam does not know either, which it would ignore."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)  # Beam's way to declare flags
    _, unknown = parser.parse_known_args(beams)
    if unknown:
        raise UsageError(f"unknown flag {unknown[0]}: neither kbert's nor Beam's; --help lists kbert's")


def run(options: ShardFlags, beams: Sequence[str]) -> int:
    """Run the pipeline with Beam's own flags; return the exit code."""
    _check_known(beams)
    settings = PipelineOptions(list(beams))
    settings.view_as(SetupOptions).save_main_session = False
    vocabulary = read_vocabulary(Path(options.vocab))
    Special.of(vocabulary)  # report an error before using a cluster
    examples = MakeExamples(
        vocabulary,
        options.lowercase,
        options.segmenter,
        Cut(options.objective, options.max_length, options.short_seq_prob),
        Masking(options.mask_unit, options.mask_rate, options.predictions(options.max_length)),
        options.passes,
        options.seed,
    )
    with beam.Pipeline(options=settings) as pipeline:
        _ = (
            pipeline
            | fileio.MatchFiles(options.input)
            | fileio.ReadMatches()
            | beam.FlatMap(read_documents, options.layout, options.encoding, options.text_column)
            | beam.Map(lambda document: (zlib.crc32(b"\n".join(document), options.seed) % options.shards, document))
            | beam.GroupByKey()
            | beam.ParDo(examples)
            | beam.Reshuffle()  # a group's examples go to many shards
            | WriteToTFRecord(options.output, file_name_suffix=".tfrecord", num_shards=options.shards)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
