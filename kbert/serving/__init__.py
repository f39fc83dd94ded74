"""Trained models as functions from raw strings to answers, and those functions as SavedModels.

What each file holds:

    predictor    decode(model(encode(raw))) in one graph: what evaluation, prediction and the exported model call
    models       a task with its encoder and model, built or loaded from a model directory
    versions     numbered versions in an export directory
"""

from kbert.serving.models import POLICIES, build_model, load, set_weights, tokenizer_of
from kbert.serving.predictor import Predictor
from kbert.serving.versions import export

__all__ = ["POLICIES", "Predictor", "build_model", "export", "load", "set_weights", "tokenizer_of"]
