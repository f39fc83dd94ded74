"""Serve taggers that other toolkits trained: BertForTokenClassification.

In: a checkpoint with a `tagger`. Out: its types, and how its outputs are read as entities: IOB1 and IOB2, BIOES, BILOU, BMES,
or types without prefixes. The tag of a word is that of its first piece. Source: transformers 4.57
`pipelines/token_classification.py`, whose `aggregation_strategy="first"` reads B- and I- alike.
"""

import numpy as np

from kbert.checkpoints import Arrays
from kbert.checkpoints.head import Unfit, ordered
from kbert.data.spans import tag_names
from kbert.tasks.adoption import Adopted, Foreign
from kbert.tasks.tag.outputs import Outputs

SCHEMES = {"bare": "types without prefixes", "IO": "types without prefixes and O"}


def adopt(foreign: Foreign) -> Adopted | None:
    """Return how a tagger is served; see `kbert.tasks.adoption.Adopt`."""
    head = foreign.head
    if head is None or head.kind != "tagger":
        return None
    labels = foreign.labels(head)
    if not head.named and foreign.names is None:
        raise Unfit(
            f"its {head.size} outputs have numbers but no names, so which is O is not known; name them in order in a file, "
            "--labels=FILE"
        )
    try:
        outputs = Outputs.read(labels)
    except ValueError as error:
        raise Unfit(str(error)) from None
    own = tag_names(outputs.types)
    places = np.array([outputs.names.index(name) for name in own] if outputs.plain else range(head.size))

    def arrays(found: Arrays) -> Arrays:
        return ordered(found, "tagger", places)

    scheme = SCHEMES.get(outputs.tags.scheme, outputs.tags.scheme)
    kinds = ", ".join(outputs.types[:8]) + ", …" * (len(outputs.types) > 8)
    return Adopted(
        fields=("text",),
        answers=f"entities of {len(outputs.types)} types ({kinds}), tagged in {scheme}",
        head=arrays,
        labels=outputs.types,
        options={
            "scheme": outputs.tags.scheme,
            "untyped": outputs.tags.untyped,
            "decoder": "softmax",
            "outputs": () if outputs.plain else outputs.names,
        },
    )
