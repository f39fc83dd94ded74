"""Answer golden requests with the TensorFlow and TensorFlow Text that releases of TensorFlow Serving link.

    python tools/old_servers.py [--environments=/tmp/old_servers] savedmodels/NAME/VERSION ...
    python tools/old_servers.py --write_table        (kbert/releases.json, from the registries of operations)

Makes an environment for each release (Python 3.11; about 1.5 GB each) and replays each export's `assets.extra/golden.jsonl`
there: labels and strings must be equal, floats within 1e-5. Prints a Markdown table; exits with 1 if anything differs. Tiny
exports of every task are left by `pytest tests/test_tasks.py -k certificate --basetemp=DIR`, in DIR/*/*/1.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# Release of the server: TensorFlow, TensorFlow Text. The odd ones serve to know when an operation came; a package of
# TensorFlow Text is there for them too, but servers up to 2.19.1 link 2.12.1.
PACKAGES = {
    "2.12": ("tensorflow==2.12.1", "tensorflow-text==2.12.1"),
    "2.13": ("tensorflow-cpu==2.13.1",),
    "2.14": ("tensorflow==2.14.1", "tensorflow-text==2.14.0"),
    "2.15": ("tensorflow-cpu==2.15.1",),
    "2.16": ("tensorflow==2.16.2", "tensorflow-text==2.16.1"),
    "2.17": ("tensorflow-cpu==2.17.1",),
    "2.18": ("tensorflow==2.18.1", "tensorflow-text==2.18.1"),
    "2.19": ("tensorflow-cpu==2.19.1",),
    "2.20": ("tensorflow==2.20.0", "tensorflow-text==2.20.1"),
}
TEXT_OF_SERVERS = {"2.12": "2.12", "2.20": "2.20"}  # the TensorFlow Text of an environment: the first release that links it
REGISTRY = """
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2, types_pb2
from tensorflow.python.client import pywrap_tf_session as c
def operations():
    found = op_def_pb2.OpList()
    found.ParseFromString(c.TF_GetBuffer(c.TF_GetAllOpList()))
    types = lambda a: [types_pb2.DataType.Name(t) for t in a.allowed_values.list.type]
    return {o.name: {a.name: types(a) for a in o.attr} for o in found.op}
core = operations()
try:
    import tensorflow_text
except ImportError:
    pass
every = operations()
print(json.dumps({"tensorflow": tf.__version__, "core": core, "text": {n: a for n, a in every.items() if n not in core}}))
"""


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=Path("/tmp/old_servers"), help="folder of the environments")
    parser.add_argument("--write_table", action="store_true", help="write kbert/releases.json")
    parser.add_argument("exports", nargs="*", type=Path, help="versions of exported models, with their golden requests")
    options = parser.parse_args()
    if options.write_table:
        write_table(options.environments)
    return compare(options.environments, options.exports) if options.exports else 0


def python_of(environments: Path, release: str) -> str:
    """Return the interpreter of a release's environment, which is made if it is missing."""
    path = environments / release
    done = path / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
        install = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[release], "setuptools<81"]
        subprocess.run(install, check=True)
        done.touch()
    return str(path / "bin" / "python")


def compare(environments: Path, exports: list[Path]) -> int:
    """Print a table of the exports in each release; return 1 if an answer differs."""
    exports = [*dict.fromkeys(path.resolve() for path in exports)]
    names = [path.parent.name for path in exports]
    pythons = {release: python_of(environments, release) for release, packages in PACKAGES.items() if len(packages) == 2}
    bad = 0
    columns: list[list[str]] = []
    for python in [*pythons.values(), sys.executable]:
        found = replayed(python, exports)
        cells = [cell(each) for each in found]
        versions = next((each for each in found if "tensorflow" in each), {"tensorflow": "?", "tensorflow_text": "?"})
        bad += sum(bool(each.get("differences", 1)) for each in found)
        columns.append([f"{versions['tensorflow']}, Text {versions['tensorflow_text']}", "---", *cells])
        for name, each in zip(names, found, strict=True):
            for line in [*each.get("shown", []), *([each["error"]] if "error" in each else [])]:
                print(f"{name}: {line}", file=sys.stderr)
    for row in zip(["model", "---", *names], *columns, strict=True):
        print("| " + " | ".join(row) + " |")
    return int(bad > 0)


def replayed(python: str, exports: list[Path]) -> list[dict[str, Any]]:
    """Replay the exports with an interpreter; return a result each."""
    program = ROOT / "kbert" / "serving" / "replay.py"
    command = [python, "-I", str(program), "--seconds=0", *(str(path) for path in exports)]
    done = subprocess.run(command, capture_output=True, text=True)
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    missing = {"error": f"no answer; exit code {done.returncode}: {done.stderr.strip()[-300:]}"}
    return found + [missing] * (len(exports) - len(found))


def cell(found: dict[str, Any]) -> str:
    """Return a result in a few words."""
    if "error" in found:
        return "fails"
    return f"{found['differences']} differ" if found["differences"] else f"equal ({found['largest']:.0e})"


def write_table(environments: Path) -> None:
    """Write what came after the oldest release: operations, attributes, and types that attributes allow."""
    registries = {release: _registry(python_of(environments, release)) for release in PACKAGES}
    registries["none"] = _registry(sys.executable)
    since: dict[str, list[str]] = {release: [] for release in list(registries)[1:]}
    _add(since, {release: registry["core"] for release, registry in registries.items()})
    text = {TEXT_OF_SERVERS[release]: registries[release]["text"] for release in TEXT_OF_SERVERS}
    _add(since, {**text, "none": registries["none"]["text"]})
    version = ".".join(registries["none"]["tensorflow"].split(".")[:2])
    lines = ",\n".join(f"  {json.dumps(release)}: {json.dumps(added)}" for release, added in since.items())
    (ROOT / "kbert" / "releases.json").write_text(
        f'{{\n "tensorflow": "{version}",\n "since": {{\n{lines}\n }}\n}}\n', encoding="utf-8"
    )


def _registry(python: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(subprocess.run([python, "-I", "-c", REGISTRY], check=True, capture_output=True).stdout)
    return found


def _add(since: dict[str, list[str]], registries: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    """Add what is new in each registry against the one before; names with "_" first never are in a saved graph."""
    releases = list(registries)
    for before, release in itertools.pairwise(releases):
        old = registries[before]
        for name, attributes in sorted(registries[release].items()):
            if name.startswith("_"):
                continue
            if name not in old:
                since[release].append(name)
                continue
            for attribute, types in attributes.items():
                if attribute not in old[name]:
                    since[release].append(f"{name}.{attribute}")
                elif old[name][attribute]:
                    since[release] += [f"{name}.{attribute}={t}" for t in types if t not in old[name][attribute]]


if __name__ == "__main__":
    sys.exit(main())
