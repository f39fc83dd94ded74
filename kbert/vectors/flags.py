"""Define and check the flags of kbert.encode. No TensorFlow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kbert.errors import UsageError
from kbert.files import check_apart, check_output
from kbert.settings import flag
from kbert.source import SOURCE_HELP
from kbert.vectors.formats import STDOUT, index_of


@dataclass(frozen=True, kw_only=True)
class EncodeFlags:
    init: str = flag(
        help="Checkpoint: a directory (Hugging Face, sentence-transformers, Google TF1, Keras preset, kbert model) or a "
        "preset's name."
    )
    input: str | None = flag(None, help=f"Texts: {SOURCE_HELP}, or - for standard input.")
    output: str | None = flag(
        None,
        help="File to write: .vec or .txt (word2vec), .bin (word2vec, binary), .npy, .jsonl, .parquet; - for standard output.",
    )
    output_format: Literal["auto", "word2vec", "word2vec_binary", "npy", "jsonl", "parquet", "projector"] = flag(
        "auto", help="Output format; auto infers it from the extension; projector is a directory for TensorBoard's projector."
    )
    overwrite: bool = flag(False, help="Start over where an interrupted run with other settings left files.")
    export_dir: str | None = flag(
        None,
        help="For sentences, and for tokens that are pieces: also export a SavedModel that computes the same vectors, to "
        "EXPORT_DIR/VERSION.",
    )
    unit: Literal["sentence", "token", "vocabulary"] = flag(
        "sentence", help="What gets a vector: each text, each token in it, or each distinct token of all texts."
    )
    layers: tuple[str, ...] | None = flag(
        None, help="Layers to read, comma-separated: 1 is the first, -1 the last, 0 the embeddings.", otherwise="-1"
    )
    layer_mode: Literal["concat", "mean"] = flag(
        "concat", help="Whether vectors of several layers are concatenated or averaged."
    )
    max_length: int | None = flag(
        None,
        help="Maximum input length in tokens, including [CLS] and [SEP]; longer texts are truncated, or read in windows for "
        "tokens.",
        otherwise="the checkpoint's own",
        low=3,
    )
    precision: Literal["float32", "bfloat16"] = flag(
        "float32", help="Precision of the encoder; bfloat16 is faster on CPUs and GPUs that support it."
    )


@dataclass(frozen=True, kw_only=True)
class SentenceFlags:
    pooling: Literal["cls", "mean", "max", "pooler", "first_last_mean"] | None = flag(
        None,
        help="For sentences: the vector of [CLS], the mean or the maximum over the tokens, the checkpoint's pooler, or the "
        "mean over the tokens of the first and the last layer.",
        otherwise="as in the checkpoint's modules.json (sentence-transformers), otherwise mean",
    )
    special_tokens: bool | None = flag(
        None,
        help="For sentences: include [CLS] and [SEP] in the mean or maximum.",
        otherwise="true where modules.json is used, otherwise false",
    )
    normalize: bool | None = flag(
        None, help="For sentences: scale vectors to length 1.", otherwise="as in modules.json where it is used, otherwise false"
    )
    fit_whitening: str | None = flag(
        None, help="For sentences: whiten the vectors by their own mean and covariance, and store these in this file."
    )
    whitening: str | None = flag(None, help="For sentences: whiten the vectors with a file written by --fit_whitening.")
    whitening_dim: int | None = flag(
        None,
        help="With --fit_whitening: number of directions to keep, those of the largest variance first.",
        otherwise="all",
        low=1,
    )


@dataclass(frozen=True, kw_only=True)
class TokenFlags:
    granularity: Literal["piece", "character", "word"] | None = flag(
        None,
        help="For tokens and vocabulary: WordPieces, characters, or words (the mean of their pieces).",
        otherwise="piece for tokens, character for vocabulary",
    )
    segmenter: str | None = flag(
        None,
        help="With --granularity=word: word segmenter, jieba or module:function of your own.",
        otherwise="BERT's own rules, which take each Chinese character as a word",
    )
    stride: int | None = flag(
        None,
        help="For tokens and vocabulary: minimum number of tokens that neighbouring windows of a long text share.",
        otherwise="32, or half of the tokens of a window where that is less",
        low=0,
    )
    source: Literal["embedding", "contextual"] | None = flag(
        None,
        help="For vocabulary: rows of the embedding table, or the mean of the encoder's outputs over all occurrences.",
        otherwise="embedding",
    )
    min_count: int | None = flag(None, help="For vocabulary: minimum number of occurrences.", otherwise="1", low=1)


def check(options: EncodeFlags, sentence: SentenceFlags, token: TokenFlags) -> None:
    """Raise UsageError or DataError if flags do not go together, before anything is read."""
    if options.input is None and options.output is not None:
        raise UsageError("--output needs --input, the texts")
    written = {"--output": options.output, "--fit_whitening": sentence.fit_whitening}
    files = [Path(place).expanduser().resolve() for place in written.values() if place not in (None, STDOUT)]
    if len(set(files)) < len(files):
        raise UsageError(f"--output and --fit_whitening are the same file: {options.output}")
    read = {"--input": options.input, "--whitening": sentence.whitening}
    for name, place in written.items():
        if place is not None and place != STDOUT:
            check_apart(name, place, read)
            if name == "--output" and "npy" in (options.output_format, place[-3:]):
                check_apart(name, str(index_of(place)), read)
    if options.output is None and (options.input is not None or options.export_dir is None):
        raise UsageError("give --input and --output, or --export_dir, or all three")
    units = {"sentence": (sentence, ("sentence",)), "token": (token, ("token", "vocabulary"))}
    for group, allowed in units.values():
        for name, value in vars(group).items():
            if value is not None and options.unit not in allowed:
                raise UsageError(f"--{name} goes with --unit={' or '.join(allowed)}, not with --unit={options.unit}")
    if options.export_dir is not None and options.unit == "vocabulary":
        raise UsageError("--export_dir goes with --unit=sentence or token, not with --unit=vocabulary")
    if options.export_dir is not None and token.granularity not in (None, "piece"):
        raise UsageError(f"--export_dir goes with --granularity=piece, not with --granularity={token.granularity}")
    for name in ("source", "min_count"):
        if getattr(token, name) is not None and options.unit != "vocabulary":
            raise UsageError(f"--{name} goes with --unit=vocabulary, not with --unit={options.unit}")
    if token.segmenter is not None and token.granularity != "word":
        raise UsageError("--segmenter goes with --granularity=word")
    if options.unit == "vocabulary" and token.source != "contextual":
        for name in ("layers", "max_length"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name} goes with --source=contextual; the embedding table has no layers and reads no texts"
                )
    if sentence.pooling in ("pooler", "first_last_mean") and options.layers is not None:
        raise UsageError(f"--layers does not go with --pooling={sentence.pooling}, which determines the layers itself")
    if sentence.special_tokens is not None and sentence.pooling not in ("mean", "max", "first_last_mean"):
        raise UsageError("--special_tokens goes with --pooling=mean, max or first_last_mean")
    if sentence.whitening is not None and sentence.fit_whitening is not None:
        raise UsageError("--whitening and --fit_whitening exclude each other")
    if sentence.whitening_dim is not None and sentence.fit_whitening is None:
        raise UsageError("--whitening_dim goes with --fit_whitening; a stored whitening has a fixed number")
    if sentence.fit_whitening is not None:
        if options.output in (None, STDOUT):
            raise UsageError("--fit_whitening reads all vectors before the first is written: it needs an --output other than -")
        check_output("--fit_whitening", sentence.fit_whitening, {})
