"""Make a WordPiece vocabulary from text.

    kbert make_vocab --input='text-*.txt' --output=vocab.txt --vocab_size=30000 --lowercase

The text is read once, in a stream; words are split and normalised as kbert does it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbert import flags, runtime
from kbert.files import check_output, write_text
from kbert.pretrain_config import TEXT_HELP
from kbert.settings import flag

ABOUT = """
Make a WordPiece vocabulary from plain text: special tokens first, Chinese characters and punctuation whole, pieces of
all other words behind them.
"""


@dataclass(frozen=True, kw_only=True)
class VocabFlags:
    input: str = flag(help="Plain text files (.gz and globs work), or - for standard input.")
    output: str = flag(help="Vocabulary file to write, one token per line.")
    vocab_size: int = flag(30_000, help="Maximum number of tokens.", low=10)
    lowercase: bool = flag(False, help="Lowercase the text and strip its accents, for an uncased model.")
    unused: int = flag(0, help="Number of tokens [unused0], [unused1], … after the special ones, reserved for your own.", low=0)
    min_count: int = flag(
        2, help="Minimum count of characters that are words of their own (Chinese characters, punctuation).", low=1
    )
    text_column: str = flag("text", help=TEXT_HELP)
    encoding: str = flag("utf-8", help="Character encoding of the files, for example gb18030.")


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.make_vocab") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (VocabFlags,), run)


def run(options: VocabFlags) -> int:
    """Count, learn, write; returns the exit code."""
    check_output("--output", options.output, {"--input": options.input})
    runtime.start()
    from kbert.pretraining import corpus
    from kbert.pretraining.vocabulary import count_words, vocabulary

    blocks = corpus.blocks(options.input, "sentences", options.encoding, options.text_column)
    counts = count_words(blocks, lowercase=options.lowercase)
    tokens = vocabulary(counts, options.vocab_size, unused=options.unused, least=options.min_count)
    write_text(Path(options.output), "".join(token + "\n" for token in tokens))
    print(f"{options.output}: {len(tokens):,} tokens from {counts.total():,} words, {len(counts):,} different")
    return 0


if __name__ == "__main__":
    sys.exit(main())
