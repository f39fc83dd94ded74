"""The house rules: imports run downwards, flags live in one file, nothing happens at import."""

import ast
import itertools
import subprocess
import sys
from fnmatch import fnmatch

import pytest
from conftest import ROOT

from kbert.__main__ import COMMANDS
from kbert.saved import FIGURES, STATE, WEIGHTS
from kbert.tasks import RECORDED

# Lowest first: a file imports from rows above its own, or from its own. The longest pattern that fits a module counts.
ROWS = {
    "basics": ["kbert", "kbert.*"],  # what has no other room
    "server": ["kbert.server", "kbert.server.*"],  # runs where kbert's models cannot be trained
    "data": ["kbert.data.*"],
    "options": ["kbert.tasks", "kbert.tasks.options", "kbert.tasks.*.options"],
    "settings": [
        "kbert.recorded",
        "kbert.kept_checkpoints",
        "kbert.model_dir",
        "kbert.same_run",
        "kbert.flags",
        "kbert.keywords",
    ],
    "model": ["kbert.model.*"],
    "checkpoints": ["kbert.checkpoints.*"],
    "tasks": ["kbert.tasks.*", "kbert.datasets.*"],
    "serving": ["kbert.serving.*", "kbert.trained"],
    "training": ["kbert.train.*", "kbert.pretraining.*", "kbert.vectors.*"],
    "commands": ["kbert.__main__", *(f"kbert.{name}" for name in COMMANDS)],
    "python": ["kbert.api", "kbert.layers"],
}
# Imported by what has to be quick, or to run before TensorFlow's threads are set: no TensorFlow.
LIGHT = [
    "kbert.*",
    "kbert.data.*",
    "kbert.tasks.*.options",
    "kbert.pretraining.documents",
    "kbert.pretraining.start",
    "kbert.train.session",
    "kbert.train.inputs",
    "kbert.vectors.formats",
    "kbert.tasks.label_metrics",
    "kbert.tasks.rows",
    "kbert.tasks.tables",
    "kbert.tasks.*.rows",
    "kbert.tasks.adoption",
    "kbert.tasks.*.adopted",
    "kbert.checkpoints.*",
]
HEAVY = [
    "kbert.graphs",
    "kbert.data.added_tokens",
    "kbert.serving",
    "kbert.layers",
    "kbert.checkpoints.sentence_transformers",
    "kbert.data.tokenizer",
]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.glob("kbert/**/*.py")
}


def imported(name: str) -> set[str]:
    found = set()
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.body
    }
    for node in {*ast.walk(tree)} - for_types:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return {module for module in found if module in FILES}


def row(module: str) -> int:
    """The number of the row that a module is in."""
    fits = [
        (module == pattern, len(pattern), number)
        for number, patterns in enumerate(ROWS.values())
        for pattern in patterns
        if fnmatch(module, pattern) or module == pattern.removesuffix(".*")
    ]
    return max(fits)[-1]


def test_every_row_has_files_and_every_pattern_fits_one():
    assert {row(name) for name in FILES} == set(range(len(ROWS)))
    for pattern in itertools.chain(*ROWS.values()):
        assert any(fnmatch(name, pattern) or name == pattern.removesuffix(".*") for name in FILES), pattern


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_run_downwards(name):
    for module in imported(name) - {"kbert", name}:
        assert row(module) <= row(name), f"{name} imports {module}"


def test_no_file_imports_itself_by_way_of_others():
    below = {name: imported(name) - {"kbert", "kbert.tasks", name} for name in FILES}
    for name in FILES:
        reached, todo = set(), [name]
        while todo:
            new = below[todo.pop()] - reached
            reached |= new
            todo += new
        assert name not in reached, name


def test_tasks_do_not_import_one_another():
    def task(module):
        parts = module.split(".")
        return parts[2] if module.startswith("kbert.tasks.") and (ROOT / "kbert" / "tasks" / parts[2]).is_dir() else None

    for name in FILES:
        if task(name):
            assert {task(module) for module in imported(name)} <= {None, task(name)}, name


def test_only_flags_imports_absl_flags():
    users = [name for name, path in FILES.items() if "absl" in path.read_text(encoding="utf-8") and name != "kbert.flags"]
    assert [n for n in users if "absl.flags" in FILES[n].read_text() or "from absl" in FILES[n].read_text()] == []


def known_of_tasks(source: str) -> list[str]:
    """What a file says of one task: its name, in whatever form, or the key of an option in a model's JSON."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in RECORDED:
            found.append(node.value)
        keyed = isinstance(node, ast.Subscript) and node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            keyed = node.func.value
        # The head of a foreign checkpoint has options of its own.
        if keyed and ast.unparse(keyed).endswith(".options") and not ast.unparse(keyed).endswith("head.options"):
            found.append(ast.unparse(node))
    return found


def test_no_task_is_known_by_name_outside_tasks():
    for source in ('x == "tag"', 'x != "tag"', 'x in ("tag",)', '{"tag": 1}', 'model.options["loss"]', 'm.options.get("loss")'):
        assert known_of_tasks(source)
    for name, path in FILES.items():
        # The server has TensorFlow Serving's method `classify`, __main__ a command `pretrain`.
        if not name.startswith(("kbert.tasks", "kbert.server")) and name != "kbert.__main__":
            assert not known_of_tasks(path.read_text(encoding="utf-8")), name


def test_the_files_of_a_checkpoint_are_named_in_one_place():
    for name, path in FILES.items():
        constants = {n.value for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Constant)}
        assert name == "kbert.saved" or not constants & {WEIGHTS, STATE, FIGURES}, name


def test_what_commands_import_before_their_flags_are_parsed_is_light(environment):
    light = [name for name in FILES if any(fnmatch(name, p) and name.count(".") == p.count(".") for p in LIGHT)]
    names = ", ".join(sorted({*light} - {*HEAVY}))
    program = f"import sys, {names}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


def test_every_public_name_has_a_docstring():
    for name, path in FILES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{name} has no docstring"
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"
