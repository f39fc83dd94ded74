"""What the documentation site adds to the pages of docs/, as a hook of MkDocs (mkdocs.yml).

In: a page's Markdown. Out: the same with links between Chinese pages as MkDocs resolves them, and on the page of flags a table
for each command. The pages' own links work where the files are read as they are, on a code host for one.
"""

import contextlib
import importlib
import io
import re

from kbert.__main__ import COMMANDS as ALL
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
