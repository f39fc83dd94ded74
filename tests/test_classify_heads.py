"""Classifiers of transformers by problem_type: kept, answered from and written back as its own pipeline has them."""

import json

import numpy as np
import pytest
from conftest import ROOT, write_hugging_face, write_tsv
from safetensors.numpy import load_file
from tiny import CLASSIFIERS, TEXTS, full_tensors

import kbert
from kbert import convert, finetune
from kbert.checkpoints.head import PROBLEMS

RECORDED = ROOT / "tests" / "recorded"


@pytest.mark.parametrize("problem_type", CLASSIFIERS)
def test_heads_by_objective_answer_as_transformers_pipeline_does(problem_type, tmp_path, capsys):
    """A head of transformers is kept, answers what its own pipeline does, and is written back as it was."""
    labels, objective = CLASSIFIERS[problem_type], {p: name for name, p in PROBLEMS.items()}[problem_type]
    config = {"num_hidden_layers": 3, "problem_type": problem_type, "id2label": dict(enumerate(labels))}
    tensors = full_tensors(labels=len(labels))
    init = write_hugging_face(tmp_path / "hf", tensors, config)
    gold = {"regression": ("1", "2", "4")}.get(objective, labels)
    train = write_tsv(tmp_path / "t.tsv", [(f"{label} film", label) for label in gold])
    made = [
        "--epochs=0",
        f"--objective={objective}",
        "--max_length=24",
        *(["--thresholds=0.5"] if objective == "multilabel" else []),
    ]
    data = [f"--train_data={train}", f"--dev_data={train}", f"--model_dir={tmp_path / 'm'}"]
    assert finetune.main([f"--init={init}", *data, *made]) == 0
    assert "is kept" in capsys.readouterr().err
    expected = json.loads((RECORDED / "classify_heads.json").read_text())["scores"][problem_type]
    answers = kbert.load(tmp_path / "m").predict(list(TEXTS))
    for answer, scores in zip(answers, expected, strict=True):
        if objective == "regression":
            assert answer["score"] == pytest.approx(scores["LABEL_0"], abs=1e-4)
            continue
        assert answer["probabilities"] == pytest.approx(scores, abs=1e-4)
        if objective == "multiclass":
            assert answer["label"] == max(scores, key=scores.get)
        else:
            assert answer["labels"] == [label for label in labels if scores[label] >= 0.5]
    assert convert.main([f"--init={tmp_path / 'm'}", f"--output={tmp_path / 'back'}", "--format=hugging_face"]) == 0
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert written["problem_type"] == problem_type and len(written["id2label"]) == len(labels)
    back = load_file(tmp_path / "back" / "model.safetensors")
    for name, tensor in tensors.items():
        np.testing.assert_allclose(back[name], tensor, atol=1e-6, err_msg=name)
