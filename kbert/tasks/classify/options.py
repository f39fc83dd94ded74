"""The options of `--task=classify`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from kbert.config import NO_LABELS, Labels
from kbert.errors import UsageError
from kbert.settings import flag, within
from kbert.tasks.options import TaskOptions

LARGEST = 1e30  # of regression's targets, which the model answers in float32


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(TaskOptions):
    """One label, several labels or a number for a text or for a pair of texts."""

    ABOUT: ClassVar[str] = "one label, several labels or a number for a text, or for a pair of texts"
    ALSO: ClassVar[tuple[str, ...]] = (
        "text-classification",
        "sequence-classification",
        "sentiment",
        "sentiment-analysis",
        "classification",
        "cls",
        "cola",
        "sst2",
        "sst-2",
        "mnli",
        "nli",
        "mrpc",
        "qqp",
        "single",
        "pair",
        "classifier",
        "multilabel",
        "multi-label",
        "regression",
    )
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "text_b"))
    LABELS: ClassVar[Labels] = Labels(2)  # of one class a row

    objective: Literal["multiclass", "multilabel", "regression"] = flag(
        "multiclass",
        help="What a row's label is: one class (multiclass), any number of labels (multilabel) or a number (regression).",
    )
    label_separator: str = flag(
        ",",
        help="multilabel: separator of the labels within a cell of --label_column; a JSON list needs none. Several columns in "
        "--label_column, one a label, hold 0 or 1. An empty cell is no label; ? or null is unknown, and not learnt.",
    )
    thresholds: Literal["per_label", "shared", "0.5"] = flag(
        "per_label",
        help="multilabel: the probability from which a label is predicted. per_label: the one with the best F1 on dev, for each"
        " label; shared: one for all labels, with the best micro F1 on dev.",
    )
    loss: Literal["auto", "cross_entropy", "focal", "squared_error"] = flag(
        "auto",
        help="The loss: auto is cross_entropy, or squared_error for regression. focal gives less weight to rows that are "
        "predicted well already.",
    )
    focal_gamma: float = flag(2.0, help="--loss=focal: exponent; 0 is cross_entropy.", low=0.0, high=10.0)
    label_smoothing: float = flag(
        0.0, help="Share of the target that is spread evenly over all classes in training.", low=0.0, high=0.9
    )
    class_weights: str = flag(
        "none",
        help="Weights of the classes in the loss. balanced: rows / (classes * rows of the class); for multilabel, each label's "
        "positives weigh negatives / positives. Or a file: a label, a tab and its weight per line; labels not listed weigh 1.",
    )
    sample_weight_column: str | None = flag(
        None, help="Column of the training data with the weight of each row in the loss, a number of at least 0."
    )
    calibrate: Literal["none", "temperature"] = flag(
        "none", help="temperature: divide the scores by the number that gives dev's labels the highest probability."
    )
    abstain: float = flag(
        0.0,
        help="multiclass: the accuracy that answers are to have, for example 0.95. Answers whose probability is below the "
        "lowest threshold for which dev shows it (with 95 % confidence) come with abstain = true. 0: never abstain.",
        low=0.0,
        high=0.9999,
    )
    long_text: Literal["head", "tail", "head_tail", "windows"] = flag(
        "head",
        help="What to read of a text longer than --max_length: its head; its tail; its head for a quarter of the length and "
        "its tail for the rest (head_tail); or windows over all of it, whose scores are combined by --window_pooling. Of a "
        "pair, the second text.",
    )
    window_pooling: Literal["max", "mean", "attention"] = flag(
        "mean",
        help="--long_text=windows: how the scores of a text's windows are combined: their maximum, their mean, or a mean whose "
        "weights are learnt.",
    )
    stride: int | None = flag(
        None,
        help="--long_text=windows: minimum number of tokens that neighbouring windows share.",
        otherwise="32, or a quarter of the tokens that --max_length leaves for text where that is less",
        low=0,
    )
    max_windows: int = flag(8, help="--long_text=windows: maximum number of windows of a text, spread evenly over it.", low=2)
    pooling: Literal["pooler", "cls", "mean"] = flag(
        "pooler",
        help="Input of the classifier: the checkpoint's pooler over [CLS], the bare [CLS] vector, or the mean over all tokens,"
        " including [CLS] and [SEP].",
    )
    head_dropout: float = flag(0.1, help="Dropout rate before the classifier.", low=0.0, high=0.9)

    label_columns: tuple[str, ...] = ()  # multilabel: the columns, one a label; empty if a cell lists the labels
    label_weights: tuple[float, ...] = ()  # of the labels, by --class_weights; empty if all weigh 1
    target_mean: float = within(0.0, low=-LARGEST, high=LARGEST)  # regression: of the training targets, which are standardised
    target_deviation: float = within(1.0, low=1 / LARGEST, high=LARGEST)

    @property
    def allowed_labels(self) -> Labels:
        return {"multiclass": self.LABELS, "multilabel": Labels(1), "regression": NO_LABELS}[self.objective]

    @property
    def windowed(self) -> bool:
        """Whether long texts are read in windows."""
        return self.long_text == "windows"

    def check(self, max_length: int) -> None:
        """Raise UsageError for flags of another objective, and for windows without room."""
        of = f"--objective={self.objective}"
        allowed = ("auto", "squared_error") if self.objective == "regression" else ("auto", "cross_entropy", "focal")
        if self.loss not in allowed:
            raise UsageError(f"--loss={self.loss}: {of} has {', '.join(allowed)}")
        if self.objective == "regression":
            for name in ("label_smoothing", "class_weights", "calibrate"):
                value = getattr(self, name)
                if value != getattr(ClassifyOptions, name):
                    raise UsageError(f"--{name}={value}: {of} has no classes")
        for name in ("label_separator", "thresholds"):
            value = getattr(self, name)
            if self.objective != "multilabel" and value != getattr(ClassifyOptions, name):
                raise UsageError(f"--{name}={value}: {of} does not use it; it is for --objective=multilabel")
        if not self.label_separator.strip() and self.label_separator not in (" ", "\t"):
            raise UsageError(f"--label_separator={self.label_separator!r}: expected a character or a word")
        if any(weight < 0 for weight in self.label_weights):
            raise UsageError(f"--class_weights: expected weights of at least 0, found {min(self.label_weights)}")
        if self.abstain and self.objective != "multiclass":
            raise UsageError(f"--abstain={self.abstain}: is for --objective=multiclass")
        if self.focal_gamma != ClassifyOptions.focal_gamma and self.loss != "focal":
            raise UsageError(f"--focal_gamma={self.focal_gamma}: is for --loss=focal")
        for name in ("window_pooling", "stride", "max_windows"):
            value = getattr(self, name)
            if not self.windowed and value != getattr(ClassifyOptions, name):
                raise UsageError(f"--{name}={value}: is for --long_text=windows")
        if self.windowed and max_length - 4 <= self.shared(max_length):
            room = f"--max_length={max_length} leaves {max_length - 3} tokens of text"
            raise UsageError(f"{room}; --stride={self.shared(max_length)} has to be less by 2 or more")

    def shared(self, max_length: int) -> int:
        """Return how many tokens neighbouring windows share at least."""
        return min(32, max(0, max_length - 3) // 4) if self.stride is None else self.stride

    def completed(self, max_length: int) -> Self:
        return dataclasses.replace(self, stride=self.shared(max_length)) if self.windowed else self

    def segments(self, fields: Sequence[str]) -> int:
        return len(fields)
