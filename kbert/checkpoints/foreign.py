"""Recognise what kbert does not read, by its files and names, and say how to convert it.

In: a directory, a configuration, or the names of tensors. Out: nothing, or a DataError with the way out.
"""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kbert.errors import DataError

# Architectures whose names or weights resemble BERT's, and in what they differ.
ARCHITECTURES = {
    "roberta": "RoBERTa counts positions from 2 and has a byte-level vocabulary (Chinese checkpoints of that name, such as "
    "hfl/chinese-roberta-wwm-ext, are of model_type bert)",
    "xlm-roberta": "XLM-RoBERTa counts positions from 2 and has a SentencePiece vocabulary",
    "camembert": "CamemBERT counts positions from 2 and has a SentencePiece vocabulary",
    "albert": "ALBERT shares one layer's weights among all and has factorised embeddings",
    "electra": "ELECTRA has factorised embeddings and no pooler",
    "distilbert": "DistilBERT has no segment embeddings and no pooler",
    "mobilebert": "MobileBERT has bottlenecks and no layer normalisation",
    "megatron-bert": "Megatron-BERT normalises before each layer, not after",
    "deberta": "DeBERTa attends to relative positions",
    "deberta-v2": "DeBERTa attends to relative positions",
    "nezha": "NEZHA attends to relative positions",
    "ernie": "ERNIE with use_task_id has embeddings of tasks",
    "mpnet": "MPNet attends to relative positions",
    "modernbert": "ModernBERT has rotary positions and gated layers",
    "nomic_bert": "Nomic BERT has rotary positions and gated layers",
    "roformer": "RoFormer has rotary positions",
    "xlnet": "XLNet attends to relative positions",
    "longformer": "Longformer attends to a window of each position",
    "big_bird": "BigBird attends to a part of the positions",
    "layoutlm": "LayoutLM has embeddings of places on a page",
}
TAKE = "use a checkpoint of model_type bert"
# Parts of tensors' names that give an architecture away.
MARKS = {
    **dict.fromkeys(("inner_group_0", "albert_layer_groups", "embedding_hidden_mapping_in"), "albert"),
    "embeddings_project": "electra",
    "attention.q_lin.": "distilbert",
    "task_type_embeddings": "ernie",
    "relative_positions_encoding": "nezha",
}

FROM_TRANSFORMERS = (
    "import sys, transformers as t; d, o = sys.argv[1:]; c = t.AutoConfig.from_pretrained(d); "
    "k = (c.architectures or ['BertModel'])[0]; "
    "getattr(t, k).from_pretrained(d, {}=True).save_pretrained(o); t.AutoTokenizer.from_pretrained(d).save_pretrained(o)"
)
# Files of weights, each with what it is and how to convert it; the first found is reported.
FILES = {
    "tf_model.h5": ("TensorFlow weights of transformers", "transformers 4, torch and tensorflow", "from_tf"),
    "flax_model.msgpack": ("Flax weights of transformers", "transformers 4, torch and flax", "from_flax"),
}
OTHERS = {
    "adapter_model.*": "an adapter (LoRA or the like) without its model; merge the two with peft's merge_and_unload, then save",
    "*.keras": "a whole Keras model; load it with keras.models.load_model, and save its BertBackbone with save_to_preset",
    "saved_model.pb": "a TensorFlow SavedModel, made for serving; use the checkpoint that it was exported from",
    "*.onnx": "an ONNX model, made for serving; use the checkpoint that it was exported from",
    "openvino_model.*": "an OpenVINO model, made for serving; use the checkpoint that it was exported from",
    "*.gguf": "a GGUF file, whose weights are quantized; use the checkpoint that it was made of",
    "rust_model.ot": "weights for rust-bert; use the checkpoint that they were converted from",
}
# Settings of BertJapaneseTokenizer alone.
JAPANESE = ("word_tokenizer_type", "subword_tokenizer_type", "mecab_kwargs")
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the tensor that tells TF2's checkpoints from TF1's


def check_weights(path: Path) -> None:
    """Raise DataError if a directory without readable weights has some of another kind."""
    for name, (what, needs, argument) in FILES.items():
        if (path / name).exists():
            program = FROM_TRANSFORMERS.format(argument)
            raise DataError(
                f"{path / name}: {what}, which kbert does not read; convert them in an environment with {needs}: "
                f'python -c "{program}" {shlex.quote(str(path))} NEW_DIRECTORY'
            )
    for pattern, what in OTHERS.items():
        for found in sorted(path.glob(pattern)):
            raise DataError(f"{found}: {what}")


def check_config(config: Any, where: Path) -> None:
    """Raise DataError if a Hugging Face configuration is that of another architecture.

    A configuration without `model_type` is BERT's unless the classes it names are not. DPR's encoders, and ERNIE without
    `use_task_id`, are BERTs under other names.
    """
    if not isinstance(config, dict):
        raise DataError(f"{where}: model_type is None; kbert reads 'bert': expected an object, found {type(config).__name__}")
    kind = config.get("model_type")
    if kind is None:
        classes = [name for name in config.get("architectures") or [] if isinstance(name, str)]
        kind = next((name for name in ARCHITECTURES for c in classes if c.lower().startswith(_bare(name) + "for")), None)
        kind = kind or next((name for name in ARCHITECTURES for c in classes if c.lower() == _bare(name) + "model"), None)
    if kind == "ernie" and not config.get("use_task_id"):
        return
    if kind not in (None, "bert", "dpr"):
        raise DataError(f"{where}: model_type is {kind!r}; kbert reads 'bert'{_why(kind)}")


def check_tokenizer(settings: dict[str, Any], where: Path) -> None:
    """Raise DataError if a configuration is that of a tokenizer which finds words in another way than BERT's."""
    if settings.get("tokenizer_class") == "BertJapaneseTokenizer" or any(settings.get(key) for key in JAPANESE):
        words, pieces = settings.get("word_tokenizer_type") or "basic", settings.get("subword_tokenizer_type") or "wordpiece"
        raise DataError(
            f"{where}: tokenizer_class is BertJapaneseTokenizer (word_tokenizer_type {words}, subword_tokenizer_type "
            f"{pieces}), which kbert does not have: it would need MeCab with its dictionary (fugashi, unidic-lite or ipadic) "
            "or the like to find the words of a text, and BERT's own rules give other ids. Use a checkpoint whose tokenizer "
            "is BertTokenizer, such as bert-base-multilingual-cased"
        )


def check_tensors(names: Sequence[str], prefixes: Iterable[str], where: Path) -> None:
    """Raise DataError if tensors are those of another architecture, by what precedes the token embeddings, or by a part."""
    known = {_bare(name): name for name in ARCHITECTURES}
    kind = next((known[last] for p in prefixes if (last := p.replace("/", ".").rstrip(".").rpartition(".")[2]) in known), None)
    kind = kind or next((MARKS[mark] for name in names for mark in MARKS if mark in name), None)
    if kind is not None:
        raise DataError(f"{where}: its tensors are those of model_type {kind!r}; kbert reads 'bert'{_why(kind)}")
    if OBJECT_GRAPH in names:
        raise DataError(
            f"{where}: a TF2 object checkpoint (of the TensorFlow Model Garden, for one), which names no tensor as BERT does; "
            "transformers' convert_bert_original_tf2_checkpoint_to_pytorch.py makes a Hugging Face model of it"
        )


def _bare(name: str) -> str:
    return name.replace("-", "").replace("_", "")


def _why(kind: Any) -> str:
    differs = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    return f". {differs}, so that its weights do not fit; {TAKE}" if differs else f"; {TAKE}"
