"""The table of BERT's weights: kbert's variable paths, Hugging Face's and Google's names, and shapes.

kbert's paths are those of KerasHub's `BertBackbone`; for heads, those of its `MaskedLMHead` and of kbert's tasks. Both
other forms hold the same numbers; PyTorch's dense layers (and Google's output layers) store a matrix as
[out, in], and KerasHub's attention has a separate axis for heads. Sources: transformers `modeling_bert.py`;
google-research/bert `modeling.py`, `run_pretraining.py`, `run_classifier.py`, `run_squad.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kbert.config import EncoderConfig

Naming = Literal["hugging_face", "google"]
ENCODER = ("token_embedding", "position_embedding", "segment_embedding", "embeddings_layer_norm", "transformer_layer_")
PRETRAINING = {"mlm_head": "masked LM", "nsp_head": "next sentence", "sop_head": "sentence order"}
# Output layers that other libraries have too; a checkpoint has at most one. kbert's other layers are in no table.
OUTPUTS = {"classifier": "classifier", "tagger": "token classifier", "span": "question answering head"}
HEADS = PRETRAINING | OUTPUTS


# Hugging Face's name and Google's prefix; which has no token classifier.
PLACES = {"classifier": ("classifier", ""), "tagger": ("classifier", "none/"), "span": ("qa_outputs", "cls/squad/")}


@dataclass(frozen=True)
class Row:
    """One weight.

    Attributes:
        path: kbert's path.
        shape: kbert's shape.
        flat: the same as a matrix [in, out] or a vector.
        names: the names in other forms.
        turned: the forms that store the matrix as [out, in].
    """

    path: str
    shape: tuple[int, ...]
    flat: tuple[int, ...]
    names: dict[Naming, str]
    turned: tuple[Naming, ...] = ()

    @property
    def part(self) -> str:
        """The group of weights that is present or missing as a whole: `encoder`, `pooled_dense` or a head's layer."""
        return "encoder" if self.path.startswith(ENCODER) else self.path.split("/")[0]

    @property
    def of_head(self) -> bool:
        """Whether the weight belongs to a head, and not to the encoder or its pooler."""
        return of_head(self.path)

    def stored(self, naming: Naming) -> tuple[int, ...]:
        """Return the shape in another form."""
        return self.flat[::-1] if naming in self.turned else self.flat

    def read(self, array: np.ndarray, naming: Naming) -> np.ndarray:
        """Convert an array of shape `stored` from another form to kbert's; float32."""
        array = array.T if naming in self.turned else array
        return np.ascontiguousarray(array.reshape(self.shape), dtype=np.float32)

    def written(self, array: np.ndarray, naming: Naming) -> np.ndarray:
        """Convert kbert's array to another form; float32."""
        array = array.reshape(self.flat)
        return np.ascontiguousarray(array.T if naming in self.turned else array, dtype=np.float32)


def rows(encoder: EncoderConfig, outputs: Mapping[str, int] | None = None) -> Iterator[Row]:
    """Return the table for an encoder of these sizes, with the pre-training heads and those `OUTPUTS` whose size is given."""
    e, hidden, wide = encoder, encoder.hidden_dim, encoder.intermediate_dim
    split = (e.num_heads, hidden // e.num_heads)
    for ours, theirs, size in (
        ("token", "word", e.vocabulary_size),
        ("position", "position", e.max_sequence_length),
        ("segment", "token_type", e.num_segments),
    ):
        name = f"embeddings.{theirs}_embeddings"
        yield _row(f"{ours}_embedding/embeddings", (size, hidden), f"{name}.weight", _slashed(name))
    yield from _norm("embeddings_layer_norm", "embeddings.LayerNorm", hidden)
    for i in range(e.num_layers):
        ours, theirs = f"transformer_layer_{i}", f"encoder.layer.{i}"
        for p in ("query", "key", "value"):
            at = f"{ours}/self_attention_layer/{p}"
            yield from _dense(at, f"{theirs}.attention.self.{p}", (hidden, hidden), (hidden, *split), split)
        at = f"{ours}/self_attention_layer/attention_output"
        yield from _dense(at, f"{theirs}.attention.output.dense", (hidden, hidden), (*split, hidden))
        yield from _norm(f"{ours}/self_attention_layer_norm", f"{theirs}.attention.output.LayerNorm", hidden)
        yield from _dense(f"{ours}/feedforward_intermediate_dense", f"{theirs}.intermediate.dense", (hidden, wide))
        yield from _dense(f"{ours}/feedforward_output_dense", f"{theirs}.output.dense", (wide, hidden))
        yield from _norm(f"{ours}/feedforward_layer_norm", f"{theirs}.output.LayerNorm", hidden)
    yield from _dense("pooled_dense", "pooler.dense", (hidden, hidden))

    transform = "cls.predictions.transform"
    yield from _dense("mlm_head/intermediate_dense", f"{transform}.dense", (hidden, hidden))
    yield from _norm("mlm_head/intermediate_layer_norm", f"{transform}.LayerNorm", hidden)
    yield _row("mlm_head/output_bias", (e.vocabulary_size,), "cls.predictions.bias", "cls/predictions/output_bias")
    yield from _output("nsp_head", "cls.seq_relationship", "cls/seq_relationship/", hidden, 2)
    yield from _output("sop_head", "sop_head", "sop_head/", hidden, 2)  # kbert only; `write_checkpoint` omits it
    for part, size in (outputs or {}).items():
        yield from output_rows(part, hidden, size)


def output_rows(part: str, hidden: int, size: int) -> Iterator[Row]:
    """Yield kernel and bias of one of `OUTPUTS`."""
    return _output(part, *PLACES[part], hidden, size)


def of_head(path: str) -> bool:
    """Return whether kbert's path belongs to a head, and not to the encoder or its pooler."""
    return not path.startswith((*ENCODER, "pooled_dense/"))


def _row(path: str, shape: tuple[int, ...], hugging_face: str, google: str) -> Row:
    return Row(path, shape, shape, {"hugging_face": hugging_face, "google": google})


def _slashed(name: str) -> str:
    name = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
    return name if name.startswith("cls/") else f"bert/{name}"


def _dense(
    path: str,
    name: str,
    flat: tuple[int, int],
    shape: tuple[int, ...] | None = None,
    bias: tuple[int, ...] | None = None,
) -> Iterator[Row]:
    google = _slashed(name)
    names: dict[Naming, str] = {"hugging_face": f"{name}.weight", "google": f"{google}/kernel"}
    yield Row(f"{path}/kernel", shape or flat, flat, names, ("hugging_face",))
    yield Row(f"{path}/bias", bias or flat[1:], flat[1:], {"hugging_face": f"{name}.bias", "google": f"{google}/bias"})


def _norm(path: str, name: str, size: int) -> Iterator[Row]:
    yield _row(f"{path}/gamma", (size,), f"{name}.weight", f"{_slashed(name)}/gamma")
    yield _row(f"{path}/beta", (size,), f"{name}.bias", f"{_slashed(name)}/beta")


def _output(path: str, name: str, google: str, hidden: int, outputs: int) -> Iterator[Row]:
    names: dict[Naming, str] = {"hugging_face": f"{name}.weight", "google": f"{google}output_weights"}
    yield Row(f"{path}/kernel", (hidden, outputs), (hidden, outputs), names, ("hugging_face", "google"))
    yield _row(f"{path}/bias", (outputs,), f"{name}.bias", f"{google}output_bias")
