"""Serve question answering heads that other toolkits trained: BertForQuestionAnswering, and Google's run_squad.py.

In: a checkpoint with a `span` head. Out: the settings with which answers are those of transformers' `run_qa.py`:
windows of 384 tokens that share 128, answers of up to 30 tokens. Source: transformers 4.57
`examples/pytorch/question-answering/utils_qa.py`.
"""

from kbert.tasks.adoption import Adopted, Foreign
from kbert.tasks.answer.options import AnswerOptions


def adopt(foreign: Foreign) -> Adopted | None:
    """Return how a question answering head is served; see `kbert.tasks.adoption.Adopt`."""
    if foreign.head is None or foreign.head.kind != "span":
        return None
    return Adopted(
        fields=AnswerOptions.FIELDS[0],
        answers="the part of a context that answers a question",
        head=lambda arrays: {name: arrays[name] for name in ("span/kernel", "span/bias")},
        max_length=AnswerOptions.DEFAULTS["max_length"],
    )
