"""The encoder and what stands on it: Keras layers and functions of tensors, for any task."""
