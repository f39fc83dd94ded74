"""What a checkpoint is, and what it sees of a text: `python -m kbert.inspect --init=DIR [--input=FILE.jsonl]`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbert import flags, runtime
from kbert.config import TextConfig
from kbert.errors import KbertError, UsageError
from kbert.files import check_output, output
from kbert.settings import flag
from kbert.source import SourceConfig

ABOUT = """
Without --input: say what a checkpoint is. With it: write a JSON line for each row, with the ids and
pieces of its text, of which a model reads as many as its length allows between [CLS] and [SEP]; and
where in the text each starts and ends, in characters from 0, the end exclusive.
"""
BATCH = 64  # rows at once, since a text may be long


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    init: str | None = flag(
        None, help="Checkpoint: a directory (Hugging Face, Google TF1, Keras preset, kbert model) or a preset's name."
    )
    vocab: str | None = flag(None, help="A vocab.txt instead of a checkpoint.")
    lowercase: bool = flag(False, help="With --vocab: the vocabulary is that of an uncased model.")
    input: str | None = flag(
        None, help='Texts: JSON lines {"text": ...} from a file or, as -, from standard input; or tsv, csv, txt files.'
    )
    output: str = flag("-", help="File of JSON lines to write, - for standard output.")


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.inspect") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (InspectFlags, SourceConfig), run)


def run(options: InspectFlags, source: SourceConfig) -> int:
    """Describe the checkpoint or write the pieces; returns the exit code."""
    if (options.init is None) == (options.vocab is None):
        raise UsageError("give one of --init and --vocab")
    if options.init and options.lowercase:
        raise UsageError("--lowercase goes with --vocab; a checkpoint says itself whether it is uncased")
    if options.vocab and not options.input:
        raise UsageError("--vocab needs --input, the texts to show")
    if options.output != "-":
        if not options.input:
            raise UsageError("--output needs --input; without it the summary goes to standard output")
        check_output("--output", options.output, {"--input": options.input, "--vocab": options.vocab})

    runtime.start()
    import tensorflow as tf

    from kbert import checkpoints, graphs
    from kbert.checkpoints.names import of_head
    from kbert.checkpoints.sentence_transformers import is_sentence_transformers
    from kbert.data.indexing import open_table
    from kbert.data.tokenizer import Tokenizer
    from kbert.data.vocabulary import read_vocabulary
    from kbert.tasks import adoption

    if options.vocab:
        vocabulary = read_vocabulary(Path(options.vocab).expanduser())
        casing = TextConfig(lowercase=options.lowercase, strip_accents=options.lowercase)
    else:
        checkpoint = checkpoints.open_checkpoint(str(options.init))
        if not options.input:
            print(checkpoints.summary(checkpoint))
            if checkpoint.format != "kbert" and (
                checkpoint.ignored or any(map(of_head, checkpoint.shapes)) or is_sentence_transformers(str(options.init))
            ):
                print(f"{'adopt:':<16}{adoption.way(str(options.init))}")
            return 0
        vocabulary, casing = checkpoint.vocabulary, checkpoint.text
    assert options.input is not None
    if options.input == "-" and source.format == "auto":
        source = dataclasses.replace(source, format="jsonl")
    flags.check_columns(source.text_columns, ("text",))
    source.check_all_read()
    table = open_table(options.input, source, source.text_columns, keyed_by=1)
    tokenizer = Tokenizer(vocabulary, **vars(casing))
    # The ids are those of the function that trains and serves, which does not go by way of offsets.
    tokenize = graphs.function(
        lambda texts: (tokenizer.tokenize(texts), *tokenizer.tokenize_with_offsets(texts)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    with output(options.output) as file:
        for start in range(0, len(table), BATCH):
            (texts,) = table.read(range(start, min(start + BATCH, len(table)))).values()
            rows = [values.to_list() for values in tokenize(tf.constant(list(texts)))]
            for text, ids, located, starts, ends in zip(texts, *rows, strict=True):
                if ids != located:
                    raise KbertError(
                        f"a fault in kbert: the text has other ids with places than without: {text.decode()[:200]!r}"
                    )
                line = {"ids": ids, "pieces": [vocabulary[i] for i in ids], "starts": starts, "ends": ends}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
