"""Training: batches, steps, optimizers, devices, and what is logged while they run."""
