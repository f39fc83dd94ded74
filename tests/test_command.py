"""The `kbert` command, its completion in bash and zsh, the scripts of tools/ that are commands too, and the wheel that brings it."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

import pytest
from conftest import ROOT

import kbert
from kbert.__main__ import COMMANDS, main


def test_commands_are_listed_and_run(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("usage: kbert COMMAND")
        assert re.findall(r"^  (\w+)  +\S.*\.$", shown, re.MULTILINE) == list(COMMANDS)
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert f"kbert {name} " in capsys.readouterr().out
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"kbert {kbert.__version__}\n"


def test_messages_name_what_was_typed(capsys):
    assert main(["fine_tune"]) == 2
    assert (
        capsys.readouterr().err
        == "kbert: unknown command 'fine_tune' (did you mean finetune?); kbert --help lists the commands\n"
    )
    assert main(["juggle"], program="python -m kbert") == 2
    assert "python -m kbert: unknown command 'juggle'; python -m kbert --help" in capsys.readouterr().err
    assert main(["evaluate", "--no_such=1"]) == 2
    assert capsys.readouterr().err.startswith("kbert evaluate: unknown flag --no_such")
    assert main(["ask", "no model", "a text"]) == 1
    assert capsys.readouterr().err.startswith("kbert ask: no model: neither a SavedModel")


def test_every_module_of_a_command_is_one(environment):
    """Each by `python -m`, as the scripts of tools/, which also run where kbert is not installed."""
    assert all(callable(importlib.import_module(f"kbert.{name}").main) for name in COMMANDS)
    command = [sys.executable, "-m", "kbert", "export", "leftover"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "python -m kbert export")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name in ("ask", "convert_checkpoint", "make_vocab", "make_pretraining_data"):
        command = [sys.executable, ROOT / "tools" / f"{name}.py", "--help"]
        done = subprocess.run(command, env=alone, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0 and f"python tools/{name}.py" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("kbert ev", ["evaluate"]),
        ("kbert finetune --freeze_l", ["--freeze_layers="]),
        ("kbert finetune --task=m", ["match"]),
        ("kbert finetune --task=aspect --aspect_n", ["--aspect_names="]),
        ("kbert finetune --asp", []),
        ("kbert convert --format=", ["hugging_face", "google", "keras_preset"]),
        ("kbert evaluate --data=x", []),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell, line, replies, environment, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert main([f"--completion={shell}"]) == 0
    words = line.split()
    asks = {
        "bash": f"""COMP_LINE='{line}'; COMP_POINT={len(line)}; _kbert 2> /dev/null; printf '%s\\n' "${{COMPREPLY[@]}}" """,
        "zsh": f"words=({line}); CURRENT={len(words)}; PREFIX={words[-1]}; _kbert",
    }
    # What zsh has only while a line is edited.
    builtins = """
        compdef() { }; _files() { }
        compset() { PREFIX=${PREFIX#*=} }
        compadd() {
          if [[ $1 == -a ]]; then set -- ${(P)2}; else while [[ $1 != -- ]]; do shift; done; shift; fi
          print -l -- ${(M)@:#$PREFIX*}
        }"""
    script = f"""
        kbert() {{ '{sys.executable}' -m kbert "$@"; }}
        {builtins if shell == "zsh" else ""}
        {capsys.readouterr().out}
        {asks[shell]}
    """
    command = [shell, *(["-f"] if shell == "zsh" else []), "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == replies, done.stderr


def test_a_wheel_holds_all_and_runs(tmp_path):
    """Built without an index, unpacked, and run with this interpreter's packages."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "kbert", source / "kbert", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        tmp_path,
        source,
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"kbert_keras-{kbert.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "site")
    files = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.npz", "*.html", "*.json", "py.typed")
        for path in (ROOT / "kbert").rglob(pattern)
    }
    assert held == files
    (about,) = (tmp_path / "site").glob("*.dist-info")
    entry = (about / "entry_points.txt").read_text()
    assert "kbert = kbert.__main__:main" in entry

    # In an environment of its own, which sees this one's packages but not the repository.
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--no-deps", "--no-index", "-q", wheel]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for arguments, start in (
        ([], "usage: kbert COMMAND"),
        (["--version"], f"kbert {kbert.__version__}"),
        (["finetune", "--help"], "usage: kbert finetune"),
    ):
        done = subprocess.run(
            [home / "bin" / "kbert", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0 and start in done.stdout.splitlines()[0], (done.stdout, done.stderr)


def test_extras_name_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    referred = {
        found for packages in extras.values() for each in packages for found in re.findall(r"^(kbert[\w-]*)\[(.*)\]", each)
    }
    assert referred and all(name == project["name"] and set(names.split(",")) <= set(extras) for name, names in referred)
