"""Split running text, Chinese and English, into sentences by punctuation.

In: a text. Out: its sentences, which concatenate to the text except for spaces between them. This is
sufficient for pre-training, where a sentence is only a possible start or end of an example.
"""

import re

CLOSING = r"[\"'”’」』）》)\]]*"  # quotes and brackets that close after a mark belong to the sentence
# Chinese marks always end a sentence; Western ones before a Chinese character, or before a space and
# something that can begin a sentence.
END = re.compile(rf"[。！？…]+{CLOSING}|[!?]+{CLOSING}(?=[一-鿿])|[.!?]+{CLOSING}(?=\s+[\"'“‘(\[]?[A-Z0-9À-ÞА-Я一-鿿])")
# A full stop after these does not end a sentence: initials, and common abbreviations.
SHORT = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Sen|Rep|Gov|vs|No|Vol|Fig|pp|cf|ca|"
    r"e\.g|i\.e|al|etc|approx|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|U\.S|U\.K|U\.N|Ph\.D)\.$"
)


def sentences(text: str) -> list[str]:
    """Split a text into non-empty sentences, without surrounding white space."""
    found, start = [], 0
    for match in END.finditer(text):
        if match[0] == "." and SHORT.search(text[max(0, match.end() - 12) : match.end()]):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]
