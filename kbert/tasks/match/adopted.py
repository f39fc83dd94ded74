"""Serve what sentence-transformers trained: models of sentence vectors, and cross-encoders (one output for a pair).

In: a checkpoint with modules.json, or with a `classifier` of one output. Out: the settings that give its vectors and their
cosines, or the output's sigmoid. Source: sentence-transformers 5 `SentenceTransformer.encode`, and `CrossEncoder.predict`,
whose default for one output is the sigmoid.
"""

from kbert.checkpoints.head import Unfit
from kbert.checkpoints.sentence_transformers import SentenceSettings
from kbert.tasks.adoption import Adopted, Foreign
from kbert.tasks.match.options import BINARY, MatchOptions


def adopt(foreign: Foreign) -> Adopted | None:
    """Return how a model of vectors or a cross-encoder is served; see `kbert.tasks.adoption.Adopt`."""
    found = _dual(foreign, foreign.vectors) if foreign.vectors is not None else _cross(foreign)
    if found is not None and foreign.truncation == "left":
        raise Unfit("tokenizer_config.json has truncation_side left, and --task=match cuts long texts at their end")
    return found


def _dual(foreign: Foreign, vectors: SentenceSettings) -> Adopted:
    if len(vectors.pooling) > 1:
        raise Unfit(f"it joins the poolings {' and '.join(vectors.pooling)}; kbert encode --export_dir serves such vectors")
    if vectors.similarity != "cosine" and not (vectors.similarity == "dot" and vectors.normalize):
        raise Unfit(
            f"config_sentence_transformers.json has similarity_fn_name {vectors.similarity}, and --scorer=dual has the cosine; "
            "kbert encode --export_dir serves the vectors alone"
        )
    if vectors.prompt is not None:
        raise Unfit(
            f"config_sentence_transformers.json has default_prompt_name {vectors.prompt}, a text that is prepended to every "
            "input; remove it there, and prepend it to the texts"
        )
    (pooling,) = vectors.pooling
    how = ", ".join([pooling, *map(str, vectors.projections), *(["scaled to length 1"] if vectors.normalize else [])])
    options = {"scorer": "dual", "pooling": pooling, "normalize": vectors.normalize, "projections": vectors.projections}
    return Adopted(
        fields=MatchOptions.FIELDS[0],
        answers=f"the vector of a text ({how}), and the cosine of two texts'",
        head=lambda _: vectors.layers(),
        options=options,
        label_column="",
    )


def _cross(foreign: Foreign) -> Adopted | None:
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
