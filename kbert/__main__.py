"""The `kbert` command: `kbert COMMAND ...` runs `kbert.COMMAND`; also `python -m kbert`.

In: the arguments. Out: the command's exit code. Without a command it lists them.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

from kbert import __version__, completion

COMMANDS = {
    "finetune": "Fine-tune a BERT checkpoint on a task.",
    "evaluate": "Measure a trained model on labelled rows.",
    "predict": "Predict rows of text with a trained model.",
    "adopt": "Make a model directory of a checkpoint that another toolkit fine-tuned.",
    "export": "Export a trained model as a SavedModel that takes raw text.",
    "serving_config": "Write TensorFlow Serving's and Kubernetes' files for exported models.",
    "ask": "Send texts to an exported model.",
    "serve": "Serve an exported model over HTTP and gRPC.",
    "encode": "Write sentence or token vectors of texts.",
    "inspect": "Show how texts are split into tokens.",
    "pretrain": "Pre-train a BERT on plain text, from scratch or from a checkpoint.",
    "make_vocab": "Learn a WordPiece vocabulary from plain text.",
    "make_pretraining_data": "Write pre-training examples of plain text as TFRecords.",
    "convert": "Write a checkpoint as Hugging Face's, Google's or a Keras preset.",
}


def main(argv: Sequence[str] | None = None, program: str = "kbert") -> int:
    """Run one command; return its exit code, 2 if there is no such command."""
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in COMMANDS:
        return int(importlib.import_module(f"kbert.{name}").main(arguments, program=f"{program} {name}"))
    if name in ("--help", "-h", "help"):
        print(_help(program))
        return 0
    if name == "--version":
        print(f"kbert {__version__}")
        return 0
    shells = {f"--completion={shell}": shell for shell in completion.SCRIPTS}
    if name in shells:
        print(completion.script(shells[name], COMMANDS))
        return 0
    close = difflib.get_close_matches(name, [*COMMANDS, "--help", "--version", *shells], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    print(f"{program}: unknown command {name!r}{hint}; {program} --help lists the commands", file=sys.stderr)
    return 2


def _help(program: str) -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            f"usage: {program} COMMAND [--flag=value ...]",
            "",
            "BERT in Keras, from raw text to a served model.",
            "",
            "commands:",
            *(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()),
            "",
            f"{program} COMMAND --help lists a command's flags.",
            f"{program} --version prints the version, {program} --completion=bash (or zsh) a completion script.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(program="python -m kbert"))
