"""Read XML files of SemEval's aspect tasks.

    <sentences>
      <sentence id="1"><text>Good bread.</text><aspectTerms><aspectTerm term="bread" polarity="positive" from="5" to="10"/></aspectTerms></sentence>
      <sentence id="2"><text>Slow staff.</text><aspectTerms><aspectTerm term="staff" polarity="negative" from="5" to="10"/></aspectTerms></sentence>
      <sentence id="3"><text>It is a bar.</text></sentence></sentences>

In: a document of 2014 (`aspectTerm`, `aspectCategory`) or of 2015 and 2016 (`Opinion` with `target` and `category`). Out: a row for
each term, or each category: text, aspect and polarity. Where a file has both, the name of the aspect's column in `--text_columns`,
`term` or `category`, says which. Memory holds a sentence. Source: Pontiki et al. 2014 to 2016, https://alt.qcri.org/semeval2016/task5.
"""  # noqa: E501

import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import IO, Any

from kbert.source import SourceConfig

log = logging.getLogger(__name__)

IMPLICIT = "NULL"  # the target of an opinion whose text names none
TERMS, CATEGORIES = ("term", "target"), ("category",)
CHOICE = "a file with terms and categories: --text_columns=text,term or --text_columns=text,category says which are the aspects"


def rows(name: str, stream: IO[bytes], encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a document as (place, row).

    Raises:
        ValueError: it is not XML, not SemEval's, or has terms and categories, and no flag says which.
    """
    aspect = next(iter(config.text_columns[1:]), "")
    wanted = "term" if aspect in TERMS else "category" if aspect in CATEGORIES else ""
    known = implicit = 0
    met: set[str] = set()
    try:
        around: list[ET.Element] = []
        for event, element in ET.iterparse(stream, ("start", "end")):
            if event == "start":
                around.append(element)
                continue
            around.pop()
            if element.tag != "sentence":
                continue
            known += 1
            text = element.findtext("text") or ""
            place = f"sentence {element.get('id', known)!r}"
            if not aspect:
                yield place, {config.text_columns[0]: text}
            for kind, value, polarity in _aspects(element) if aspect else ():
                if value == IMPLICIT and kind == "term":
                    implicit += 1
                    continue
                met.add(kind)
                if not wanted and len(met) > 1:
                    raise ValueError(CHOICE)
                if kind == (wanted or kind):
                    yield place, {config.text_columns[0]: text, aspect: value, config.label_column: polarity}
            if around:
                around[-1].remove(element)
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    if not known:
        raise ValueError("XML without a <sentence>; kbert reads that of SemEval's aspect tasks")
    if implicit and "term" in met:
        log.warning("%s: %d opinions without a target in the text (NULL) are not read", name, implicit)


def _aspects(sentence: ET.Element) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the value and the polarity of a sentence's aspects."""
    for element in sentence.iter():
        polarity = element.get("polarity", "")
        if element.tag == "aspectTerm":
            yield "term", element.get("term", ""), polarity
        elif element.tag == "aspectCategory":
            yield "category", element.get("category", ""), polarity
        elif element.tag == "Opinion":
            if element.get("target") is not None:
                yield "term", element.get("target", ""), polarity
            if element.get("category") is not None:
                yield "category", element.get("category", ""), polarity
