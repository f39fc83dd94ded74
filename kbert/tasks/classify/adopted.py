"""Serve classifiers of texts that other toolkits trained: BertForSequenceClassification, and Google's run_classifier.py.

In: a checkpoint with a `classifier`. Out: the objective, by transformers' `problem_type`, and labels. Texts longer than
--max_length are cut on the side at which the checkpoint's tokenizer cuts. Source: transformers 4.57
`pipelines/text_classification.py`, sentence-transformers 5 `CrossEncoder`.
"""

from typing import Any

from kbert.checkpoints.head import PROBLEMS, Unfit, problem_of
from kbert.tasks.adoption import Adopted, Foreign

OBJECTIVES = {problem: objective for objective, problem in PROBLEMS.items()}


def adopt(foreign: Foreign) -> Adopted | None:
    """Return how a classifier is served; see `kbert.tasks.adoption.Adopt`."""
    head = foreign.head
    if foreign.vectors is not None or head is None or head.kind != "classifier":
        return None
    problem, crossed = head.options.get("problem_type"), head.options.get("cross_encoder")
    if crossed == "Sigmoid" and head.size == 1 and foreign.options is None:
        return None  # a cross-encoder
    if not head.options.get("named", True):
        raise Unfit(
            "config.json has no architectures, and the tensors of classifiers of texts and of tokens have the same names; add "
            '"architectures": ["BertForSequenceClassification"] or ["BertForTokenClassification"]'
        )
    if not foreign.checkpoint.has_pooler:
        raise Unfit("the checkpoint has no pooler, which it reads")
    if problem not in (None, *OBJECTIVES):
        raise Unfit(f"problem_type is {problem!r}; expected one of {', '.join(OBJECTIVES)}")
    if crossed not in (None, "Identity", "Sigmoid"):
        raise Unfit(f"sentence-transformers applies {crossed} to its output, which no objective does")
    objective = OBJECTIVES[problem_of(head)]
    if objective == "regression" and head.size > 1:
        raise Unfit(f"problem_type is {problem}, with {head.size} outputs, and --objective=regression has one")
    if objective == "multiclass" and head.size == 1:
        raise Unfit(f"problem_type is {problem}, with one output, whose softmax is always 1")
    labels = () if objective == "regression" else foreign.labels(head)
    if foreign.names is not None and not labels:
        raise Unfit("it gives a number, which has no labels (--labels)")
    pairs = len(foreign.flags.text_columns) == 2 if foreign.flags.text_columns else crossed is not None
    options: dict[str, Any] = {"objective": objective, "pooling": "pooler"}
    if objective == "multilabel":
        options["thresholds"] = "0.5"
    if foreign.truncation == "left" and getattr(foreign.options, "long_text", "head") == "head":
        options["long_text"] = "tail"
    said = {
        "multiclass": f"one of {len(labels)} labels ({', '.join(labels[:8])}{', …' * (len(labels) > 8)})",
        "multilabel": f"any of {len(labels)} labels ({', '.join(labels[:8])}{', …' * (len(labels) > 8)})",
        "regression": "a number, its output",
    }
    return Adopted(
        fields=("text", "text_b") if pairs else ("text",),
        answers=said[objective] + (" for a pair of texts" if pairs else ""),
        head=lambda arrays: {name: arrays[name] for name in ("classifier/kernel", "classifier/bias")},
        labels=labels,
        options=options,
    )
