"""LAMB, for large batches.

In: a learning rate and weight decay, as for AdamW. Out: a Keras optimizer.
"""

from typing import Any

import keras
from keras import ops


class Lamb(keras.optimizers.Lamb):
    """LAMB as You et al. 2020 have it ("Large Batch Optimization for Deep Learning", algorithm 2).

    Each variable moves by its own norm in the direction of Adam's step with decay:
    `learning_rate * |w| / |u| * u`, where `u = m / (sqrt(v) + epsilon) + weight_decay * w`.
    Keras's own takes the decay outside, where the norms do not see it. Variables without decay (biases,
    LayerNorm) take `|w| / |u|` for 1, as in the paper's code and NVIDIA's BERT.
    """

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: the decay is part of the step."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        m_hat, v_hat = m / (1.0 - self.beta_1**step), v / (1.0 - self.beta_2**step)
        update = m_hat / (ops.sqrt(v_hat) + self.epsilon)
        if self._use_weight_decay(variable):
            update = update + (self.weight_decay or 0.0) * variable
            weight_norm, update_norm = ops.norm(ops.reshape(variable, (-1,))), ops.norm(ops.reshape(update, (-1,)))
            trust = ops.where((weight_norm > 0) & (update_norm > 0), weight_norm / ops.maximum(update_norm, 1e-30), 1.0)
            update = trust * update
        self.assign_sub(variable, rate * update)
