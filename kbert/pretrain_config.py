"""Define the configuration of pre-training, and of making its examples from plain text. No TensorFlow."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from kbert.config import RunConfig
from kbert.settings import flag
from kbert.source import SourceConfig

TEXT_HELP = "Key of the text in JSON lines, of which each object is a document."


@dataclass(frozen=True, kw_only=True)
class ExampleFlags:
    """Settings of making pre-training examples from plain text."""

    layout: Literal["sentences", "documents"] = flag(
        "sentences",
        help="Layout of the text files: one sentence per line with a blank line between documents, or one document per line, "
        "which is split into sentences (Chinese and English). JSON lines and the output of WikiExtractor are recognised.",
    )
    text_column: str = flag("text", help=TEXT_HELP)
    encoding: str = flag("utf-8", help="Character encoding of the files, for example gb18030.")
    segmenter: str | None = flag(
        None,
        help="Word segmenter for --mask_unit=word and span: jieba (pip install 'kbert-keras[jieba]'), or module:function of "
        "your own.",
        otherwise="words are separated by spaces; each Chinese character is a word",
    )
    mask_unit: Literal["piece", "word", "span"] = flag(
        "piece", help="Unit to mask as a whole: WordPieces, words, or spans of 1 to 10 words as in SpanBERT."
    )
    mask_rate: float = flag(0.15, help="Fraction of an example's tokens to predict.", low=0.01, high=0.9)
    max_predictions: int | None = flag(
        None,
        help="Maximum number of predictions per example.",
        otherwise="--mask_rate of --max_length, rounded up: 20 for 128 tokens, 77 for 512, as in the paper",
        low=1,
    )
    short_seq_prob: float = flag(
        0.1, help="Fraction of the documents that are cut into pairs of a random shorter length.", low=0.0, high=1.0
    )

    def predictions(self, max_length: int) -> int:
        """Return the maximum number of predictions of an example of up to `max_length` tokens."""
        return math.ceil(self.mask_rate * max_length) if self.max_predictions is None else self.max_predictions


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig, ExampleFlags):
    """How a model is pre-trained on plain text; nothing here changes an answer of the model once it is trained."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"learning_rate": 1e-4, "warmup_ratio": 0.01, "epochs": 10, "loss_limit": 3.0}
    source: ClassVar[SourceConfig] = SourceConfig()  # how `kbert.predict` reads texts to fill

    train_data: str = flag(
        help="Text to learn from: plain text files (.gz and globs work, - for standard input), or *.tfrecord shards of kbert "
        "make_pretraining_data."
    )
    init: str | None = flag(
        None, help="Checkpoint to continue from, with its vocabulary and shape; without it, --vocab starts from scratch."
    )
    dev_data: str | None = flag(None, help="Held-out text or shards, evaluated but not trained on; as --train_data.")
    dev_fraction: float | None = flag(
        None,
        help="Without --dev_data: fraction of the documents held out (0.05 when neither is given). Equal documents stay in one"
        " split.",
        low=0.0001,
        high=0.9,
    )
    dev_examples: int = flag(2000, help="Maximum number of held-out examples to evaluate.", low=1)
    skip_damaged_shards: bool = flag(False, help="Skip shards that are damaged or truncated, and list them.")
