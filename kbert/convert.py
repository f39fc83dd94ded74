"""Write a BERT checkpoint in another form.

    kbert convert --init=CHECKPOINT --output=DIR --format=hugging_face|google|keras_preset

Reads what `--init` of the other commands reads: a Hugging Face directory, a Google TF1 checkpoint, a
Keras preset, a kbert model. What kbert.finetune trained becomes transformers' `BertForSequenceClassification`
(--task=classify), `BertForTokenClassification` (tag) or `BertForQuestionAnswering` (answer).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kbert import flags, runtime
from kbert.settings import flag

ABOUT = """
Write a BERT checkpoint as a Hugging Face directory, a Google TF1 checkpoint or a Keras preset: weights,
configuration, vocabulary, casing, head. What the form has no place for is refused, or named where it is pre-training's.
"""


@dataclass(frozen=True, kw_only=True)
class ConvertFlags:
    init: str = flag(
        help="Checkpoint to read: a directory (Hugging Face, Google TF1, Keras preset, kbert model) or the name of a preset."
    )
    output: str = flag(help="Directory to write; must be new or empty.")
    format: Literal["hugging_face", "google", "keras_preset"] = flag(help="Format to write.")
    approximate_gelu: bool = flag(
        False,
        help="Allow a checkpoint with the exact GELU in a format that implies the tanh approximation; outputs then differ in "
        "the third decimal.",
    )
    encoder_only: bool = flag(False, help="Do not write a head, even if the checkpoint has one.")


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.convert") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (ConvertFlags,), run)


def run(convert: ConvertFlags) -> int:
    """Read, write, and say what was written."""
    runtime.start()
    from kbert import checkpoints

    checkpoint = checkpoints.open_checkpoint(convert.init)
    notices = checkpoints.write_checkpoint(
        checkpoint,
        convert.output,
        convert.format,
        approximate_gelu=convert.approximate_gelu,
        encoder_only=convert.encoder_only,
    )
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)
    print(checkpoints.summary(checkpoints.open_checkpoint(convert.output)))
    print(f"\nwritten: {convert.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
