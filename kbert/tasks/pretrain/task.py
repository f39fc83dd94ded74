"""What stands behind [MASK]: BERT's own pre-training task, and what a pre-trained model can answer.

It is trained by `kbert.pretrain` on examples of `kbert.pretraining`, with the masked LM's head and, for pairs of segments,
the next-sentence head (Devlin et al. 2019, section 3.1; google-research/bert `run_pretraining.py`) or that of their order
(Lan et al. 2020, ALBERT, section 3.1). Served, it reads raw `text` that spells [MASK] and gives, for each of them, the
`pieces` of highest probability with their `probabilities`; `count` of them a text, and `cut` behind --max_length.
"""

from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.config import ModelConfig
from kbert.data.tokenizer import Tokenizer
from kbert.data.vocabulary import MASK
from kbert.errors import DataError
from kbert.model import fused, heads
from kbert.model.encoder import Encoder
from kbert.settings import from_json
from kbert.tasks.base import Built, Encoded, Lengths, Storable, Tensors
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.tasks.reports import Report

MASKS_AT_ONCE = 256  # whose logits over the vocabulary are in memory together


class PretrainReport(Report):
    """Figures of held-out examples, as `kbert.pretraining.measure` makes them."""

    def scalars(self) -> dict[str, float]:
        parts = {name: part for name, part in self.metrics.items() if isinstance(part, dict)}
        figures = {f"{name}_{figure}": value for name, part in parts.items() for figure, value in part.items()}
        counts = ("predictions", "pairs")
        return {
            "loss": self.metrics["loss"],
            **{name: value for name, value in figures.items() if not name.endswith(counts)},
        }

    def table(self) -> str:
        lines = []
        for name, part in self.metrics.items():
            if isinstance(part, dict):
                shown = [f"{f} {v:,}" if isinstance(v, int) else f"{f} {v:.4f}" for f, v in part.items()]
                lines.append(f"{name}: {'   '.join(shown)}")
        return "\n".join([*lines, f"loss {self.metrics['loss']:.4f}"])


class BestPieces(keras.layers.Layer):
    """The most probable pieces at each [MASK]: hidden states and ids to float32 [batch, tokens, 2 * n_best].

    First the probabilities, then the ids, the best first; 0 where no [MASK] stands. Probabilities are shares among the
    first `pieces` ids: an embedding table may have more rows than the vocabulary has pieces.
    """

    def __init__(self, head: heads.MaskedLM, mask_id: int, n_best: int, pieces: int):
        super().__init__(name="best_pieces", dtype="float32")
        self.head, self.mask_id, self.n_best, self.pieces = head, mask_id, n_best, pieces

    def call(self, hidden: Any, token_ids: Any) -> Any:
        where = tf.where(token_ids == self.mask_id)
        rows = tf.gather_nd(hidden, where)  # [masks, hidden]
        masks = tf.shape(rows)[0]

        def some(start: tf.Tensor, number: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            probabilities = tf.nn.softmax(self.head.logits(rows[start : start + MASKS_AT_ONCE])[:, : self.pieces])
            best, ids = tf.math.top_k(probabilities, self.n_best)
            return start + MASKS_AT_ONCE, number + 1, kept.write(number, tf.concat([best, tf.cast(ids, tf.float32)], -1))

        parts = tf.maximum(-(-masks // MASKS_AT_ONCE), 1)
        found = tf.TensorArray(tf.float32, parts, infer_shape=False, element_shape=[None, 2 * self.n_best])
        _, _, found = tf.while_loop(lambda start, number, kept: number < parts, some, (0, 0, found))
        return tf.scatter_nd(where, found.concat(), tf.cast(tf.concat([tf.shape(token_ids), [2 * self.n_best]], 0), tf.int64))

    def compute_output_spec(self, hidden: Any, token_ids: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*token_ids.shape, 2 * self.n_best), "float32")


class Pretrain(Storable):
    """The task `pretrain`; see `kbert.tasks.base` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("loss", "min")
    figures: ClassVar[tuple[str, ...]] = (
        "loss",
        *(f"mlm_{name}" for name in ("loss", "perplexity", "accuracy")),
        *(f"{pairs}_{name}" for pairs in ("nsp", "sop") for name in ("loss", "accuracy")),
    )

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.options: PretrainOptions = from_json(PretrainOptions, config.options, "options")
        if tokenizer.mask_id is None:
            raise DataError(f"the vocabulary has no {MASK} among its {len(tokenizer.vocabulary):,} tokens")
        self.mask_id = tokenizer.mask_id
        self.n_best = min(self.options.n_best, len(tokenizer.vocabulary))

    def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self.tokenizer.tokenize_with_masks(texts)

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths:
        whole = tokens["text"][:, None] + 2
        return Lengths(whole, np.minimum(whole, self.config.max_length), "texts", f"--max_length={self.config.max_length}")

    def encode(self, raw: Tensors) -> Encoded:
        length = self.config.max_length
        return self.tokenizer.pack([self.tokenizer.tokenize_with_masks(raw["text"], max_words=length)], length)

    def build(self, encoder: Encoder) -> Built:
        ids = heads.inputs()
        inputs = {**ids, "masked_positions": keras.Input((None,), dtype="int32", name="masked_positions")}
        # [CLS], then the masked tokens: no other states are read.
        hidden = encoder(ids, positions=keras.ops.pad(inputs["masked_positions"], [[0, 0], [1, 0]]))
        head = heads.MaskedLM(encoder)
        outputs = {"mlm": head(hidden[:, 1:])}
        pooled = heads.Pool(encoder, "pooler" if self.options.pairs else "cls")(hidden, inputs["padding_mask"])
        if self.options.pairs:
            outputs[self.options.pairs] = heads.dense_head(pooled, 2, name=f"{self.options.pairs}_head")
        pieces = BestPieces(head, self.mask_id, self.n_best, len(self.tokenizer.vocabulary))
        return Built(
            model=keras.Model(inputs, outputs, name="pretrain"),
            loss=dict.fromkeys(outputs, fused.cross_entropy),
            metrics={name: [keras.metrics.SparseCategoricalAccuracy(name=f"{name}_accuracy")] for name in outputs},
            answering=keras.Model(ids, pieces(encoder(ids), ids["token_ids"]), name="fill"),
        )

    def decode(self, outputs: tf.RaggedTensor, encoded: Encoded, raw: Tensors) -> Tensors:
        ids = encoded["token_ids"].with_row_splits_dtype(outputs.row_splits.dtype)
        best = tf.ragged.boolean_mask(outputs, ids.with_values(ids.values == self.mask_id))  # [rows, (masks), 2 * n_best]
        n = self.n_best
        found = best.to_tensor(shape=[None, None, 2 * n])
        pieces = tf.gather(tf.constant(self.tokenizer.vocabulary), tf.cast(found[..., n:], tf.int32))
        count = tf.cast(best.row_lengths(), tf.int32)
        there = tf.sequence_mask(count, tf.shape(found)[1])[..., None]
        spelt = tf.cast(tf.strings.split(raw["text"], MASK).row_lengths(), tf.int32) - 1
        return {"pieces": tf.where(there, pieces, ""), "probabilities": found[..., :n], "count": count, "cut": spelt - count}

    def decode_ids(self, outputs: tf.Tensor) -> Tensors:
        """Return the best pieces at each [MASK], strings [inputs, tokens, n]; zeros and "" elsewhere."""
        there = outputs[..., :1] > 0.0
        pieces = tf.gather(tf.constant(self.tokenizer.vocabulary), tf.cast(outputs[..., self.n_best :], tf.int32))
        return {"pieces": tf.where(there, pieces, ""), "probabilities": outputs[..., : self.n_best]}

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        cut = int(decoded["cut"][row])
        columns = (decoded[name][row, : decoded["count"][row]].tolist() for name in ("pieces", "probabilities"))
        return {
            "masks": [
                [{"piece": p.decode(), "probability": probability} for p, probability in zip(*best, strict=True)]
                for best in zip(*columns, strict=True)
            ],
            **({"masks_cut": cut} if cut else {}),
        }

    @staticmethod
    def report(metrics: dict[str, Any]) -> PretrainReport:
        return PretrainReport(metrics)


TASK = Pretrain
