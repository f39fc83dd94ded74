"""What the documentation site adds to the pages of docs/, as a hook of MkDocs (mkdocs.yml).

In: a page's Markdown. Out: the same with links between Chinese pages as MkDocs resolves them, and on the page of flags a table
for each command. As a script: writes the table of layouts into docs/layouts.md, from what the readers say of themselves.
The pages' own links work where the files are read as they are, on a code host for one.
"""

import contextlib
import importlib
import io
import re
from pathlib import Path

from kbert.__main__ import COMMANDS as ALL
from kbert.data.layouts import page
from kbert.tasks import OPTIONS

COMMANDS = [command for command in ALL if command != "ask"]  # which has no flags


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page's Markdown as the site shows it."""
    # The site has a language switch of its own.
    markdown = re.sub(r"^\[(中文|English)\]\(\S+\)( · \[README\]\(\S+\))?\n", "", markdown, count=1, flags=re.MULTILINE)
    markdown = re.sub(r"(\]\([^)\s]+)\.zh-CN\.md", r"\1.md", markdown)
    return markdown.replace("<!-- flags -->", flags_reference()) if "<!-- flags -->" in markdown else markdown


def flags_reference() -> str:
    """Return a section for each command, and for each task of finetune, with a table of its flags."""
    sections = []
    for command in COMMANDS:
        about, rows = help_of(command)
        sections.append(f"## kbert {command}\n\n{about}\n\n{_table(rows)}")
        if command == "finetune":
            every = {task: help_of(command, f"--task={task}")[1] for task in OPTIONS}
            for task, task_rows in every.items():
                own = [row for row in task_rows if any(row not in others for others in every.values())]
                sections.append(f"### --task={task}\n\nFlags, or defaults, of this task:\n\n{_table(own)}")
            shared = [row for row in rows if all(row in others for others in every.values())]
            sections[0] = f"## kbert {command}\n\n{about}\n\nFlags of all tasks:\n\n{_table(shared)}"
    return "\n\n".join(sections)


def help_of(command: str, *arguments: str) -> tuple[str, list[tuple[str, str]]]:
    """Return what a command's `--help` says of the command and of each flag."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module(f"kbert.{command}").main([*arguments, "--help"], program=f"kbert {command}")
    about, flags = printed.getvalue().split("\nflags:\n")
    rows = re.findall(r"^  (--\S+)\n((?:      .*\n?)+)", flags, re.MULTILINE)
    return about.split("\n\n", 1)[1].strip(), [(flag, " ".join(text.split())) for flag, text in rows]


def _table(rows: list[tuple[str, str]]) -> str:
    # A bar would end the cell, but not within code.
    cells = ((flag, text.replace("|", r"\|")) for flag, text in rows)
    return "\n".join(["| Flag | |", "|---|---|", *(f"| `{flag}` | {text} |" for flag, text in cells)])


def with_layouts(markdown: str, chinese: bool) -> str:
    """Return a page with the table of layouts after its mark, in place of what is there."""
    mark = "<!-- layouts -->"
    return f"{markdown.partition(mark)[0]}{mark}\n\n{page(chinese)}\n"


if __name__ == "__main__":
    for name in ("layouts.md", "layouts.zh-CN.md"):
        path = Path(__file__).parents[1] / "docs" / name
        path.write_text(with_layouts(path.read_text(encoding="utf-8"), "zh" in name), encoding="utf-8")
