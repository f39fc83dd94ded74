"""Record what transformers makes of the tiny BERT of `tiny.py`, for tests that run without it.

    python tests/record_transformers.py

Run it in an environment with torch, transformers 4 and safetensors, and without kbert. Writes
recorded/transformers.npz (outputs for each hidden_act, float32) and recorded/transformers.json (each
class's tensors: name -> shape).
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from tiny import CONFIG, VOCABULARY, batch, full_tensors

HERE = Path(__file__).parent / "recorded"
LABELS = 3


def model(kind: str, hidden_act: str, tensors: dict[str, np.ndarray]) -> torch.nn.Module:
    """A transformers model with these weights, every one of them set."""
    config = transformers.BertConfig(**{**CONFIG, "num_hidden_layers": 3, "hidden_act": hidden_act, "num_labels": LABELS})
    made = getattr(transformers, kind)(config)
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    missing, unexpected = made.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}, missing
    return made.eval()


def main() -> int:
    """Record outputs and names."""
    rows = {name: torch.from_numpy(array).long() for name, array in batch().items()}
    inputs = {"input_ids": rows["token_ids"], "token_type_ids": rows["segment_ids"], "attention_mask": rows["padding_mask"]}
    outputs = {}
    for act in ("gelu", "gelu_new", "relu"):
        with torch.no_grad():
            bare = model("BertModel", act, full_tensors())(**inputs)
            trained = model("BertForPreTraining", act, full_tensors(heads=True))(**inputs)
            classified = model("BertForSequenceClassification", act, full_tensors(labels=LABELS))(**inputs)
        outputs |= {f"{act}/sequence": bare.last_hidden_state, f"{act}/pooled": bare.pooler_output}
        outputs |= {f"{act}/mlm": trained.prediction_logits, f"{act}/nsp": trained.seq_relationship_logits}
        outputs |= {f"{act}/classifier": classified.logits}
    tensors = {
        "BertModel": full_tensors(),
        "BertForPreTraining": full_tensors(heads=True),
        "BertForMaskedLM": {n: t for n, t in full_tensors(heads=True).items() if "pooler" not in n and "seq_rel" not in n},
        "BertForSequenceClassification": full_tensors(labels=LABELS),
    }
    shapes = {kind: {n: list(t.shape) for n, t in model(kind, "gelu", ts).state_dict().items()} for kind, ts in tensors.items()}
    HERE.mkdir(exist_ok=True)
    np.savez_compressed(HERE / "transformers.npz", **{name: value.numpy() for name, value in outputs.items()})
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    document = {"versions": versions, "vocabulary": len(VOCABULARY), "tensors": shapes}
    (HERE / "transformers.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"recorded with {versions}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
