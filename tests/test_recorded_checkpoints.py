"""Checkpoints in the forms that people hold: hidden states agree with those their own libraries computed.

`record_checkpoints.py` recorded both; what each directory is, its name there says.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import VOCABULARY

import kbert
from kbert import checkpoints
from kbert.checkpoints import open_checkpoint
from kbert.model.encoder import Encoder

RECORDED = Path(__file__).parent / "recorded"
CASES = sorted(path.name for path in (RECORDED / "checkpoints").iterdir())
# What the summary says of a checkpoint beyond the usual.
SAYS = {
    "epsilon_1e-5": ["layer norm:     epsilon 1e-05"],
    "epsilon_1e-7_without_model_type": ["layer norm:     epsilon 1e-07"],
    "gelu_fast": ["activation:     gelu (tanh approximation)"],
    "gelu_python": ["activation:     gelu (exact)"],
    "saved_pretraining": ["heads:          pooler, masked LM, next sentence"],
    "saved_one_segment": ["longest input:  600 tokens, in 1 segments"],
    "saved_float16": ["weights:        model.safetensors, float16", "heads:          no pooler, token classifier of 3 labels"],
    "saved_shards_bfloat16": ["weights:        model.safetensors.index.json, bfloat16"],
    "saved_untied": ["heads:          no pooler\n", "not read:       cls.predictions.bias and 5 more tensors"],
    "pickle": ["weights:        pytorch_model.bin\n"],
    "pickle_of_a_training_run": ["weights:        epoch=2.ckpt\n", "set aside:      optimizer_states.state.0.exp_avg, of an"],
    "prefix_model_bert": ["not read:       model.crf.transitions and 1 more tensors"],
    "simcse_mlp": ["not read:       mlp.dense.bias and 1 more tensors", "set aside:      logit_scale, of an optimizer or"],
    "colbert_linear": ["not read:       linear.weight\n"],
    "google_config_json": ["format:         Google TF1", "gelu (tanh approximation)"],
    "google_several": ["weights:        model.ckpt-2000\n"],
    "google_optimizer_slots": [
        "weights:        model.ckpt-7\n",
        "set aside:      bert/embeddings/LayerNorm/beta/LAMB and 81 more tensors, of",
    ],
    "keras_bfloat16": ["weights:        model.weights.h5, bfloat16"],
}


@pytest.mark.parametrize("name", CASES)
def test_hidden_states_are_those_of_their_own_library(name):
    if name.startswith("pickle") and importlib.util.find_spec("torch") is None:
        pytest.skip("takes torch, an extra")
    path = next((RECORDED / "checkpoints" / name).glob("models--*"), RECORDED / "checkpoints" / name)
    found = open_checkpoint(str(path))
    assert found.vocabulary == VOCABULARY and found.text.lowercase and found.encoder.hidden_dim == 8
    summary = checkpoints.summary(found) + "\n"
    assert [line for line in SAYS.get(name, ()) if line not in summary] == [], summary
    encoder = Encoder(found.encoder)
    encoder.backbone.pooled_dense.trainable = False  # hidden states do not depend on it
    encoder.load(found.arrays(), name)
    with np.load(RECORDED / "checkpoints.npz", allow_pickle=False) as recorded:
        rows = {key: recorded[key] for key in ("token_ids", "segment_ids", "padding_mask")}
        rows["segment_ids"] = rows["segment_ids"] * (found.encoder.num_segments > 1)
        assert np.abs(np.asarray(encoder(rows)) - recorded[name])[rows["padding_mask"] == 1].max() < 2e-5


def test_a_model_of_an_earlier_kbert_predicts_what_it_did():
    """Written on 23 November 2026, of a checkpoint without a pooler; predictions.jsonl is what that kbert answered."""
    path = RECORDED / "earlier_model"
    rows = [json.loads(line) for line in (path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    for found, row in zip(kbert.load(path).predict([row["text"] for row in rows]), rows, strict=True):
        assert found["label"] == row["label"] and found["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)
    checkpoint = open_checkpoint(str(path))
    assert not checkpoint.has_pooler and checkpoint.encoder.layer_norm_epsilon == 1e-12  # a pooler of zeros, as then stored
    assert (checkpoint.head.kind, checkpoint.labels, checkpoint.pooling) == ("classifier", ("negative", "positive"), "mean")
