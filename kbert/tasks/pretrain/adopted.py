"""Serve masked language models that other toolkits trained: BertForMaskedLM, BertForPreTraining, and Google's BERT.

In: a checkpoint with a masked LM head. Out: the objective; a next-sentence head is kept. Source: transformers 4.57
`pipelines/fill_mask.py`.
"""

from kbert.checkpoints.head import Unfit
from kbert.data.vocabulary import MASK
from kbert.tasks.adoption import Adopted, Foreign


def adopt(foreign: Foreign) -> Adopted | None:
    """Return how a masked language model is served; see `kbert.tasks.adoption.Adopt`."""
    checkpoint = foreign.checkpoint
    if foreign.vectors is not None or foreign.head is not None:
        return None
    if "mlm_head/output_bias" not in checkpoint.shapes:
        if any(name.endswith("cls.predictions.bias") for name in checkpoint.ignored):
            raise Unfit("the masked LM's decoder is not tied to the token embeddings, as BERT's is")
        return None
    if MASK not in checkpoint.vocabulary:
        raise Unfit(f"the vocabulary has no {MASK}")
    pairs = checkpoint.has_pooler and "nsp_head/kernel" in checkpoint.shapes and checkpoint.encoder.num_segments > 1
    kept = ("mlm_head/", "nsp_head/") if pairs else ("mlm_head/",)
    return Adopted(
        fields=("text",),
        answers=f"the pieces that may be at each {MASK} of a text",
        head=lambda arrays: {name: array for name, array in arrays.items() if name.startswith(kept)},
        options={"objective": "mlm+nsp" if pairs else "mlm"},
    )
