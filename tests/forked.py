"""Processes of their own that do not import TensorFlow again: forked from one that has imported it and run no operation yet.

`Forks` starts that process; each `start` forks it to run a program's text, as `python -c` would. TensorFlow starts its threads
at its first operation, so that a fork before is safe; the imports cost seconds of each process that does them.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def program_of(name: str) -> str:
    """Return the program of `python -m kbert.NAME`."""
    return f"import sys\nfrom kbert import {name}\nsys.exit({name}.main())\n"


class Forked:
    """A process with the methods of `subprocess.Popen` that tests use; its output, stderr too, is in a file."""

    def __init__(self, forks: "Forks", pid: int, output: Path):
        self.pid, self.output, self.returncode = pid, output, None
        self._forks = forks

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._forks.ask({"wait": self.pid})
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def communicate(self, timeout: float = 600) -> tuple[str, None]:
        """Wait until it ends; return what it wrote."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(self.output.read_text())
            time.sleep(0.01)
        return self.output.read_text(), None


class Forks:
    """The process that others are forked from; it ends with its standard input."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, program: str, arguments: list[str], environment: dict[str, str]) -> Forked:
        self._count += 1
        output = self._folder / f"{self._count}.out"
        output.touch()
        request = {"program": program, "arguments": arguments, "environment": environment, "output": str(output)}
        return Forked(self, self.ask(request), output)

    def close(self) -> None:
        self._process.communicate()


def forked(program: str, arguments: list[str], environment: dict[str, str], output: str) -> int:
    """Run a program in a fork of this process; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY)):
            os.dup2(os.open(path, flags | os.O_APPEND), number)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[1:] = arguments
        exec(program, {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    from kbert import runtime

    runtime.start()
    import kbert.pretraining.job
    import kbert.train.fine_tuning  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        else:
            print(forked(**request), flush=True)


if __name__ == "__main__":
    serve()
