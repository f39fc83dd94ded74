"""Tiny checkpoints, vocabularies and texts that every test can make in a moment."""

import json
import os
from pathlib import Path

import pytest

from kbert import runtime

runtime.start()

import numpy as np  # noqa: E402
from hypothesis import settings  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

# A busy machine is no error, and CI should say the same of the same commit.
settings.register_profile("kbert", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kbert")

ROOT = Path(__file__).parent.parent
WORDS = ["good", "bad", "film", "fine", "dull", "a", "the", "very", "plot", "and", "un", "##like", "##ly", "cafe", "is", "not"]
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *WORDS,
    *".,!?[]-",
    *"中文很好坏电影",
    "##s",
    "##e",
    "e",
    "s",
    "x",
    "##x",
]


@pytest.fixture(scope="session")
def vocabulary() -> list[str]:
    return list(VOCABULARY)


def hugging_face_tensors(layers: int = 2, hidden: int = 16, wide: int = 32, positions: int = 40, seed: int = 0):
    """Random tensors of a BertModel under Hugging Face's names."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": normal(len(VOCABULARY), hidden),
        "embeddings.position_embeddings.weight": normal(positions, hidden),
        "embeddings.token_type_embeddings.weight": normal(2, hidden),
        "embeddings.LayerNorm.weight": 1 + normal(hidden),
        "embeddings.LayerNorm.bias": normal(hidden),
        "pooler.dense.weight": normal(hidden, hidden),
        "pooler.dense.bias": normal(hidden),
    }
    for i in range(layers):
        at = f"encoder.layer.{i}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            tensors[f"{at}{name}.weight"] = normal(hidden, hidden)
            tensors[f"{at}{name}.bias"] = normal(hidden)
        tensors[f"{at}intermediate.dense.weight"] = normal(wide, hidden)
        tensors[f"{at}intermediate.dense.bias"] = normal(wide)
        tensors[f"{at}output.dense.weight"] = normal(hidden, wide)
        tensors[f"{at}output.dense.bias"] = normal(hidden)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors[f"{at}{name}.weight"] = 1 + normal(hidden)
            tensors[f"{at}{name}.bias"] = normal(hidden)
    return tensors


def write_hugging_face(
    path: Path, tensors: dict | None = None, config: dict | None = None, tokenizer: dict | None = None
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    settings = {
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.1,
        "hidden_act": "gelu",
        **(config or {}),
    }
    (path / "config.json").write_text(json.dumps(settings))
    (path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, **(tokenizer or {})}))
    (path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY), encoding="utf-8")
    save_file(hugging_face_tensors() if tensors is None else tensors, path / "model.safetensors")
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return write_hugging_face(tmp_path_factory.mktemp("checkpoint") / "tiny")


def reviews(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts whose label a tiny model can learn: one word decides."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        good = bool(rng.integers(2))
        words = [str(rng.choice(["a", "the", "film", "plot", "very", "is", "and"])) for _ in range(int(rng.integers(2, 12)))]
        words.insert(int(rng.integers(len(words))), str(rng.choice(["good", "fine"] if good else ["bad", "dull"])))
        out.append((" ".join(words), "positive" if good else "negative"))
    return out


def write_tsv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] | None = ("text", "label")) -> Path:
    lines = ["\t".join(row) for row in ([header] if header else []) + list(rows)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder with train.tsv (192 rows), dev.tsv and test.tsv (40 rows each)."""
    folder = tmp_path_factory.mktemp("data")
    write_tsv(folder / "train.tsv", reviews(192, 1))
    write_tsv(folder / "dev.tsv", reviews(40, 2))
    write_tsv(folder / "test.tsv", reviews(40, 3))
    return folder


def finetune_flags(checkpoint: Path, data: Path, model_dir: Path, **more: object) -> list[str]:
    flags = {
        "init": checkpoint,
        "train_data": data / "train.tsv",
        "dev_data": data / "dev.tsv",
        "model_dir": model_dir,
        "max_length": 20,
        "batch_size": 16,
        "epochs": 2,
        "learning_rate": 0.003,
        **more,
    }
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


@pytest.fixture(scope="session")
def trained(checkpoint, data, tmp_path_factory) -> Path:
    """A model directory of a run that has learnt its task; tests only read it."""
    from kbert import finetune

    path = tmp_path_factory.mktemp("model") / "trained"
    flags = finetune_flags(checkpoint, data, path, epochs=8, learning_rate=0.02, test_data=data / "test.tsv")
    assert finetune.main(flags) == 0
    return path


@pytest.fixture
def environment() -> dict[str, str]:
    """For child processes: as ours, with the repository importable."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
