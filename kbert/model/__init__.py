"""The encoder and what is on it: Keras layers and functions of tensors, for any task."""
