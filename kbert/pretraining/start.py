"""What a pre-training run starts from: a model from scratch, whose shape flags give, or a checkpoint. No TensorFlow."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from kbert.config import EncoderConfig, ModelFlags
from kbert.errors import UsageError
from kbert.pretrain_config import PretrainConfig
from kbert.settings import flag
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.train.session import check_shape

# (layers, width) as google-research/bert published them; heads of 64, feed-forward layers four times as wide.
SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024)}
POSITIONS = 512  # at least, so that a first phase on short examples can be followed by one on long ones


@dataclass(frozen=True, kw_only=True)
class StartFlags:
    """The shape of a model from scratch."""

    vocab: str | None = flag(None, help="From scratch: vocabulary file, one token per line (kbert make_vocab writes one).")
    lowercase: bool = flag(False, help="From scratch: lowercase the text and strip its accents.")
    size: Literal["tiny", "mini", "small", "medium", "base", "large"] | None = flag(
        None,
        help="From scratch: one of Google's published sizes, "
        + ", ".join(f"{name} ({layers} layers, {width} wide)" for name, (layers, width) in SIZES.items())
        + "; the next flags override parts of it.",
    )
    num_layers: int | None = flag(None, help="From scratch: number of encoder layers.", low=1)
    hidden_dim: int | None = flag(None, help="From scratch: width of the hidden states.", low=1)
    num_heads: int | None = flag(None, help="From scratch: number of attention heads.", otherwise="the width / 64", low=1)
    intermediate_dim: int | None = flag(
        None, help="From scratch: width of the feed-forward layers.", otherwise="4 times the width", low=1
    )


def check_start(start: StartFlags, init: str | None) -> None:
    """Raise UsageError unless a checkpoint, or the vocabulary of a model from scratch, is given."""
    if (init is None) == (start.vocab is None):
        raise UsageError("give one of --init, to continue from a checkpoint, and --vocab, to begin from scratch")
    given = [f"--{f.name}" for f in dataclasses.fields(start) if f.name != "vocab" and getattr(start, f.name)]
    if init is not None and given:
        raise UsageError(f"{given[0]}: --init={init} says what the model is")


def shape_of(start: StartFlags, vocabulary_size: int, max_length: int) -> EncoderConfig:
    """Return the encoder's shape from the flags; raise UsageError where they give none."""
    layers, width = SIZES.get(start.size or "", (None, None))
    layers, width = start.num_layers or layers, start.hidden_dim or width
    if layers is None or width is None:
        raise UsageError("--vocab begins from scratch: give --size, or --num_layers and --hidden_dim")
    heads = start.num_heads or max(1, width // 64)
    if width % heads:
        raise UsageError(f"--num_heads={heads} does not divide the width, {width}")
    return EncoderConfig(
        vocabulary_size=vocabulary_size,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        intermediate_dim=start.intermediate_dim or 4 * width,
        max_sequence_length=max(POSITIONS, max_length),
        activation="gelu",
    )


def check_flags(shape: EncoderConfig, train: PretrainConfig, model_flags: ModelFlags, options: PretrainOptions) -> None:
    """Raise UsageError where the flags ask for what the model cannot do."""
    check_shape(shape, train, model_flags.max_length)
    if train.add_tokens and train.init is None:
        raise UsageError("--add_tokens goes with --init; from scratch, the vocabulary has the tokens")
    if options.pairs and shape.num_segments < 2:
        raise UsageError(f"--objective={options.objective}: the checkpoint knows {shape.num_segments} segment, pairs need 2")
    if options.pairs and model_flags.max_length < 5:
        raise UsageError(f"--max_length={model_flags.max_length}: a pair needs 5 tokens or more")
    if options.pairs is None and train.short_seq_prob != PretrainConfig.short_seq_prob:
        raise UsageError(f"--short_seq_prob={train.short_seq_prob} is for pairs, which --objective=mlm has none of")
    if train.segmenter and train.mask_unit == "piece":
        raise UsageError(f"--segmenter={train.segmenter} says what words are; it needs --mask_unit=word or span")
