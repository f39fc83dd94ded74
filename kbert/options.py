"""Each task's own options, as frozen dataclasses: what a task adds to the flags all tasks share.

They are part of the model (changing one after training would change predictions), and are stored
in its `config.json`. `DEFAULTS` are the task's own defaults of flags that all tasks share; `check` says,
before anything is read, what cannot go with a `--max_length`. No TensorFlow here: the flags are made from
these before anything heavy loads. `FIELDS` are the raw inputs that the task's models can have, `LABELS` how many labels.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kbert.config import NO_LABELS, Labels
from kbert.errors import UsageError
from kbert.tagging.schemes import Scheme
from kbert.tagging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """One label for a text or for a pair of texts."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "text_b"))
    LABELS: ClassVar[Labels] = Labels(2)

    pooling: Literal["pooler", "cls", "mean"] = field(
        default="pooler",
        metadata={
            "help": "What the classifier reads: the checkpoint's pooler over [CLS], the bare [CLS] "
            "vector, or the mean over all tokens, [CLS] and [SEP] too."
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the classifier, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Any length will do."""


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """Entities in a text, with the characters they stand at."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    LABELS: ClassVar[Labels] = Labels(1)

    decoder: Literal["softmax", "crf"] = field(
        default="softmax",
        metadata={
            "help": "How tags are chosen: each word's by itself (softmax), or the best valid sequence of them by a "
            "linear-chain CRF (crf)."
        },
    )
    stride: int = field(
        default=32,
        metadata={"help": "Tokens that neighbouring windows of a text longer than --max_length share at least.", "low": 0},
    )
    tokens: Tokens = field(
        default="auto",
        metadata={
            "help": "Where texts come as tokens (conll), whether these are words, with spaces between, or characters of "
            "unspaced text; auto goes by the training data, and what it finds is kept with the model."
        },
    )
    # Those of the training rows' tags, in which `kbert.predict` writes tags; found by `Tag.settled_on`, and no flags.
    scheme: Scheme = "IOB2"
    untyped: bool = False
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the tagger, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError where windows cannot share `stride` tokens."""
        if self.stride >= max_length - 2:
            raise UsageError(
                f"--stride={self.stride}: windows of --max_length={max_length} hold {max_length - 2} tokens "
                "of text and have to share fewer"
            )


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """The part of a context that answers a question."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("question", "context"),)
    LABELS: ClassVar[Labels] = NO_LABELS
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "text_columns": ("question", "context"),
        "label_column": "answers",
        "max_length": 384,
    }

    max_question_length: int = field(
        default=64,
        metadata={"help": "Longest question, in tokens; the rest is cut.", "low": 1},
    )
    doc_stride: int = field(
        default=128,
        metadata={
            "help": "Tokens that a window of a long context shares with the one before it: an answer of no more lies "
            "whole in one of them. (Hugging Face means the same by it; run_squad.py of google-research/bert the "
            "tokens that a window advances.)",
            "low": 0,
        },
    )
    max_answer_length: int = field(default=30, metadata={"help": "Longest answer, in tokens.", "low": 1})
    n_best: int = field(default=5, metadata={"help": "Answers a question that are served, best first.", "low": 1, "high": 100})
    answer_metric: Literal["auto", "squad", "cmrc"] = field(
        default="auto",
        metadata={
            "help": "Whose exact match and F1 are measured: SQuAD's (words) or CMRC2018's (Chinese characters and "
            "Latin words); auto takes the latter where most gold answers have Chinese characters."
        },
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError where windows cannot hold a question and share `doc_stride` tokens."""
        room = max_length - 3 - self.max_question_length
        if room <= self.doc_stride:
            raise UsageError(
                f"--max_length={max_length} leaves {room} tokens of context beside a question of "
                f"--max_question_length={self.max_question_length}, and --doc_stride={self.doc_stride} has to be less"
            )


@dataclass(frozen=True, kw_only=True)
class MatchOptions:
    """Whether, or how well, a title and a text belong together."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("title", "text"),)
    LABELS: ClassVar[Labels] = Labels(numbers=True)
    DEFAULTS: ClassVar[dict[str, Any]] = {"text_columns": ("title", "text"), "label_column": ""}

    scorer: Literal["cross", "dual"] = field(
        default="cross",
        metadata={
            "help": "How a pair is scored: one encoder reads title and text together (cross, more exact), or each by "
            "itself, and the cosine of their vectors is the score (dual, fast to search with)."
        },
    )
    loss: Literal["auto", "cross_entropy", "squared_error", "in_batch", "cosine", "contrastive"] = field(
        default="auto",
        metadata={
            "help": "cross: cross_entropy (auto) or squared_error against the label, scaled to 0..1. dual: without labels "
            "in_batch (auto), each title against all texts of the batch and each text against all titles; with labels "
            "cosine (auto), the squared error of the cosine, or contrastive, for labels 0 and 1."
        },
    )
    pooling: Literal["auto", "pooler", "cls", "mean", "max"] = field(
        default="auto",
        metadata={
            "help": "Which vector of the encoder is read: the pooler's over [CLS] (auto for cross), the bare [CLS] vector, the "
            "mean (auto for dual) or the maximum over the tokens."
        },
    )
    long_text: Literal["head", "head_tail", "max", "mean"] = field(
        default="head",
        metadata={
            "help": "What is read of a text longer than --max_length: its beginning; its first quarter and its end; or "
            "windows over it, whose scores (cross) or vectors (dual) are joined by their maximum or mean."
        },
    )
    stride: int = field(default=32, metadata={"help": "Tokens that neighbouring windows of a text share at least.", "low": 0})
    max_windows: int = field(default=8, metadata={"help": "Windows of a text that are read, spread evenly over it.", "low": 2})
    max_title_length: int = field(
        default=64,
        metadata={"help": "cross: tokens of the title kept beside a text that --long_text reads beyond its head.", "low": 1},
    )
    negatives: int = field(
        default=1,
        metadata={"help": "cross without labels: texts of other rows drawn for each title, anew each epoch.", "low": 0},
    )
    hard_negatives: int = field(
        default=0,
        metadata={"help": "Without labels: texts of other rows like the title, drawn for it anew each epoch.", "low": 0},
    )
    mining: Literal["lexical", "model"] = field(
        default="lexical",
        metadata={
            "help": "What makes a text a hard negative: words in common with the title (tf-idf), or a vector near the title's "
            "in the model that training starts from."
        },
    )
    temperature: float = field(default=0.05, metadata={"help": "in_batch: what cosines are divided by.", "low": 1e-4})
    margin: float = field(
        default=0.5,
        metadata={"help": "contrastive: cosine distance that pairs labelled 0 are kept apart by.", "low": 0.0, "high": 2.0},
    )
    gradient_cache: int = field(
        default=0,
        metadata={
            "help": "dual: so many inputs pass through the encoder at once in training, twice each, for the same gradients as "
            "with the whole batch in less memory; 0: the whole batch, once.",
            "low": 0,
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "cross: dropout in front of the score, a fraction.", "low": 0.0, "high": 0.9},
    )
    own_negatives: int = 0  # columns of --text_columns behind the title and the text, which hold negatives of training rows

    def check(self, max_length: int) -> None:
        """Any length will do here; what goes together depends on the rows too, and is checked with them."""


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """One thing that texts speak of.

    Attributes:
        name: its column, or its value in a column of aspects.
        coarse: the coarse aspect it is part of, for which sentences are picked.
        readable: what the encoder reads for it.
    """

    name: str
    coarse: str
    readable: str


@dataclass(frozen=True, kw_only=True)
class AspectOptions:
    """What a long text says of aspects: positive, neutral, negative, or nothing."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "aspect"))
    LABELS: ClassVar[Labels] = Labels(1)

    aspects: tuple[Aspect, ...] = ()  # in the order they are served; none where each row names a term of its own
    aspect_names: str | None = field(
        default=None,
        metadata={
            "help": "File of the aspects, one a line: its column or value, a tab, what the model reads for it and, behind "
            "another tab, its coarse aspect. By default the name with spaces for _ is read, and what stands before the first _ "
            "is the coarse aspect."
        },
    )
    filter: Literal["auto", "tfn", "head", "head_tail", "tail", "random", "lexical"] = field(
        default="auto",
        metadata={
            "help": "Which sentences of a text are read for a coarse aspect where --max_length does not hold all: those that "
            "a text filter network picks (tfn), those with words of texts that mention it (lexical), or sentences from the "
            "head, from both ends, from the tail or at random. auto is tfn, but lexical where rows name terms of their own."
        },
    )
    filter_threshold: float = field(
        default=0.0,
        metadata={
            "help": "tfn: least relevance of a sentence that is kept; with none above it, the head of the text is. 0 keeps the "
            "best that fit. (Training texts are those the filter knows: with a threshold nearly all of them that do not "
            "mention an aspect show their head, new ones do not, and the classifier takes the difference for the answer.)",
            "low": 0.0,
            "high": 1.0,
        },
    )
    filter_pooling: Literal["log_sum_exp", "max", "attention"] = field(
        default="log_sum_exp",
        metadata={
            "help": "tfn: how what a text mentions follows from its sentences, while that is learnt: a soft maximum, the "
            "maximum, or their mean weighed by attention over them."
        },
    )
    filter_units: int = field(default=64, metadata={"help": "tfn: units of the LSTM in each direction.", "low": 1})
    filter_dropout: float = field(
        default=0.3, metadata={"help": "tfn: dropout while it is trained, a fraction.", "low": 0.0, "high": 0.9}
    )
    filter_epochs: int = field(
        default=2,
        metadata={"help": "tfn: passes over the training data; with more it knows the classifier's texts by heart.", "low": 1},
    )
    filter_learning_rate: float = field(default=4e-3, metadata={"help": "tfn: peak learning rate.", "low": 0.0})
    pooling: Literal["cls", "aspect_attention"] = field(
        default="aspect_attention",
        metadata={
            "help": "What the classifier reads: the [CLS] vector, or it and the text's tokens as the aspect's tokens attend "
            "to them."
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the classifier, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError where an input does not hold an aspect and some text."""
        if max_length < 16:
            raise UsageError(f"--max_length={max_length}: an aspect and the text read for it need 16 tokens or more")


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """What is learnt from plain text; for `kbert.pretrain`, and so none of `OPTIONS`."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    LABELS: ClassVar[Labels] = NO_LABELS

    objective: Literal["mlm+nsp", "mlm", "mlm+sop"] = field(
        default="mlm+nsp",
        metadata={
            "help": "Masked LM with next-sentence pairs as in BERT's paper, masked LM alone on stretches of whole sentences as "
            "in RoBERTa's, or masked LM with the order of two segments as in ALBERT's."
        },
    )
    n_best: int = field(
        default=5, metadata={"help": "Pieces that are served for each [MASK], best first.", "low": 1, "high": 100}
    )

    @property
    def pairs(self) -> str | None:
        """What is learnt of pairs of segments: "nsp", "sop" or nothing."""
        return self.objective.partition("+")[2] or None

    def check(self, max_length: int) -> None:
        """Any length will do."""


OPTIONS: dict[str, type] = {
    "classify": ClassifyOptions,
    "tag": TagOptions,
    "answer": AnswerOptions,
    "match": MatchOptions,
    "aspect": AspectOptions,
}

# Of all models that a directory can hold.
RECORDED: dict[str, Any] = {**OPTIONS, "pretrain": PretrainOptions}
