"""Ask an exported model, as a server does: with TensorFlow and its text operations alone.

    kbert ask savedmodels/NAME[/VERSION] [--signature=NAME] "a text" ["a second text" ...]

For a model of pairs, separate the two texts of a row by a tab, in the model's order: text and text_b, question and
context, title and text. Without a version the newest answers; --signature calls another of its functions, as `encode` or
`pair`. This file imports nothing of kbert: copied beside a SavedModel, it runs there.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(argv: list[str] | None = None, program: str = "python -m kbert.ask") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    usage = (__doc__ or "").split("This file")[0].rstrip().replace("kbert ask", program)
    if arguments[:1] in (["--help"], ["-h"]):
        print(usage)
        return 0
    model, *texts = arguments or [""]
    signature = "serving_default"
    if texts and texts[0].startswith("--signature="):  # by hand, since a text may begin with a hyphen
        signature, *texts = texts[0].removeprefix("--signature="), *texts[1:]
    if not texts:
        print(usage, file=sys.stderr)
        return 2
    path = Path(model)
    if not (path / "saved_model.pb").exists():
        versions = sorted((p for p in path.glob("*") if p.name.isdigit()), key=lambda p: int(p.name))
        if not versions:
            print(f"{program}: {path}: neither a SavedModel nor a folder of numbered ones", file=sys.stderr)
            return 1
        path = versions[-1]
    tf = _tensorflow()
    signatures = tf.saved_model.load(str(path)).signatures
    if signature not in signatures:
        print(f"{program}: --signature={signature}: the model has {', '.join(sorted(signatures))}", file=sys.stderr)
        return 2
    serve = signatures[signature]
    fields = _fields(path, serve)
    rows = [text.split("\t") for text in texts]
    wrong = next((row for row in rows if len(row) != len(fields)), None)
    if wrong is not None:
        names = ", ".join(fields)
        print(f"{program}: the model reads {len(fields)} texts a row ({names}), found {len(wrong)}", file=sys.stderr)
        return 2
    inputs = list(zip(*rows, strict=True))
    answers = serve(**{name: tf.constant(column) for name, column in zip(fields, inputs, strict=True)})
    columns = {name: value.numpy().tolist() for name, value in answers.items()}
    for i, text in enumerate(texts):
        answer = {name: _plain(values[i]) for name, values in columns.items()}
        print(json.dumps({"input": text, **answer}, ensure_ascii=False))
    return 0


def _fields(path: Path, serve: Any) -> list[str]:
    """Return the inputs in the model's own order; a signature has none."""
    about = path / "assets.extra" / "kbert.json"
    order = json.loads(about.read_text(encoding="utf-8")).get("fields", []) if about.exists() else []
    inputs = set(serve.structured_input_signature[1])
    return [*(name for name in order if name in inputs), *sorted(inputs - set(order))]


def _tensorflow() -> Any:
    """Import TensorFlow and its text operations without what they write to stderr meanwhile."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  (the model holds its operations)
    finally:
        os.dup2(kept, 2)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    return tf


def _plain(values: object) -> object:
    """Decode the bytes that TensorFlow returns for strings; JSON has no bytes."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values


if __name__ == "__main__":
    sys.exit(main())
