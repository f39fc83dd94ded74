"""Choose the precision of the training steps by measuring it (`--precision=auto`).

In: an encoder's sizes. Out: bfloat16 where the machine computes a training step of one such layer faster in it than in float32.
Processors without units for bfloat16 take longer: 1.5 times as long on one with AVX2 alone.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import tensorflow as tf

from kbert import graphs
from kbert.config import EncoderConfig, Precision, RunConfig
from kbert.model.encoder import Encoder
from kbert.serving import POLICIES
from kbert.train.strategies import Devices

log = logging.getLogger(__name__)

ROWS, TOKENS = 32, 32  # of the batch that is measured
ROUNDS = 5
GAIN = 0.95  # bfloat16 rounds, so it has to take less than this share of the time
WORTH_MEASURING = 1_000_000  # weights of all layers; smaller models train in seconds either way
WITH_BFLOAT16 = (8, 0)  # compute capability of GPUs from which on they have it

Run = TypeVar("Run", bound=RunConfig)


def choose_precision(train: Run, shape: EncoderConfig, devices: Devices) -> Run:
    """Return how to train, with the precision chosen where it is `auto`; several workers take the chief's choice."""
    if train.precision != "auto":
        return train
    narrow = devices.chief and _bfloat16_is_faster(shape)
    narrow = bool(devices.broadcast_from_chief(narrow))
    return dataclasses.replace(train, precision="bfloat16" if narrow else "float32")


def _bfloat16_is_faster(shape: EncoderConfig) -> bool:
    if tf.config.list_logical_devices("TPU"):
        log.info("--precision=auto: bfloat16, as on every TPU")
        return True
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        chosen = "bfloat16" if capability >= WITH_BFLOAT16 else "float32"
        log.info("--precision=auto: %s, for a GPU of compute capability %d.%d", chosen, *capability)
        return chosen == "bfloat16"
    weights = shape.num_layers * shape.hidden_dim * (4 * shape.hidden_dim + 2 * shape.intermediate_dim)
    if weights < WORTH_MEASURING:
        return False
    wide, narrow = step_seconds(shape, ("float32", "bfloat16"))
    chosen = "bfloat16" if narrow < GAIN * wide else "float32"
    log.info(
        "--precision=auto: %s (a layer's training step takes %.0f ms in float32, %.0f ms in bfloat16)",
        chosen, 1000 * wide, 1000 * narrow,
    )  # fmt: skip
    return chosen == "bfloat16"


def step_seconds(shape: EncoderConfig, precisions: Sequence[Precision]) -> list[float]:
    """Return the least seconds of a forward and backward pass through one layer of these sizes, for each precision.

    Rounds alternate, and the least counts, since other programs take time too.
    """
    steps = [_layer_step(shape, precision) for precision in precisions]
    best = [math.inf for _ in steps]
    for each in range(ROUNDS + 1):
        for place, step in enumerate(steps):
            began = time.perf_counter()
            step().numpy()
            if each:  # the first traces
                best[place] = min(best[place], time.perf_counter() - began)
    return best


def _layer_step(shape: EncoderConfig, precision: Precision) -> Callable[[], tf.Tensor]:
    small = dataclasses.replace(shape, num_layers=1, vocabulary_size=1000)
    encoder = Encoder(small, POLICIES[precision])
    ids = tf.reshape(tf.range(ROWS * TOKENS) % small.vocabulary_size, [ROWS, TOKENS])
    inputs = {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": tf.ones_like(ids)}
    encoder(inputs)

    @graphs.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(inputs, training=True))
        gradients = tape.gradient(loss, encoder.backbone.transformer_layers[0].trainable_variables)
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    return step
