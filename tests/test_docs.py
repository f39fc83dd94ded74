"""The two READMEs say the same, and what they name is there."""

import re

import pytest
from conftest import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def blocks(text: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", text, re.DOTALL)


def test_both_have_the_same_commands_and_sections():
    def commands(text):
        return [re.findall(r"--[a-z][a-z_]*|kbert\.\w+|make \w+|docker|curl", block) for block in blocks(text)]

    assert commands(ENGLISH) == commands(CHINESE)
    assert ENGLISH.count("\n## ") == CHINESE.count("\n## ") and ENGLISH.count("\n|") == CHINESE.count("\n|")


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_nothing_is_left_to_fill_in(text):
    assert not re.findall(r"\b[A-Z]+_(?:TIME|OUTPUT|TABLE)(?:_ZH)?\b", text)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_files_and_flags_exist(text, capsys):
    for path in re.findall(r"(?:configs|tools)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path
    from kbert import encode, evaluate, export, finetune, inspect, predict, pretrain
    from kbert.options import OPTIONS

    for command in (finetune, pretrain, evaluate, predict, export, inspect, encode):
        command.main(["--help"])
    for task in OPTIONS:
        finetune.main([f"--task={task}", "--help"])
    known = set(re.findall(r"--([a-z_]+)", capsys.readouterr().out)) | {"logdir", "rm", "help"}
    for tool in re.findall(r"python ((?:tools|tests)/[\w/]+\.py)", text):
        known |= set(re.findall(r"--([a-z_]+)", (ROOT / tool).read_text(encoding="utf-8")))
        known |= set(re.findall(r"^    (\w+): ", (ROOT / tool).read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"--([a-z][a-z_]+)", text)) <= known
