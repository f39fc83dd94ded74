"""Write tokenizer_config.json, as transformers reads it: casing, special tokens, and tokens that are units of the text.

In: a `Checkpoint`. Out: the file, and the vocabulary to write beside it.
"""

from pathlib import Path
from typing import Any

from kbert.checkpoints.checkpoint import TOKENS, Checkpoint
from kbert.data import vocabulary as text
from kbert.files import write_json

# A notice about forms for which only kbert reads this file.
OTHERS = "added tokens are in tokenizer_config.json, which kbert reads; other readers of this form take them as plain text"


def write_tokenizer_config(checkpoint: Checkpoint, path: Path) -> None:
    """Write tokenizer_config.json; also in other libraries' forms, which cannot store casing and added tokens elsewhere.

    It also states the number of tokens if the vocabulary has fewer than there are embeddings: otherwise a
    truncated vocabulary could not be detected.
    """
    special = {"unk_token": text.UNKNOWN, "sep_token": text.SEP, "pad_token": text.PAD, "cls_token": text.CLS}
    if "[MASK]" in checkpoint.vocabulary:
        special["mask_token"] = "[MASK]"
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": checkpoint.text.lowercase,
        "strip_accents": checkpoint.text.strip_accents,
        "tokenize_chinese_chars": True,
        "model_max_length": checkpoint.encoder.max_sequence_length,
        **special,
        **_units(checkpoint),
    }
    tokens = len(base_vocabulary(checkpoint))
    if tokens < checkpoint.encoder.vocabulary_size:
        settings[TOKENS] = tokens
    write_json(path / "tokenizer_config.json", settings)


def base_vocabulary(checkpoint: Checkpoint) -> list[str]:
    """Return the vocabulary without the added tokens at its end, as other libraries write it."""
    beside = {token.content for token in checkpoint.text.added_tokens if not token.wordpiece}
    found = list(checkpoint.vocabulary)
    while found and (found[-1] in beside or not found[-1]):
        found.pop()
    return found


def _units(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the settings of tokenizer_config.json that say which tokens are units of the text."""
    ids, tokens = text.numbered(checkpoint.vocabulary), checkpoint.text.added_tokens
    whole = {
        str(ids[token.content]): {
            "content": token.content,
            "lstrip": False,
            "normalized": token.normalized,
            "rstrip": False,
            "single_word": token.between == "words",
            "special": False,
        }
        for token in sorted(tokens, key=lambda token: ids.get(token.content, 0))
        if token.between != "blanks"
    }
    never = [token.content for token in tokens if token.between == "blanks"]
    return {**({"added_tokens_decoder": whole} if whole else {}), **({"never_split": never} if never else {})}
