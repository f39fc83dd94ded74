"""Trained models as functions from raw strings to answers, and those functions as SavedModels.

What each file holds:

    predictor    decode(model(encode(raw))) in one graph: what evaluation, prediction and the exported model call
    models       a task with its encoder and model, built or loaded from a model directory
    signatures   the functions that an exported model serves
    golden       requests of all kinds to them, with their answers
    replay       those requests again, in a process without kbert
    certificate  what an export needs of a server, and whether a fresh process answers the same
    warmup       the requests that TensorFlow Serving runs before a version answers
    versions     numbered versions in an export directory
"""

from kbert.serving.models import POLICIES, build_model, load, set_weights, tokenizer_of
from kbert.serving.predictor import Predictor
from kbert.serving.versions import export

__all__ = ["POLICIES", "Predictor", "build_model", "export", "load", "set_weights", "tokenizer_of"]
