"""BERT as parts of a Keras model of one's own: an encoder layer, and the tokenizer that makes its inputs in the graph.

In: strings, or ids and masks, each [texts, tokens]. Out: hidden states, float32 [texts, tokens, hidden].
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from kbert import checkpoints, config, keywords
from kbert.checkpoints import new_tokens
from kbert.data import tokenizer as tokenizers
from kbert.errors import UsageError
from kbert.model import encoder as encoders
from kbert.model.chunks import padded
from kbert.settings import from_json, to_json


@keras.saving.register_keras_serializable("kbert")
class Encoder(encoders.Encoder):
    """A BERT encoder as a Keras layer, for `compile`, `fit`, `.keras` files, SavedModels and `tf.distribute` strategies.

    Called with `token_ids`, `segment_ids` and `padding_mask`, int32 [texts, tokens] by name, as a `Tokenizer` makes them;
    returns the hidden states of the last layer, float32 [texts, tokens, hidden]; those of [CLS] are `hidden[:, 0]`. Frozen
    layers run without dropout. `from_checkpoint` makes one with trained weights; the constructor's are random.

    Args:
        config: its shape and activation.
        dtype: a Keras dtype policy; by default the global one. In a mixed policy products are narrow, and what is returned
            stays float32.
        name: of the layer.

    Examples:
        >>> encoder = kbert.Encoder.from_checkpoint("bert_base_en", freeze_layers=1)
        >>> inputs = encoder.inputs()
        >>> scores = keras.layers.Dense(2)(encoder(inputs)[:, 0])
        >>> model = keras.Model(inputs, scores)
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    """

    def __init__(self, config: config.EncoderConfig, dtype: Any = None, name: str = "encoder"):
        super().__init__(config, keras.config.dtype_policy() if dtype is None else dtype, name)
        self.backbone.pooled_dense.trainable = False  # its result is not returned

    @classmethod
    def from_checkpoint(
        cls,
        init: str | os.PathLike[str],
        *,
        freeze_layers: int = 0,
        freeze_embeddings: bool = False,
        dropout: float | None = None,
        add_tokens: Sequence[str] = (),
        dtype: Any = None,
        name: str = "encoder",
    ) -> "Encoder":
        """Make an encoder with the weights of a checkpoint.

        Args:
            init: a directory of any form (Hugging Face, Google TF1, Keras preset, kbert model) or a preset's name.
            freeze_layers: layers to freeze, counted from the bottom; above 0 the embeddings too.
            freeze_embeddings: freeze the embeddings alone.
            dropout: a fraction, of hidden states and attention weights alike; by default the checkpoint's own.
            add_tokens: tokens beyond the checkpoint's own, as given to the tokenizer; new ones may have new embeddings.
            dtype: a Keras dtype policy; by default the global one.
            name: of the layer.

        Raises:
            UsageError: no such checkpoint, or it has fewer layers.
            DataError: the checkpoint is malformed.
        """
        with keywords.errors_in_python():
            if dropout is not None and not 0 <= dropout < 1:
                raise UsageError(f"dropout={dropout}: expected a fraction")
            checkpoint = new_tokens.add_tokens(checkpoints.open_checkpoint(os.fspath(init)), add_tokens)
            shape = checkpoint.encoder
            if dropout is not None:
                shape = dataclasses.replace(shape, dropout=dropout, attention_dropout=None)
            self = cls(shape, dtype, name)
            self.freeze_lower(freeze_layers, freeze_embeddings)
            self.load(checkpoint.arrays(), os.fspath(init))
            return self

    def inputs(self) -> dict[str, keras.KerasTensor]:
        """Inputs for a functional model: `token_ids`, `segment_ids` and `padding_mask`, each int32 [texts, tokens]."""
        return {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")}

    def get_config(self) -> dict[str, Any]:
        """The arguments that `from_config` makes the same layer of, without its weights."""
        return {
            "config": to_json(self.config),
            "dtype": keras.dtype_policies.serialize(self.policy),
            "name": self.name,
            "freeze_layers": self.num_frozen,
            "freeze_embeddings": self.frozen_embeddings,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, settings: dict[str, Any]) -> "Encoder":
        """The layer that `get_config` described, with random weights."""
        shape = from_json(config.EncoderConfig, settings["config"], "config")
        self = cls(shape, keras.dtype_policies.deserialize(settings["dtype"]), settings["name"])
        self.freeze_lower(settings["freeze_layers"], settings["freeze_embeddings"])
        if not settings["trainable"]:
            self.trainable = False
        return self


class Tokenizer(tokenizers.Tokenizer):
    """A checkpoint's vocabulary and BERT's rules: strings into an encoder's inputs, eagerly, in `tf.data`, in a served graph.

    Examples:
        >>> tokenizer = kbert.Tokenizer.from_checkpoint("bert_base_en")
        >>> tokenizer(["a good film", "dull"], max_length=32)["token_ids"].shape
        TensorShape([2, 5])
    """

    @classmethod
    def from_checkpoint(cls, init: str | os.PathLike[str], *, add_tokens: Sequence[str] = ()) -> "Tokenizer":
        """Make the tokenizer of a checkpoint.

        Args:
            init: a directory of any form (Hugging Face, Google TF1, Keras preset, kbert model) or a preset's name.
            add_tokens: units of the text beyond the checkpoint's own, found as they are written; the encoder takes the same.

        Raises:
            UsageError: no such checkpoint, or a token to add is blank.
            DataError: the checkpoint is malformed.
        """
        with keywords.errors_in_python():
            checkpoint = new_tokens.add_tokens(checkpoints.open_checkpoint(os.fspath(init)), add_tokens)
            return cls(checkpoint.vocabulary, **vars(checkpoint.text))

    def __call__(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        max_length: int = 128,
        padding: Literal["longest", "max_length"] = "longest",
    ) -> dict[str, tf.Tensor]:
        """Make an encoder's inputs.

        Args:
            texts: UTF-8 strings, [texts] or a single one.
            pairs: second texts, of the same shape; None for single texts.
            max_length: longest input in tokens, with [CLS] and [SEP]; longer ones are cut, of pairs the longer text first.
            padding: to how many tokens: those of the longest text, or `max_length`, so that the shape is always the same.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, int32 [texts, tokens]; of a single text [tokens].

        Raises:
            UsageError: `max_length` leaves no room for text.
        """
        count = 1 if pairs is None else 2
        if max_length < 1 + 2 * count:
            raise UsageError(f"max_length={max_length}: expected at least {1 + 2 * count}")
        if padding not in ("longest", "max_length"):
            raise UsageError(f"padding={padding!r}: expected longest or max_length")
        parts = [tf.convert_to_tensor(part, tf.string) for part in (texts, pairs)[:count]]
        single = parts[0].shape.rank == 0
        ids = [self.tokenize(tf.reshape(part, [-1]), max_words=max_length) for part in parts]
        found: dict[str, tf.Tensor] = padded(self.pack(ids, max_length), self.pad_id)
        if padding == "max_length":
            room = [[0, 0], [0, max_length - tf.shape(found["token_ids"])[1]]]
            fill = {"token_ids": self.pad_id}
            found = {
                name: tf.ensure_shape(tf.pad(value, room, constant_values=fill.get(name, 0)), [None, max_length])
                for name, value in found.items()
            }
        return {name: value[0] for name, value in found.items()} if single else found
