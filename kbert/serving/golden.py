"""Make requests of all kinds for every signature of an exported model, and record its answers.

In: a predictor. Out: lines of JSON, each a request and its answer in the column format of
TensorFlow Serving's REST API: `signature_name`, `inputs`, `outputs`. Bytes that are not UTF-8 are {"b64": ...}.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.model.chunks import padded
from kbert.serving.predictor import Predictor
from kbert.serving.replay import plain
from kbert.serving.signatures import IDS, answer, examples_input, ids_signature, signatures
from kbert.tasks.base import Servable, Signature

# Short, Chinese, empty, blank, emoji, invalid bytes, control tokens, marks and other scripts, a NUL, and long ones.
TEXTS = (
    "A warm, funny film with a great cast.",
    "这部电影很好看，推荐！",
    "",
    " \t\n ",
    "Great 🎉👩‍👩‍👧 ❤️",
    b"bad bytes \xff\xfe\xc3( end",
    "the [MASK] was [SEP] good [CLS] [UNK]",
    "nai\u0308ve Cafe\u0301 \u202eabc\u202c İstanbul ΟΔΟΣ straße 한국어 हिन्दी ไทย",
    "a\0b \ufffd \U0010ffff",
    "x" * 300,
)
LONG = "The food was good but the service was slow. ", "价格便宜，服务一般。"  # repeated until a model's limit is exceeded
SERIALIZED_ROWS = 4  # of tf.Examples, whose texts run through the graph of plain ones


class Request(NamedTuple):
    """A request to a signature.

    Attributes:
        inputs: by name, bytes or int32, [rows, ...].
        raw: the fields in them, bytes [rows, ...], where the signature takes strings.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    raw: dict[str, np.ndarray] | None = None


def requests(predictor: Predictor[Any]) -> list[Request]:
    """Return requests to all signatures, of no row, one row and rows of every kind."""
    task = predictor.task
    found = [request for name, signature in signatures(task).items() for request in _of_strings(name, signature, task)]
    texts = {name: tf.constant(values[:5]) for name, values in rows(task).items()}
    encoded = padded(predictor.encode(texts), task.tokenizer.pad_id)
    ids = {name: encoded[name].numpy() for name in IDS}
    return [*found, *(Request(ids_signature(task), _some(ids, most)) for most in (0, 1, None))]


def record(predictor: Predictor[Any], asked: list[Request]) -> list[dict[str, Any]]:
    """Return the requests with the predictor's answers, as JSON values."""
    lines = []
    for name, inputs, raw in asked:
        if raw is None:
            found = predictor.answer_ids({field: tf.constant(values) for field, values in inputs.items()})
        else:
            texts = {field: tf.constant(values, tf.string) for field, values in raw.items()}
            found = answer(predictor, signatures(predictor.task)[name], texts)
        lines.append(
            {
                "signature_name": name,
                "inputs": {field: plain(values.tolist()) for field, values in inputs.items()},
                "outputs": {output: plain(value.numpy().tolist()) for output, value in found.items()},
            }
        )
    return lines


def rows(task: Servable, signature: Signature | None = None) -> dict[str, np.ndarray]:
    """Return rows of a signature, by default `serving_default`, whose fields hold different kinds of text, bytes [rows]."""
    signature = signature or task.signatures()["serving_default"]
    longer = 3 * task.config.max_length // 2  # tokens
    texts = [*TEXTS, *(text * (longer // 10 + 1) for text in LONG)]
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    known = {field: [text.encode() for text in those] for field, those in signature.trials}
    columns = {}
    for place, field in enumerate(signature.fields):
        those = known.get(field, raw)
        columns[field] = np.array([those[(row + 4 * place) % len(those)] for row in range(len(raw))], object)
    return columns


def _some(columns: dict[str, np.ndarray], most: int | None) -> dict[str, np.ndarray]:
    return {name: values[:most] for name, values in columns.items()}


def _of_strings(name: str, signature: Signature, task: Servable) -> list[Request]:
    raw = rows(task, signature)
    if signature.serialized:
        raw = _some(raw, SERIALIZED_ROWS)
        examples = [_example({field: values[row] for field, values in raw.items()}) for row in range(SERIALIZED_ROWS)]
        inputs = {examples_input(signature): np.array(examples, object)}
    elif signature.dimensions == 2:
        inputs = raw = {field: _split(texts) for field, texts in raw.items()}
    else:
        inputs = raw
    return [Request(name, _some(inputs, most), _some(raw, most)) for most in (0, 1, None)]


def _example(fields: dict[str, bytes]) -> bytes:
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])) for name, text in fields.items()}
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    return serialized


def _split(texts: np.ndarray) -> np.ndarray:
    """Return the words of texts, bytes [rows, words], padded with b""."""
    words = [text.split() for text in texts]
    most = max(map(len, words))
    return np.array([[*some, *[b""] * (most - len(some))] for some in words], object)
