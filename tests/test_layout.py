"""The house rules: imports run downwards, flags live in one file, nothing happens at import."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# Lowest first; a file imports only from lines above its own.
FLOORS = [
    [
        "kbert",
        "kbert.errors",
        "kbert.interruption",
        "kbert.runtime",
        "kbert.make_unicode_table",
        "kbert.answering",
        "kbert.answering.squad_metrics",
        "kbert.aspects",
        "kbert.aspects.three_lines",
        "kbert.figures",
        "kbert.label_names",
        "kbert.markdown",
        "kbert.matching",
        "kbert.permutation",
        "kbert.progress",
        "kbert.reports",
        "kbert.tagging",
        "kbert.tagging.schemes",
        "kbert.tagging.tokens",
        "kbert.vectors",
    ],
    ["kbert.config"],
    ["kbert.options", "kbert.encodings", "kbert.files", "kbert.lock", "kbert.spans", "kbert.segmenters"],
    ["kbert.tagging.conll"],
    ["kbert.aspects.names", "kbert.aspects.labels", "kbert.offsets", "kbert.recorded"],
    ["kbert.graphs", "kbert.pretraining", "kbert.pretraining.randomness", "kbert.pretraining.sentences"],
    ["kbert.pretraining.documents"],
    ["kbert.pretraining.corpus", "kbert.pretraining.flags"],
    [
        "kbert.cluster",
        "kbert.flags",
        "kbert.entity_reader",
        "kbert.model_dir",
        "kbert.metrics",
        "kbert.vectors.whitening",
        "kbert.vectors.formats",
        "kbert.tagging.suspicion",
        "kbert.tagging.entity_metrics",
        "kbert.answering.squad",
        "kbert.matching.metrics",
        "kbert.matching.audit",
        "kbert.aspects.audit",
        "kbert.aspects.bearing",
        "kbert.aspects.metrics",
        "kbert.loss_watch",
        "kbert.worker_watch",
    ],
    ["kbert.file_settings"],
    [
        "kbert.vectors.store",
        "kbert.vectors.flags",
        "kbert.formats",
        "kbert.text",
        "kbert.windows",
        "kbert.chunks",
        "kbert.aspects.selecting",
        "kbert.aspects.word_weights",
        "kbert.aspects.report",
        "kbert.tagging.crf",
        "kbert.tagging.units",
        "kbert.pooling",
        "kbert.answering.squad_report",
        "kbert.matching.contrastive",
        "kbert.fused",
    ],
    ["kbert.sources", "kbert.matching.report", "kbert.aspects.sentences"],
    ["kbert.matching.negatives", "kbert.matching.gradient_cache", "kbert.matching.long_text"],
    ["kbert.matching.mining", "kbert.aspects.shown"],
    ["kbert.checkpoints.names", "kbert.encoder"],
    ["kbert.checkpoints.head"],
    ["kbert.checkpoints.checkpoint"],
    ["kbert.checkpoints.foreign", "kbert.checkpoints.casing", "kbert.checkpoints.sentence_transformers"],
    ["kbert.checkpoints.tensor_files"],
    ["kbert.checkpoints.hugging_face", "kbert.checkpoints.google"],
    ["kbert.checkpoints.keras_preset", "kbert.checkpoints.kbert_model"],
    ["kbert.checkpoints"],
    ["kbert.heads", "kbert.answering.answer_spans", "kbert.objective"],
    ["kbert.optimizers", "kbert.aspects.aspect_attention", "kbert.aspects.text_filter"],
    ["kbert.tasks.base"],
    ["kbert.vectors.sentences", "kbert.aspects.filtering"],
    ["kbert.vectors.tokens", "kbert.aspects.sentence_filter"],
    [
        "kbert.tasks",
        "kbert.tasks.classify",
        "kbert.tasks.tag",
        "kbert.tasks.answer",
        "kbert.tasks.match",
        "kbert.tasks.aspect",
        "kbert.tasks.pretrain",
        "kbert.tasks.starting_head",
    ],
    ["kbert.datasets", "kbert.datasets.reviews"],
    ["kbert.datasets.movie_snippets", "kbert.datasets.short_reviews_zh", "kbert.datasets.newspaper_zh"],
    ["kbert.pipeline", "kbert.boards", "kbert.splits", "kbert.lengths"],
    ["kbert.pretraining.tokens", "kbert.pretraining.masking", "kbert.pretraining.vocabulary"],
    ["kbert.pretraining.cutting"],
    ["kbert.pretraining.examples"],
    ["kbert.pretraining.records", "kbert.pretraining.batches"],
    ["kbert.pretraining.measure", "kbert.pretraining.sources", "kbert.pretraining.beam"],
    ["kbert.serving", "kbert.train_step", "kbert.strategies"],
    ["kbert.training", "kbert.vectors.encoding"],
    ["kbert.vectors.vocabulary"],
    ["kbert.vectors.run"],
    [
        "kbert.finetune",
        "kbert.pretrain",
        "kbert.evaluate",
        "kbert.predict",
        "kbert.export",
        "kbert.inspect",
        "kbert.encode",
    ],
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.glob("kbert/**/*.py")
}


def imported(name: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return {module for module in found if module in FILES}


def test_every_file_has_a_floor():
    assert set(FLOOR) == set(FILES)


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_run_downwards(name):
    for module in imported(name) - {"kbert", name}:
        assert FLOOR[module] < FLOOR[name], f"{name} imports {module}"


def test_only_flags_imports_absl_flags():
    users = [name for name, path in FILES.items() if "absl" in path.read_text(encoding="utf-8") and name != "kbert.flags"]
    assert [n for n in users if "absl.flags" in FILES[n].read_text() or "from absl" in FILES[n].read_text()] == []


def test_no_task_is_known_by_name_outside_tasks():
    for name, path in FILES.items():
        if not name.startswith("kbert.tasks"):
            assert not [line for line in path.read_text(encoding="utf-8").splitlines() if 'task == "' in line], name


def test_importing_the_package_and_its_lowest_floors_is_light(environment):
    light = [
        *FLOORS[0],
        *FLOORS[1],
        *FLOORS[2],
        "kbert.flags",
        "kbert.formats",
        "kbert.model_dir",
        "kbert.metrics",
        "kbert.vectors.whitening",
        "kbert.vectors.formats",
        "kbert.sources",
    ]
    program = f"import sys, {', '.join(light)}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


def test_every_public_name_has_a_docstring():
    for name, path in FILES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{name} has no docstring"
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"
