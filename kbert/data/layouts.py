"""List the layouts that are read: from each reader's module docstring, for the documentation.

In: the modules. Out: a `Layout` for each: name, formats, endings, what it reads, a sample of three rows, its source. The first
line of a module's docstring says what it reads, its first indented block is the sample, `Source:` names the source.
"""

import inspect
import re
import textwrap
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from kbert.data import (
    arrow_tables,
    brat,
    class_folders,
    conll,
    delimited,
    fasttext,
    json_lines,
    json_rows,
    label_studio,
    plain_text,
    semeval,
    spans,
    spreadsheet,
    squad,
    tagged_lines,
    three_lines,
    token_lists,
    token_table,
)
from kbert.data.file_settings import ENDINGS

# A reader's module, the values of --format that it reads, and what it reads, in Chinese.
READERS: Sequence[tuple[ModuleType, tuple[str, ...], str]] = (
    (delimited, ("tsv", "csv"), "用分隔符分列的表格：tsv（不带引号）和 csv"),
    (json_lines, ("jsonl",), "JSON lines：每行一个对象"),
    (json_rows, ("json",), "作为行的 JSON 文档：对象列表，SQuAD 和 CMRC 的文档，Label Studio 的任务"),
    (plain_text, ("txt",), "纯文本：每行一个文本"),
    (fasttext, ("fasttext",), "fastText 的训练文件：每行一个文本，标签在前"),
    (class_folders, (), "每个类别一个文件夹的文本"),
    (arrow_tables, ("parquet", "arrow"), "Parquet 和 Arrow 文件，以及 Hugging Face 库保存的数据集"),
    (spreadsheet, ("xlsx",), "Excel 工作簿"),
    (conll, ("conll",), "CoNLL 列：每行一个词元，标签在另一列，句子之间有空行"),
    (token_lists, ("jsonl", "json", "parquet", "arrow"), "以词元列表为文本、以标签列表为标注的句子"),
    (tagged_lines, ("tagged",), "每行一个句子，每个词元后以斜线或竖线接标签"),
    (token_table, ("csv", "tsv"), "每行一个词元的表格，有一列为句子编号"),
    (spans, ("jsonl", "json", "parquet", "arrow"), "JSON 行中一列里按字符位置给出的实体"),
    (label_studio, ("json",), "Label Studio 的 JSON 导出：带标注的任务"),
    (brat, ("brat",), "brat 的文档：文本在 `NAME.txt`，实体在 `NAME.ann`"),
    (squad, ("json",), "SQuAD 文档（v1.1、v2.0；CMRC2018、DRCD 和 XQuAD 同此格式）"),
    (three_lines, ("terms",), "短文本中的词项，每个例子三行，SemEval-2014 方面数据的常见格式"),
    (semeval, ("semeval",), "SemEval 方面任务的 XML 文件"),
)
FOLDERS = {class_folders: "a folder", brat: ".ann, a folder", arrow_tables: ".parquet .arrow .feather, a folder"}
CHINESE = {"a folder": "文件夹"}


class Layout(NamedTuple):
    """What is known of a reader."""

    name: str  # of its module
    formats: tuple[str, ...]  # values of --format
    endings: str
    reads: str
    chinese: str
    sample: str
    source: str


def layouts() -> list[Layout]:
    """Return the description of each reader."""
    return [_of(*reader) for reader in READERS]


def _of(module: ModuleType, formats: tuple[str, ...], chinese: str) -> Layout:
    text = inspect.getdoc(module) or ""
    first, _, rest = text.partition("\n")
    sample = re.search(r"(?:^    .*\n|^\n(?=    ))+", rest, re.MULTILINE)
    source = re.search(r"Sources?: (.*?)\.?(?:\n\n|\Z)", rest, re.DOTALL)
    assert sample and source, module.__name__
    endings = " ".join(ending for ending, kind in ENDINGS.items() if kind in formats[:2])
    return Layout(
        module.__name__.rpartition(".")[2],
        formats,
        FOLDERS.get(module, endings),
        first.removeprefix("Read ").removesuffix("."),
        chinese,
        textwrap.dedent(sample[0].strip("\n")),
        " ".join(source[1].split()),
    )


def page(chinese: bool) -> str:
    """Return a table of the layouts and a sample of each, in Markdown."""
    head = ("格式", "`--format`", "文件", "来源") if chinese else ("What is read", "`--format`", "Files", "Source")
    rows, samples = [f"| {' | '.join(head)} |", "|---|---|---|---|"], []
    for each in layouts():
        reads = each.chinese if chinese else each.reads
        endings = each.endings.replace("a folder", CHINESE["a folder"]) if chinese else each.endings
        formats = " ".join(f"`{kind}`" for kind in each.formats) or "-"
        rows.append(f"| {reads} | {formats} | {endings or '-'} | {each.source} |")
        samples.append(f"**{reads}**\n\n```text\n{each.sample}\n```")
    return "\n".join(rows) + "\n\n" + "\n\n".join(samples)
