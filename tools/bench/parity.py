"""Find the largest differences between kbert's and transformers' outputs of one Hugging Face checkpoint, in float32.

    python tools/bench/parity.py --init=.demo/minilm --input=TEXTS [--texts=200] [--witness_python=PYTHON]

`--input` holds a text a line (of a .tsv, the first column). Texts of all lengths are made of it: the lines
as they are, and lines joined up to the longest input the checkpoint takes. kbert turns them into ids, and
both sides get the same ids, segments and mask, padded by batches of mixed lengths. The witness runs in an
interpreter of its own that has torch and transformers; the two exchange .npz files.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

BATCH = 20


def texts(path: Path, count: int, longest: int) -> list[str]:
    """Return texts: half are lines spread over the file, half are lines joined to ever more words, up to the longest input."""
    lines = [line.split("\t")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    short = lines[:: max(1, len(lines) // (count // 2))][: count // 2]
    long, at = [], 0
    for i in range(count - len(short)):
        words: list[str] = []
        while len(words) < longest * (i + 1) / (count - len(short)):
            words += lines[at % len(lines)].split()
            at += 1
        long.append(" ".join(words))
    mixed = [text for pair in zip(short, long, strict=False) for text in pair]
    return mixed + long[len(short) :]


def ours(init: str, path: Path, count: int, ids: Path, outputs: Path) -> None:
    """Compute kbert's ids, and its sequence and pooled outputs for them."""
    from kbert import runtime

    runtime.start()
    import tensorflow as tf

    from kbert import checkpoints
    from kbert.data.tokenizer import Tokenizer
    from kbert.model.encoder import Encoder

    checkpoint = checkpoints.open_checkpoint(init)
    longest = checkpoint.encoder.max_sequence_length
    casing = checkpoint.text
    tokenizer = Tokenizer(checkpoint.vocabulary, lowercase=casing.lowercase, strip_accents=casing.strip_accents)
    encoder = Encoder(checkpoint.encoder)
    encoder.load(checkpoint.arrays(), init)
    packed = tokenizer.pack([tokenizer.tokenize(tf.constant(texts(path, count, longest)))], longest)
    run = tf.function(encoder, reduce_retracing=True)
    rows: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for start in range(0, count, BATCH):
        part = {name: ragged[start : start + BATCH] for name, ragged in packed.items()}
        batch = {name: ragged.to_tensor() for name, ragged in part.items()}
        batch["padding_mask"] = tf.cast(tf.sequence_mask(part["token_ids"].row_lengths()), tf.int32)
        hidden = run(batch)
        pooled = encoder.backbone.pooled_dense(hidden[:, 0])
        rows |= {f"{start}/{name}": value.numpy() for name, value in batch.items()}
        results |= {f"{start}/sequence": hidden.numpy(), f"{start}/pooled": pooled.numpy()}
    np.savez(ids, **rows)
    np.savez(outputs, **results)


WITNESS = """
import sys, numpy as np, torch, transformers
init, ids, outputs = sys.argv[1:]
model = transformers.BertModel.from_pretrained(init, dtype=torch.float32).eval()
rows, results = np.load(ids, allow_pickle=False), {}
for start in sorted({name.split("/")[0] for name in rows}):
    batch = [torch.from_numpy(rows[f"{start}/{name}"]).long() for name in ("token_ids", "segment_ids", "padding_mask")]
    with torch.no_grad():
        out = model(input_ids=batch[0], token_type_ids=batch[1], attention_mask=batch[2])
    results |= {f"{start}/sequence": out.last_hidden_state.numpy(), f"{start}/pooled": out.pooler_output.numpy()}
np.savez(outputs, **results)
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="Hugging Face directory")
    parser.add_argument("--input", required=True, type=Path, help="file of texts, one a line")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--witness_python", default=sys.executable, help="interpreter that has torch and transformers")
    given = parser.parse_args()
    if not given.input.is_file():
        parser.error(f"--input={given.input}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        ids, found, expected = (Path(folder) / f"{name}.npz" for name in ("ids", "ours", "theirs"))
        ours(given.init, given.input, given.texts, ids, found)
        command = [given.witness_python, "-c", WITNESS, given.init, str(ids), str(expected)]
        print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
        with np.load(ids) as rows, np.load(found) as a, np.load(expected) as b:
            masks = {name.split("/")[0]: rows[name] == 1 for name in rows if name.endswith("padding_mask")}
            lengths = np.concatenate([mask.sum(1) for mask in masks.values()])
            print(f"{len(lengths)} texts of {lengths.min()} to {lengths.max()} tokens (median {np.median(lengths):.0f})")
            sequence = [np.abs(a[f"{n}/sequence"] - b[f"{n}/sequence"])[mask] for n, mask in masks.items()]
            pooled = [np.abs(a[f"{n}/pooled"] - b[f"{n}/pooled"]) for n in masks]
    for name, parts in (("sequence", sequence), ("pooled", pooled)):
        print(f"{name:<10} largest difference {max(p.max() for p in parts):.1e}")


if __name__ == "__main__":
    main()
