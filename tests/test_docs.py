"""The READMEs and the pages of docs/ are alike in English and Chinese, and what they name exists."""

import ast
import inspect
import operator
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, tool

import kbert
from kbert import finetune, flags, keywords, pretrain
from kbert.__main__ import main
from kbert.tasks import OPTIONS

site = tool("docs_site")

PAGES = [
    "README",
    *sorted(str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "docs").rglob("*.md") if ".zh-CN" not in path.name),
]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for page in PAGES for name in (f"{page}.md", f"{page}.zh-CN.md")}
every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def blocks(text: str, language: str = "") -> list[str]:
    return [block for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if kind == language]


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_commands_and_sections(page):
    english, chinese = (TEXTS[f"{page}{language}.md"] for language in ("", ".zh-CN"))

    def commands(text):
        found = r"--[a-z][a-z_]*|kbert\.\w+|make \w+|docker|curl"
        return [re.findall(found, block) for block in blocks(text)], [
            ast.dump(ast.parse(block)).count("Call") for block in blocks(text, "python")
        ]

    def links(text):
        return [target.replace(".zh-CN.md", ".md").split("#")[0] for target in re.findall(r"\]\((\S+?)\)", text)][1:]

    assert commands(english) == commands(chinese)
    assert sorted(links(english)) == sorted(links(chinese))
    assert [english.count(mark) for mark in ("\n## ", "\n### ", "\n|", "\n- ")] == [
        chinese.count(mark) for mark in ("\n## ", "\n### ", "\n|", "\n- ")
    ]
    assert not re.search(r"\]\((?!http)[^)#]*(?<!\.zh-CN)\.md", chinese.split("\n\n", 2)[2].replace("(CHANGELOG.md)", ""))


@every_text
def test_commands_have_all_flags_that_they_need(text, monkeypatch):
    def parsed(program, about, argv, groups, body, takes_task=False):
        assert flags.parse(program, about, argv, groups, takes_task) is not None
        return 0

    monkeypatch.setattr(flags, "main", parsed)
    for block in blocks(text):
        for command, rest in re.findall(
            r"(?:python -m kbert\.|^(?:\$ )?kbert )(\w+) (.*)", block.replace("\\\n", " "), re.MULTILINE
        ):
            assert command == "ask" or main([command, *shlex.split(rest)]) == 0, rest


@every_text
def test_python_calls_what_kbert_has(text):
    for block in blocks(text, "python"):
        for node in ast.walk(ast.parse(block)):
            if not isinstance(node, ast.Call) or not re.fullmatch(r"kbert(\.\w+)+", ast.unparse(node.func)):
                continue
            function = operator.attrgetter(ast.unparse(node.func).removeprefix("kbert."))(kbert)
            arguments = {
                word.arg: ast.literal_eval(word.value) if isinstance(word.value, ast.Constant) else "x"
                for word in node.keywords
            }
            if function is kbert.train:
                task = arguments.pop("task", "classify")
                assert (
                    keywords.instances(lambda _: pretrain.GROUPS, arguments)
                    if task == "pretrain"
                    else keywords.instances(finetune.groups, {"task": task, **arguments}, takes_task=True)
                )
            else:
                inspect.signature(function).bind(*node.args, **arguments)


def test_python_runs(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev", "test"):
        Path(f"{name}.tsv").write_text("text\tlabel\n" + "the good film\tpositive\nthe bad plot\tnegative\n" * 4)
    code = "\n".join(
        blocks(TEXTS["README.md"] + TEXTS["docs/api.md"] + TEXTS["docs/tokenizer.md"], "python")
    )  # the second kbert.train finds the first's run
    tiny = {"bert_base_zh": str(checkpoint), "freeze_layers=8": "freeze_layers=1", "max_length=128": "max_length=32"}
    for real, small in (tiny | {"model_dir=": "epochs=1, max_length=32, model_dir="}).items():
        code = code.replace(real, small)
    exec(code, found := {})
    assert found["pieces"] == [["电", "影", "很", "好"], ["a", "film"]] and found["ends"].to_list() == [[1, 2, 3, 4], [1, 6]]
    assert next(iter(found["batches"]))["token_ids"].shape == (2, 32)
    assert Path("savedmodels/mine/2/saved_model.pb").exists()


@every_text
def test_files_links_and_flags_exist(text, request, known_flags):
    page = ROOT / request.node.callspec.id
    for path in re.findall(r"(?:configs|tools)/[\w/.-]+\.\w+", text):
        assert (ROOT / path).exists(), path
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]+)(#[^)]+)?\)", text):
        other = (page.parent / target).resolve()
        assert other.is_file(), target
        assert not anchor or anchor[1:] in map(
            anchor_of, re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
        ), anchor
    known = set(known_flags)
    for script in re.findall(r"python ((?:tools|tests)/[\w/]+\.py)", text):
        known |= set(re.findall(r"--([a-z_]+)", (ROOT / script).read_text(encoding="utf-8")))
        known |= set(re.findall(r"^    (\w+): ", (ROOT / script).read_text(encoding="utf-8"), re.MULTILINE))
    of_others = set(re.findall(r"--([a-z]+)", "".join(re.findall(r"^saved_model_cli .*$", text, re.MULTILINE))))
    assert set(re.findall(r"--([a-z][a-z_]+)", text)) <= known | of_others


def anchor_of(heading: str) -> str:
    """As code hosts and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def known_flags():
    helps = [site.help_of(command) for command in site.COMMANDS] + [
        site.help_of("finetune", f"--task={task}") for task in OPTIONS
    ]
    return {flag for _, rows in helps for flag in re.findall(r"--(\w+)", " ".join(map(" ".join, rows)))} | {
        "logdir",
        "rm",
        "help",
        "constraint",
        "flag",
        "noflag",
        "signature",
        "version",
        "completion",
    }


@pytest.mark.parametrize("text", [TEXTS["docs/errors.md"], TEXTS["docs/errors.zh-CN.md"]], ids=["English", "Chinese"])
def test_messages_of_errors_are_those_of_the_code(text, code_strings):
    for message in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE):
        pattern = re.compile(".*".join(map(re.escape, message.split("..."))))
        assert any(map(pattern.search, code_strings)), message


@pytest.fixture(scope="module")
def code_strings():
    """All strings of kbert's code, with `...` for what f-strings put in."""
    found = set()
    for path in (ROOT / "kbert").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_flags_of_every_command_are_on_the_page_of_flags():
    page = site.on_page_markdown(TEXTS["docs/flags.zh-CN.md"])
    assert "[English]" not in page
    for heading in ("## kbert finetune", "### --task=match", "## kbert pretrain", "## kbert make_vocab"):
        assert heading in page
    shared, match = page.split("### --task=")[0], page.split("### --task=match")[1].split("\n## ")[0]
    assert "| `--freeze_layers=N` | Encoder layers to freeze" in shared and "--freeze_layers" not in match
    assert "`--scorer=cross|dual`" in match and "--scorer" not in shared
    assert site.on_page_markdown("[seite](tasks/tag.zh-CN.md#x)") == "[seite](tasks/tag.md#x)"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_readmes_are_short(readme):
    assert len(TEXTS[readme].splitlines()) <= 150
