"""Serve cross-encoders that sentence-transformers trained: BertForSequenceClassification with one output for a pair.

In: a checkpoint with a `classifier` of one output. Out: the settings that give its sigmoid. Source: sentence-transformers 5
`CrossEncoder.predict`, whose default for one output is the sigmoid.
"""

from kbert.checkpoints.head import Unfit
from kbert.tasks.adoption import Adopted, Foreign
from kbert.tasks.match.options import BINARY, MatchOptions


def adopt(foreign: Foreign) -> Adopted | None:
    """Return how a cross-encoder is served; see `kbert.tasks.adoption.Adopt`."""
    head, asked = foreign.head, foreign.options is not None
    if head is None or head.kind != "classifier" or head.size != 1:
        return None
    crossed, problem = head.options.get("cross_encoder"), head.options.get("problem_type")
    if crossed not in (None, "Sigmoid") or problem is not None:
        if asked:
            raise Unfit("it gives a number without limits; --task=classify serves it")
        return None
    if not foreign.checkpoint.has_pooler:
        raise Unfit("the checkpoint has no pooler, which it reads")
    return Adopted(
        fields=MatchOptions.FIELDS[0],
        answers="a score from 0 to 1 for a pair of texts, the sigmoid of its output",
        head=lambda arrays: {f"score/{name}": arrays[f"classifier/{name}"] for name in ("kernel", "bias")},
        labels=BINARY,
        options={"scorer": "cross", "loss": "cross_entropy", "pooling": "pooler"},
        label_column="label",
    )
