"""Create a run's optimizer: AdamW or LAMB, its schedule, and AdamW's update as one compiled function.

In: a compiled model's weights and a `RunConfig`. Out: a Keras optimizer.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kbert import graphs
from kbert.config import RunConfig


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to `peak` over the warm-up, then falls to 0 by a power of the rest (Devlin et al. 2019, appendix A.2).

    Args:
        peak: the highest learning rate.
        steps: total steps of the run.
        warmup_steps: steps of the linear rise.
        power: exponent of the fall; 1 for linear.
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int, power: float = 1.0):
        self.peak, self.steps, self.warmup_steps, self.power = peak, steps, warmup_steps, power

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rise = (step + 1.0) / max(self.warmup_steps, 1)
        left = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        fall = left if self.power == 1.0 else keras.ops.maximum(left, 0.0) ** self.power
        return self.peak * keras.ops.clip(keras.ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warmup_steps": self.warmup_steps, "power": self.power}


class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW in one operation a weight, or compiled by XLA into one function if a single CPU trains many weights.

    Keras's own update is some forty operations a weight, each traced before the first step. The compiled update
    reads and writes each weight and its moments in few passes over memory. Compiling the whole training step instead
    would recompile for each length of a batch.
    """

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        update = super().apply
        self._update = graphs.function(update, jit_compile=True) if graphs.worth_compiling(variables) else None

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        if self._update is None or tf.executing_eagerly() or any(gradient is None for gradient in grads):
            super().apply(grads, trainable_variables)
        else:
            self._update(list(grads))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: the decay is part of the step, which computes the learning rate once for all weights."""

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        step = ops.cast(self.iterations + 1, "float32")
        scalars = {
            "lr": learning_rate,
            "beta1_power": self.beta_1**step,
            "beta2_power": self.beta_2**step,
            "beta1": self.beta_1,
            "beta2": self.beta_2,
            "epsilon": self.epsilon,
        }
        scalars = {name: tf.cast(value, tf.float32) for name, value in scalars.items()}
        super()._backend_update_step(grads, trainable_variables, scalars)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        scalars = learning_rate  # of `_backend_update_step`
        index = self._get_variable_index(variable)
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign_sub(variable * (self.weight_decay * scalars["lr"]))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            grad=tf.convert_to_tensor(gradient),
            **scalars,
        )


class Lamb(keras.optimizers.Lamb):
    """LAMB as defined by You et al. 2020 ("Large Batch Optimization for Deep Learning", algorithm 2).

    Each variable moves by its own norm in the direction of Adam's step with decay:
    `learning_rate * |w| / |u| * u`, where `u = m / (sqrt(v) + epsilon) + weight_decay * w`.
    Keras's own applies the decay outside, where the norms do not include it. Variables without decay (biases,
    LayerNorm) take `|w| / |u|` for 1, as in the paper's code and NVIDIA's BERT.
    """

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: the decay is part of the step."""

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


def optimizer(model: keras.Model, config: RunConfig, steps: int) -> keras.optimizers.Optimizer:
    """Create AdamW or LAMB with warm-up and decay, no weight decay on biases and LayerNorm, the global norm clipped.

    AdamW's epsilon is 1e-8, as in Hugging Face's Trainer: with 1e-6 (google-research/bert, which omits
    the bias correction) the small gradients of the upper layers learn visibly less in three epochs. LAMB's is
    1e-6, as in the authors' code.
    """
    schedule = WarmupDecay(config.learning_rate, steps, round(steps * config.warmup_ratio), config.decay_power)
    settings = {"weight_decay": config.weight_decay, "global_clipnorm": config.clip_norm or None}
    chosen = (
        AdamW(schedule, epsilon=1e-8, **settings) if config.optimizer == "adamw" else Lamb(schedule, epsilon=1e-6, **settings)
    )
    chosen.exclude_from_weight_decay([v for v in model.trainable_variables if v.path.endswith(("bias", "/gamma", "/beta"))])
    if config.precision == "float16":
        return keras.optimizers.LossScaleOptimizer(chosen)
    return chosen


def last_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the last step taken; Keras's own attribute is that of the next."""
    taken = getattr(optimizer, "inner_optimizer", optimizer)
    return float(taken._learning_rate(keras.ops.maximum(taken.iterations - 1, 0)))
