"""Load a server with requests of mixed lengths while a new version is published, and compare every answer with the model's own.

    python tools/bench/load.py --export_dir=savedmodels/NAME --input=TEXTS [--requests=100000] [--clients=8] [-- FLAGS]

`--input` holds a text a line (of a .tsv, the first column). The requests take one to four texts each, cut or joined to lengths
from one word to several hundred. The newest version in `--export_dir` is copied and served by `kbert serve` (`FLAGS`
are its own); at half of the requests it is published as the next version. Wrong are answers whose texts or integers differ
from those of the SavedModel called directly on the request alone, or whose floats are further away than `--tolerance`.
Memory is the server's resident memory at the start and after each tenth of the requests.
"""

import argparse
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from serving_client import Client, Failed, Rest, same  # noqa: E402

DIFFERENT = 500  # requests, which are sent again and again


def texts_of(path: Path) -> list[str]:
    """Return the texts of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0] if path.suffix == ".tsv" else line for line in lines if line.strip()][:5000]


def requests_of(texts: list[str], fields: list[str]) -> list[dict[str, list[str]]]:
    """Return requests whose texts have lengths of all kinds."""
    random.seed(0)

    def text() -> str:
        kind = random.random()
        if kind < 0.2:
            return random.choice(texts).split(" ")[0][:20]
        return " ".join(random.choices(texts, k=random.randint(5, 15))) if kind > 0.95 else random.choice(texts)

    return [
        {name: [text() for _ in range(rows)] for name in fields} for rows in random.choices((1, 2, 4), (8, 1, 1), k=DIFFERENT)
    ]


def direct(model: Path, requests: list[dict[str, list[str]]]) -> list[dict[str, Any]]:
    """Return the answers of the SavedModel, called on each request alone."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (the model holds its operations)

    serve = tf.saved_model.load(str(model)).signatures["serving_default"]

    def plain(value: Any) -> Any:
        return (
            [plain(each) for each in value]
            if isinstance(value, list)
            else value.decode()
            if isinstance(value, bytes)
            else value
        )

    return [
        {n: plain(v.numpy().tolist()) for n, v in serve(**{f: tf.constant(t) for f, t in request.items()}).items()}
        for request in requests
    ]


def megabytes(pid: int) -> int:
    """Return the resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(found[1]) >> 10 if found else 0


class Load:
    """Sends the requests and compares the answers."""

    def __init__(self, client: Client, requests: list[dict[str, list[str]]], expected: list[dict[str, Any]], tolerance: float):
        self._client, self._requests, self._expected, self._tolerance = client, requests, expected, tolerance
        self.done = self.wrong = 0
        self.failed: list[str] = []
        self._lock = threading.Lock()

    def answered(self) -> int:
        """Return the number of requests that are over."""
        return self.done + len(self.failed)

    def run(self, numbers: Iterator[int], requests: int) -> None:
        """Send requests, one after another, until so many have been sent by all clients."""
        while (number := next(numbers)) < requests:
            self.one(number)

    def one(self, number: int) -> None:
        """Send a request."""
        which = number % len(self._requests)
        try:
            found = self._client.predict("serving_default", self._requests[which])
        except Failed as error:
            self.failed.append(str(error))
            return
        wanted = self._expected[which]
        if found.keys() == {""}:
            found = {next(iter(wanted)): found[""]}
        right = same(wanted, found, self._tolerance)
        with self._lock:
            self.done += 1
            self.wrong += not right


def served(export_dir: Path, flags: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start kbert serve; return its process and port."""
    command = [
        sys.executable,
        "-m",
        "kbert.serve",
        f"--export_dir={export_dir}",
        "--model_name=load",
        "--port=0",
        "--grpc_port=0",
    ]
    process = subprocess.Popen([*command, *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/v1", line):
            return process, int(found[1])
    raise SystemExit("the server has not started")


def main() -> int:
    """Run the load; return 1 if a request failed, an answer was wrong, or no new version came."""
    argv, _, flags = (" ".join(sys.argv[1:])).partition(" -- ")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--export_dir", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--fields", default="text")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args(argv.split())
    newest = max((int(p.name) for p in options.export_dir.iterdir() if p.name.isdigit()), default=None)
    if newest is None:
        parser.error(f"--export_dir={options.export_dir}: has no version")
    source = options.export_dir / str(newest)
    requests = requests_of(texts_of(options.input), options.fields.split(","))
    expected = direct(source, requests)
    with tempfile.TemporaryDirectory() as folder:
        export_dir = Path(folder) / "load"
        shutil.copytree(source, export_dir / "1")
        process, port = served(export_dir, flags.split())
        try:
            client = Client(Rest(f"http://127.0.0.1:{port}", "load", 120), retries=0)
            load = Load(client, requests, expected, options.tolerance)
            memory = {"start": megabytes(process.pid)}
            start = time.perf_counter()
            numbers = itertools.count()
            threads = [threading.Thread(target=load.run, args=(numbers, options.requests)) for _ in range(options.clients)]
            for thread in threads:
                thread.start()
            for tenth in range(1, 11):
                while load.answered() < options.requests * tenth // 10:
                    time.sleep(0.02)
                memory[f"{10 * tenth} %"] = megabytes(process.pid)
                if tenth == 5:
                    shutil.copytree(source, export_dir / ".writing")
                    (export_dir / ".writing").rename(export_dir / "2")
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - start
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/load") as response:
                with_states = json.load(response)["model_version_status"]
        finally:
            process.terminate()
            process.wait()
    states = {each["version"]: each["state"] for each in with_states}
    print(client.report(seconds, load.done))
    print(f"{options.requests} requests: {load.wrong} wrong, {len(load.failed)} failed; versions {states}")
    print("server's memory, MB: " + ", ".join(f"{part} {size}" for part, size in memory.items()))
    print(json.dumps({"failed": sorted(set(load.failed))[:5]}) if load.failed else "no request failed")
    return int(bool(load.wrong or load.failed or states.get("2") != "AVAILABLE" or process.returncode))


if __name__ == "__main__":
    sys.exit(main())
