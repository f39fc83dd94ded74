"""The English and the Chinese READMEs say the same, and what they name is there."""

import importlib
import re
import shlex

import pytest
from conftest import ROOT

from kbert import flags

PAGES = ("README", "tools/bench/README", "docs/reading")
READMES = {name: (ROOT / name).read_text(encoding="utf-8") for page in PAGES for name in (f"{page}.md", f"{page}.zh-CN.md")}


def blocks(text: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_both_have_the_same_commands_and_sections(page):
    english, chinese = (READMES[f"{page}{language}.md"] for language in ("", ".zh-CN"))

    def commands(text):
        return [re.findall(r"--[a-z][a-z_]*|kbert\.\w+|make \w+|docker|curl", block) for block in blocks(text)]

    assert commands(english) == commands(chinese)
    assert [english.count(mark) for mark in ("\n## ", "\n|")] == [chinese.count(mark) for mark in ("\n## ", "\n|")]


@pytest.mark.parametrize("text", READMES.values(), ids=READMES)
def test_commands_have_all_flags_that_they_need(text, monkeypatch):
    def parsed(program, about, argv, groups, body, takes_task=False):
        assert flags.parse(program, about, argv, groups, takes_task) is not None
        return 0

    monkeypatch.setattr(flags, "main", parsed)
    for block in blocks(text):
        for command, rest in re.findall(r"python -m (kbert\.\w+) (.*)", block.replace("\\\n", " ")):
            assert importlib.import_module(command).main(shlex.split(rest)) == 0


@pytest.mark.parametrize("text", READMES.values(), ids=READMES)
def test_nothing_is_left_to_fill_in(text):
    assert not re.findall(r"\b[A-Z]+_(?:TIME|OUTPUT|TABLE|FIGURES)(?:_ZH)?\b", text)


@pytest.mark.parametrize("text", READMES.values(), ids=READMES)
def test_files_and_flags_exist(text, capsys):
    for path in re.findall(r"(?:configs|tools)/[\w/.-]+\.\w+", text):
        assert (ROOT / path).exists(), path
    from kbert import encode, evaluate, export, finetune, inspect, predict, pretrain
    from kbert.tasks import OPTIONS

    for command in (finetune, pretrain, evaluate, predict, export, inspect, encode):
        command.main(["--help"])
    for task in OPTIONS:
        finetune.main([f"--task={task}", "--help"])
    known = set(re.findall(r"--([a-z_]+)", capsys.readouterr().out)) | {"logdir", "rm", "help", "constraint"}
    for tool in re.findall(r"python ((?:tools|tests)/[\w/]+\.py)", text):
        known |= set(re.findall(r"--([a-z_]+)", (ROOT / tool).read_text(encoding="utf-8")))
        known |= set(re.findall(r"^    (\w+): ", (ROOT / tool).read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"--([a-z][a-z_]+)", text)) <= known
