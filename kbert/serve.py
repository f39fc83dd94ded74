"""Serve an exported model over HTTP and gRPC: `python -m kbert.serve --export_dir=savedmodels/NAME`."""

import importlib.util
import sys
from collections.abc import Sequence

from kbert import flags, runtime
from kbert.errors import UsageError
from kbert.server import options as checks
from kbert.server.options import ServeFlags

ABOUT = """
Answer raw text over TensorFlow Serving's REST API, and its gRPC API, with the newest version in EXPORT_DIR. A version that is
added later replaces it without a failed request. Needs the extra: pip install 'kbert-keras[serve]'.
"""


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.serve") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (ServeFlags,), run)


def run(options: ServeFlags) -> int:
    """Serve until a signal; returns the exit code."""
    directory, (wanted, labels) = checks.directory(options), checks.versions(options)
    missing = [name for name in ("starlette", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"kbert serve needs {', '.join(missing)}: pip install 'kbert-keras[serve]'")
    with checks.listening(options) as listening:
        runtime.start()
        from kbert.server.start import serve

        return serve(options, directory, wanted, labels, listening)


if __name__ == "__main__":
    sys.exit(main())
