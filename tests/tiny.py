"""A tiny random BERT from a seed, with numpy alone, so that kbert's tests and transformers build the same.

In: numbers of layers and labels. Out: tensors under Hugging Face's names, a config, ids to run it on.
"""

import numpy as np

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

CONFIG = {
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
}


def hugging_face_tensors(
    layers: int = 2, hidden: int = 16, wide: int = 32, positions: int = 40, seed: int = 0
) -> dict[str, np.ndarray]:
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


def head_tensors(labels: int = 0, hidden: int = 16, seed: int = 1) -> dict[str, np.ndarray]:
    """Random tensors of the masked LM and next sentence heads, or of a classifier, under Hugging Face's names."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls.predictions.bias": (len(VOCABULARY),),
        "cls.predictions.transform.dense.weight": (hidden, hidden),
        "cls.predictions.transform.dense.bias": (hidden,),
        "cls.predictions.transform.LayerNorm.weight": (hidden,),
        "cls.predictions.transform.LayerNorm.bias": (hidden,),
        "cls.seq_relationship.weight": (2, hidden),
        "cls.seq_relationship.bias": (2,),
    }
    if labels:
        shapes = {"classifier.weight": (labels, hidden), "classifier.bias": (labels,)}
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def full_tensors(*, heads: bool = False, labels: int = 0, pooler: bool = True) -> dict[str, np.ndarray]:
    """A 3-layer BERT: bare, or under "bert." with the masked LM and next sentence heads or a classifier."""
    encoder = {name: t for name, t in hugging_face_tensors(layers=3).items() if pooler or not name.startswith("pooler.")}
    if not heads and not labels:
        return encoder
    return {**{f"bert.{name}": tensor for name, tensor in encoder.items()}, **head_tensors(labels)}


def batch() -> dict[str, np.ndarray]:
    """Six rows of ids, segments and mask, [6, 30], of 30, 21, 11, 7, 3 and 2 tokens; the second half of each is segment 1."""
    rng = np.random.default_rng(2)
    lengths = np.array([30, 21, 11, 7, 3, 2])[:, None]
    at = np.arange(30)[None, :]
    mask = (at < lengths).astype(np.int32)
    ids = np.where(mask == 1, rng.integers(1, len(VOCABULARY), mask.shape), 0).astype(np.int32)
    segments = ((at >= lengths // 2) & (mask == 1)).astype(np.int32)
    return {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}


# Heads by transformers' problem_type, with their labels, and texts to ask them.
CLASSIFIERS = {
    "single_label_classification": ("bad", "dull", "good"),
    "multi_label_classification": ("bad", "dull", "good"),
    "regression": ("LABEL_0",),
}
TEXTS = ("a good film", "the plot is dull, and not very good", "bad", "电影很好！", "unlikely", "")

# Fine-tuned models of transformers: class, layer of the head, labels, settings.
ADOPTED: dict[str, tuple[str, str, tuple[str, ...], dict[str, object]]] = {
    "iob": ("BertForTokenClassification", "classifier", ("I-view", "O", "B-thing", "B-view", "I-thing"), {}),
    "iob1": ("BertForTokenClassification", "classifier", ("I-view", "I-thing", "O", "B-thing"), {}),
    "io": ("BertForTokenClassification", "classifier", ("view", "O", "thing"), {}),
    "bioes": (
        "BertForTokenClassification",
        "classifier",
        ("O", *(f"{prefix}-{kind}" for kind in ("view", "thing") for prefix in "BESI")),
        {},
    ),
    "answers": ("BertForQuestionAnswering", "qa_outputs", (), {}),
    "cross": (
        "BertForSequenceClassification",
        "classifier",
        ("LABEL_0",),
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.1.0"}},
    ),
    "pairs": ("BertForSequenceClassification", "classifier", ("no", "yes", "?"), {}),
    "masked": ("BertForMaskedLM", "cls", (), {}),
}
PAIRS = (("a good film", "the plot is dull"), ("bad", "fine and good!"), ("film", "x"))
CONTEXTS = ("the film is fine, and the plot [not very good] is dull.", "电影很好！very very good film", "x unlikely film")
MASKED = ("the [MASK] is good", "电影很[MASK]！ [MASK] film")


def adopted_tensors(name: str) -> dict[str, np.ndarray]:
    """Random tensors of a model of `ADOPTED`."""
    kind, layer, labels, _ = ADOPTED[name]
    if kind == "BertForMaskedLM":
        return {n: t for n, t in full_tensors(heads=True).items() if "seq_relationship" not in n and "pooler" not in n}
    rng, size = np.random.default_rng(7), len(labels) or 2
    pooled = kind == "BertForSequenceClassification"
    encoder = {f"bert.{n}": t for n, t in full_tensors().items() if pooled or not n.startswith("pooler.")}
    matrix = rng.normal(0, 0.5, (size, 16))
    bias = -matrix @ encoder["bert.encoder.layer.2.output.LayerNorm.bias"]  # so that no output wins everywhere
    head = {f"{layer}.weight": matrix, f"{layer}.bias": bias}
    return {**encoder, **{n: array.astype(np.float32) for n, array in head.items()}}


def adopted_config(name: str) -> dict[str, object]:
    """The config.json of a model of `ADOPTED`."""
    kind, _, labels, settings = ADOPTED[name]
    named = {"id2label": {str(i): label for i, label in enumerate(labels)}} if labels else {}
    named |= {"label2id": {label: i for i, label in enumerate(labels)}} if labels else {}
    return {**CONFIG, "num_hidden_layers": 3, "architectures": [kind], **named, **settings}


# Files of a sentence-transformers directory beside those of its BertModel: poolings, a dense layer, no scaling.
MODULES: dict[str, object] = {
    "modules.json": [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")))
    ],
    "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": False},
    "1_Pooling/config.json": {
        "word_embedding_dimension": 16,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
    },
    "2_Dense/config.json": {
        "in_features": 16,
        "out_features": 5,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    },
}


def dense_tensors() -> dict[str, np.ndarray]:
    """Random tensors of the dense layer of `MODULES`."""
    rng = np.random.default_rng(8)
    arrays = {"linear.weight": rng.normal(0, 0.5, (5, 16)), "linear.bias": rng.normal(0, 0.5, 5)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}
