"""The encoder and its heads: Keras layers and tensor functions, for any task."""
