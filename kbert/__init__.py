"""kbert: BERT in Keras, from raw text to a served model.

From Python:

    model = kbert.train(init="bert_base_en", train_data="train.tsv", model_dir="models/mine")
    model = kbert.load("models/mine")
    model = kbert.adopt("finetuned_elsewhere", "models/adopted")
    model.predict(["a good film", "a dull plot"])
    vectors = kbert.encode("bert_base_en", ["a good film"])
    encoder = kbert.Encoder.from_checkpoint("bert_base_en", freeze_layers=8)
    tokenizer = kbert.Tokenizer.from_checkpoint("bert_base_en")

Importing this package imports nothing else: each of these names loads what it needs, TensorFlow too, when it is first used.

A line of text goes table -> encode -> batch -> encoder -> head -> decode. The packages from below (a file imports only from
those below its own, see tests/test_layout.py):

    data                            rows of files into a table, text into ids
    model                           the encoder, and what heads are made of
    checkpoints                     weights of any form
    tasks                           one package a task: what it reads, learns, answers and is measured by (tasks/base.py)
    serving                         a trained model as one function from text to answers, and as a SavedModel
    train, pretraining, vectors     batches into checkpoints, plain text into batches, texts into vectors
    finetune, pretrain, adopt, evaluate, predict, export, encode, inspect      the commands
    api, layers                     the same from Python
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbert.api import Model, adopt, encode, load, train
    from kbert.errors import DataError, KbertError, UsageError
    from kbert.layers import Encoder, Tokenizer

__version__ = "0.1.0"

__all__ = ["DataError", "Encoder", "KbertError", "Model", "Tokenizer", "UsageError", "adopt", "encode", "load", "train"]

_PLACES = {
    **dict.fromkeys(("Model", "load"), "kbert.api"),
    **dict.fromkeys(("Encoder", "Tokenizer"), "kbert.layers"),
    **dict.fromkeys(("DataError", "KbertError", "UsageError"), "kbert.errors"),
}
_CALLABLE = ("adopt", "encode", "train")  # modules that are functions too (`kbert.callable_module`)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _CALLABLE:
        return importlib.import_module(f"kbert.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'kbert' has no attribute {name!r}")
    if _PLACES[name] == "kbert.layers":
        from kbert import runtime

        runtime.start()
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
