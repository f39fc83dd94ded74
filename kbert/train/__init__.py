"""Training: batches, steps, optimizers, devices, and what is logged while they run. Called, it is `kbert.api.train`."""

from kbert.callable_module import make_callable

make_callable(__name__)
