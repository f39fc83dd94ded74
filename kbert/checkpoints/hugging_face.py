"""Read and write Hugging Face BERT directories: config.json, model.safetensors, vocab.txt or tokenizer.json.

In: a directory written by transformers' `save_pretrained` for `BertModel`, `BertForPreTraining`,
`BertForMaskedLM`, `BertForSequenceClassification`, `BertForTokenClassification` or `BertForQuestionAnswering`; or, of
the oldest ones, a bert_config.json beside pytorch_model.bin. Out: a `Checkpoint`; and the reverse.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from kbert.checkpoints import added_tokens, foreign, hugging_face_weights, names
from kbert.checkpoints.casing import read_casing, read_tokenizer, stated_tokens
from kbert.checkpoints.checkpoint import (
    Checkpoint,
    bert_config,
    check_size,
    only_value,
    read_vocabulary,
    vocabulary_file,
    written_sizes,
)
from kbert.checkpoints.head import Head, problem_of
from kbert.checkpoints.located import locate
from kbert.checkpoints.names import HEADS, OUTPUTS
from kbert.checkpoints.tensor_matching import Tensor, Weights, match, sizes
from kbert.checkpoints.tokenizer_config import base_vocabulary, write_tokenizer_config
from kbert.config import EncoderConfig
from kbert.data import vocabulary as text
from kbert.errors import DataError
from kbert.files import write_json, write_text

MLM_BIAS, DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
TRANSFORM = "cls.predictions.transform."
# The masked LM's decoder: its weights are those of the embeddings and of the bias, and may be stored again or not.
COPIES = {"cls.predictions.decoder.weight": "token_embedding/embeddings", DECODER_BIAS: "mlm_head/output_bias"}
# Settings that would change the model with the same weights, with the only value that kbert supports.
ONLY = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
WRITTEN_ACTIVATIONS = {"gelu": "gelu", "gelu_approximate": "gelu_new", "relu": "relu"}
CLASSES = {
    frozenset({"mlm_head", "nsp_head"}): "BertForPreTraining",
    frozenset({"mlm_head"}): "BertForMaskedLM",
    frozenset({"nsp_head"}): "BertForNextSentencePrediction",
    frozenset({"classifier"}): "BertForSequenceClassification",
    frozenset({"tagger"}): "BertForTokenClassification",
    frozenset({"span"}): "BertForQuestionAnswering",
    frozenset(): "BertModel",
}
WRITTEN = ("classifier", "tagger", "span")  # heads that a transformers class supports
WITHOUT_POOLER = ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering")
# The key of sentence-transformers' cross-encoders before version 4 for what follows their output.
CROSS_ENCODER = "sbert_ce_default_activation_function"
PREFIX: dict[str, str] = {"BertModel": ""}  # of the encoder's tensors; the classes with a head keep it under "bert."


def read(path: Path, config: Any, where: Path) -> Checkpoint:
    """Read a Hugging Face directory.

    Args:
        config: the content of its configuration.
        where: the configuration's file.

    Raises:
        DataError: not a BERT, one with unsupported settings, or a damaged file.
    """
    foreign.check_config(config, where)
    only_value(config, ONLY, where)
    encoder = bert_config(config, where)
    file, tensors, read_values = hugging_face_weights.find(path)
    added = added_tokens.listed(path)
    vocabulary = _vocabulary(path, config, encoder, added)
    vocabulary, casing = added_tokens.placed(added, path, vocabulary, read_casing(path, config), encoder.vocabulary_size)

    found = locate(tensors, encoder, "hugging_face", file)
    # Classifiers of texts, of tokens and of multiple choice share a name.
    classes = _names(config, "architectures", where) or [CLASSES[frozenset({"classifier"})]]
    possible = [part for part in OUTPUTS if part == "span" or CLASSES[frozenset({part})] in classes]
    outputs = sizes(found.beside, possible, "hugging_face")
    table = list(names.rows(encoder, outputs))
    if any(name.startswith(TRANSFORM) for name in found.beside) and DECODER_BIAS in found.beside:
        found.beside.setdefault(MLM_BIAS, found.beside[DECODER_BIAS])
    of_heads = {row.names["hugging_face"] for row in table if row.of_head} & set(found.beside)

    def matched() -> Weights:
        kept = found.encoder | {name: found.beside[name] for name in of_heads}
        pairs = match(kept, table, "hugging_face", file, ("pooled_dense", *HEADS))
        return Weights("hugging_face", pairs, read_values)

    weights, copies = matched(), set()
    if "mlm_head/output_bias" in weights.matched:
        copies = COPIES.keys() & set(found.beside)
        if not all(_tied(weights, found.beside[name], COPIES[name]) for name in copies):
            # kbert's masked LM computes with the token embeddings, so its numbers would not be this head's.
            of_heads = {name for name in of_heads if not name.startswith("cls.predictions.")}
            weights, copies = matched(), set()
    ignored = sorted(found.beside[name].name for name in found.beside.keys() - of_heads - copies)
    return Checkpoint(
        format="Hugging Face",
        encoder=encoder,
        text=casing,
        vocabulary=vocabulary,
        arrays=weights.encoder,
        heads=weights.heads,
        shapes=weights.shapes,
        ignored=tuple(ignored),
        aside=tuple(sorted(tensor.name for tensor in found.aside)),
        source=weights.source(file),
        head=_head(config, where, outputs),
    )


def _head(config: dict[str, Any], where: Path, outputs: dict[str, int]) -> Head | None:
    """Return the directory's fine-tuned head."""
    if not outputs:
        return None
    kind, size = next(iter(outputs.items()))
    options: dict[str, Any] = {}
    if kind == "classifier":
        own = config.get("sentence_transformers")
        activation = own.get("activation_fn") if isinstance(own, dict) else config.get(CROSS_ENCODER)
        options = {
            "pooling": "pooler",
            "problem_type": config.get("problem_type"),
            "named": bool(config.get("architectures")),
            "cross_encoder": activation.rpartition(".")[2] if isinstance(activation, str) else None,
        }
    return Head(kind, size, _labels(config, where, size) if kind != "span" else (), options)


def _tied(weights: Weights, copy: Tensor, path: str) -> bool:
    """Return whether a tensor is a copy of the one at kbert's path; for that, both are read."""
    original = weights.matched[path][1]
    if copy.shape != original.shape:
        return False
    values = dict(weights.read([copy, original]))
    return np.array_equal(values[copy], values[original])


def _names(config: dict[str, Any], key: str, where: Path) -> list[str]:
    found = config.get(key) or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{where}: {key} is {found!r}; expected a list of names")
    return found


def _labels(config: dict[str, Any], where: Path, outputs: int) -> tuple[str, ...]:
    named = config.get("id2label")
    if named is None:
        return ()
    if not isinstance(named, dict) or sorted(named) != sorted(map(str, range(len(named)))):
        raise DataError(f'{where}: id2label is {named!r}; expected an object from "0", "1", … to labels')
    labels = tuple(str(named[str(i)]) for i in range(len(named)))
    if len(set(labels)) < len(labels):
        raise DataError(f"{where}: id2label gives two outputs the same label: {', '.join(labels)}")
    if len(labels) != outputs:
        raise DataError(f"{where}: id2label names {len(labels)} labels, but the classifier has {outputs} outputs")
    return labels


def _vocabulary(path: Path, config: Any, encoder: EncoderConfig, added: Collection[str]) -> list[str]:
    """Read the tokens of WordPiece from vocab.txt, else from tokenizer.json; `added` may have rows besides."""
    file = path / "tokenizer.json"
    if not file.exists() or (path / "vocab.txt").exists():
        return read_vocabulary(vocabulary_file(path, config), encoder, stated=stated_tokens(path), added=added)
    model = read_tokenizer(path).get("model")
    if not isinstance(model, dict) or model.get("type", "WordPiece") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise DataError(f"{file}: the model is not a WordPiece with a vocabulary")
    try:
        numbers = model["vocab"]
        tokens = sorted(numbers, key=lambda token: numbers[token])
    except TypeError as error:
        raise DataError(f"{file}: not a tokenizer: {error}") from None
    if [numbers[token] for token in tokens] != list(range(len(tokens))):
        raise DataError(f"{file}: the tokens' ids are not 0, 1, 2, … without gaps")
    text.check_vocabulary(tokens, str(file))
    check_size(len(tokens), encoder, file, len(set(added) - set(tokens)))
    return tokens


def write(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a directory that transformers' `from_pretrained` reads; return notices for the user."""
    e, heads, head, notices = checkpoint.encoder, checkpoint.heads(), checkpoint.head, []
    if head is not None and len({name.split("/")[0] for name in heads}) > 1:
        notices.append(
            f"masked LM and next sentence heads omitted: no transformers class combines them with a {OUTPUTS[head.kind]}"
        )
        heads = {name: array for name, array in heads.items() if name.startswith(head.kind + "/")}
    kind = CLASSES[frozenset(name.split("/")[0] for name in heads)]
    if not checkpoint.has_pooler and kind not in WITHOUT_POOLER:
        notices.append(f"the checkpoint has no pooler; transformers' {kind} will initialise its own at random")
    if checkpoint.has_pooler and kind in WITHOUT_POOLER:
        notices.append(f"transformers' {kind} does not use the pooler, which is written anyway")
    arrays = {**checkpoint.arrays(), **heads}
    prefix = PREFIX.get(kind, "bert.")
    tensors = {}
    for row in names.rows(e, {head.kind: head.size} if head else {}):
        if row.path in arrays:
            name = row.names["hugging_face"]
            name = name if row.of_head else prefix + name
            tensors[name] = row.written(arrays[row.path], "hugging_face")
    config = {
        **written_sizes(e),
        "architectures": [kind],
        "hidden_act": WRITTEN_ACTIVATIONS[e.activation],
        "layer_norm_eps": e.layer_norm_epsilon,
        "model_type": "bert",
        "pad_token_id": text.numbered(checkpoint.vocabulary)[text.PAD],
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
    }
    if head is not None:
        config |= {"id2label": {str(i): label for i, label in enumerate(head.names)}}
        config |= {"label2id": {label: i for i, label in enumerate(head.names)}}
        problem = problem_of(head) if "objective" in head.options else head.options.get("problem_type")
        config |= {"problem_type": problem} if problem else {}
    write_json(path / "config.json", config)
    write_text(path / "vocab.txt", "".join(token + "\n" for token in base_vocabulary(checkpoint)))
    write_tokenizer_config(checkpoint, path)
    try:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    # safetensors creates files readable by their owner only.
    (path / "model.safetensors").chmod((path / "vocab.txt").stat().st_mode & 0o777)
    return notices
