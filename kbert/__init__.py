"""kbert: BERT in Keras, from raw text to a served model.

Importing this package imports nothing else: `kbert.encoder`, `kbert.text` and the rest load
TensorFlow when they are imported themselves, the command lines only once their flags are parsed.
"""

__version__ = "0.1.0"
