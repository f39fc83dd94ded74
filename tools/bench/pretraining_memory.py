"""Measure the peak memory and speed of tools/make_pretraining_data.py on a small and on a large text (Linux).

    python tools/bench/pretraining_memory.py --input=text.txt --vocab=vocab.txt --lowercase [--sizes=10,1000]

The text is repeated up to each size (in MB) and made into shards once, by one worker process. Memory is that of both processes
together, sampled five times a second: their own memory, and pages mapped from files, which the system reclaims when memory
is short.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOL = Path(__file__).resolve().parents[1] / "make_pretraining_data.py"


def repeated(source: Path, target: Path, megabytes: int) -> None:
    """Write the text repeatedly, with a blank line after each copy, until the size is reached."""
    text = source.read_bytes().rstrip(b"\n") + b"\n\n"
    size = megabytes * 1_000_000
    with open(target, "wb") as file:
        while file.tell() + len(text) <= size:
            file.write(text)
        rest = text[: size - file.tell()]
        file.write(rest[: rest.rfind(b"\n") + 1])  # no half characters


def family(process: int) -> list[int]:
    """Return a process and all its descendants."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(each for child in children for each in family(int(child)))]


def memory(process: int) -> tuple[int, int]:
    """Return the megabytes of a process and all its descendants: their own, and mapped from files."""
    own = mapped = 0
    for each in family(process):
        try:
            status = dict(re.findall(r"(Rss\w+):\s+(\d+) kB", Path(f"/proc/{each}/status").read_text()))
        except OSError:
            continue
        own += int(status.get("RssAnon", 0))
        mapped += int(status.get("RssFile", 0))
    return own // 1000, mapped // 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, type=Path, help="a file, a sentence a line, blank lines between documents")
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--lowercase", action="store_true")
    parser.add_argument("--sizes", default="10,1000", help="megabytes of text")
    args = parser.parse_args()
    print(f"{'text MB':>8} {'seconds':>8} {'own MB':>8} {'mapped MB':>10}  ")
    for size in map(int, args.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            repeated(args.input, text, size)
            flags = {"input": text, "vocab": args.vocab, "lowercase": args.lowercase, "output": f"{folder}/shards"}
            more = ["--passes=1", "--shards=4", "--processes=1"]
            command = [sys.executable, str(TOOL), *(f"--{name}={value}" for name, value in flags.items()), *more]
            start, peak = time.monotonic(), (0, 0)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tool:
                while tool.poll() is None:
                    peak = tuple(map(max, peak, memory(tool.pid)))  # type: ignore[assignment]
                    time.sleep(0.2)
                assert tool.stdout is not None
                made = re.sub(r"^.*: ", "", tool.stdout.read().strip())
            print(f"{size:>8} {time.monotonic() - start:>8.0f} {peak[0]:>8} {peak[1]:>10}  {made}", flush=True)
            if tool.returncode:
                sys.exit(tool.returncode)


if __name__ == "__main__":
    main()
