"""Read and write Google's TF1 checkpoints (google-research/bert): bert_config.json, vocab.txt, bert_model.ckpt.*.

In: a directory as distributed for BERT, bert-base-chinese or Chinese-BERT-wwm, or as written by run_classifier.py or
run_squad.py. Out: a `Checkpoint`; and the reverse.
"""

from pathlib import Path

from kbert.checkpoints import added_tokens, names
from kbert.checkpoints.casing import read_casing, stated_tokens
from kbert.checkpoints.checkpoint import Checkpoint, bert_config, read_vocabulary, written_sizes
from kbert.checkpoints.head import Head
from kbert.checkpoints.names import HEADS
from kbert.checkpoints.tensor_files import tensorflow_list, tensorflow_read
from kbert.checkpoints.tensor_matching import Weights, deduplicated, match, sizes
from kbert.checkpoints.tokenizer_config import OTHERS, base_vocabulary, write_tokenizer_config
from kbert.config import TextConfig
from kbert.errors import DataError
from kbert.files import read_json, write_json, write_text

# Google's gelu is the tanh approximation.
ACTIVATIONS = {"gelu": "gelu_approximate", "relu": "relu"}
OPTIMIZER = ("/adam_m", "/adam_v")
READS = {"classifier": {"pooling": "pooler"}}
WRITTEN = ("classifier", "span")  # heads that the form can store


def read(path: Path) -> Checkpoint:
    """Read a directory with a bert_config.json.

    Raises:
        DataError: a file is missing, damaged, or does not match the others.
    """
    where = path / "bert_config.json"
    if (path / "pytorch_model.bin").exists() and not list(path.glob("*.ckpt*")):
        raise DataError(
            f"{path}: PyTorch weights beside a bert_config.json, the oldest form of a Hugging Face directory; copy it to "
            'config.json, add "model_type": "bert" there, and try again'
        )
    encoder = bert_config(read_json(where), where, ACTIVATIONS)
    found = sorted(path.glob("*.ckpt*.index"))
    if len(found) != 1:
        raise DataError(f"{path}: expected one *.ckpt.index file beside bert_config.json, found {len(found)}")
    added = added_tokens.listed(path)
    vocabulary = read_vocabulary(path / "vocab.txt", encoder, stated=stated_tokens(path), added=added)
    vocabulary, casing = added_tokens.placed(added, path, vocabulary, _casing(path, vocabulary), encoder.vocabulary_size)
    prefix = found[0].with_suffix("")
    tensors = deduplicated(
        (t.name, t) for t in tensorflow_list(prefix) if t.name != "global_step" and not t.name.endswith(OPTIMIZER)
    )
    outputs = sizes(tensors, WRITTEN, "google")
    ignored = tuple(sorted(name for name in tensors if name.startswith("cls/squad/") and "span" not in outputs))
    kept = {name: tensor for name, tensor in tensors.items() if name not in ignored}
    table = names.rows(encoder, outputs)
    weights = Weights("google", match(kept, table, "google", prefix, ("pooled_dense", *HEADS)), tensorflow_read)
    return Checkpoint(
        format="Google TF1",
        encoder=encoder,
        text=casing,
        vocabulary=vocabulary,
        arrays=weights.encoder,
        heads=weights.heads,
        shapes=weights.shapes,
        ignored=ignored,
        head=next((Head(kind, size, options=READS.get(kind, {})) for kind, size in outputs.items()), None),
    )


def _casing(path: Path, vocabulary: list[str]) -> TextConfig:
    """Determine the casing from tokenizer_config.json if present, else from the vocabulary.

    Google's releases do not state the casing. As their users do, infer it from the vocabulary: uncased ones
    have no capitals except in special tokens such as [CLS] or bert-base-chinese's <S>.
    """
    if (path / "tokenizer_config.json").exists():
        return read_casing(path, {})
    words = (token for token in vocabulary if not (token[:1] in "[<" and token[-1:] in "]>"))
    lowercase = not any("A" <= character <= "Z" for word in words for character in word)
    return TextConfig(lowercase=lowercase, strip_accents=lowercase)


def write(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a directory that google-research/bert reads, with GELU as its tanh approximation.

    Returns:
        Notices for the user.
    """
    import tensorflow as tf

    e, head, notices = checkpoint.encoder, checkpoint.head, []
    if checkpoint.labels:
        notices.append(f"Google's format cannot store label names; their order is {', '.join(checkpoint.labels)}")
    if checkpoint.text.added_tokens:
        notices.append(OTHERS)
    arrays = {**checkpoint.arrays(), **checkpoint.heads()}
    table = [row for row in names.rows(e, {head.kind: head.size} if head else {}) if row.path in arrays]
    config = {**written_sizes(e), "hidden_act": "relu" if e.activation == "relu" else "gelu"}
    write_json(path / "bert_config.json", config)
    write_text(path / "vocab.txt", "".join(token + "\n" for token in base_vocabulary(checkpoint)))
    write_tokenizer_config(checkpoint, path)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(path / "bert_model.ckpt"),
            tensor_names=[row.names["google"] for row in table],
            shape_and_slices=[""] * len(table),
            tensors=[tf.constant(row.written(arrays[row.path], "google")) for row in table],
        )
    except tf.errors.OpError as error:
        raise OSError(error.message) from None
    return notices
