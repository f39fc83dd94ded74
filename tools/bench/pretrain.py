"""Compare pre-training steps of kbert and Hugging Face's Trainer, in tokens a second, in one run.

    python tools/bench/pretrain.py --size=mini --input=TEXT --vocab=VOCAB --lowercase [--witness_python=PYTHON]

Both train a BERT of one shape from random weights on the masked LM of the same text, in bfloat16, with AdamW, dropout and 32
rows of up to 128 tokens. The witness runs in an interpreter of its own that has torch, transformers and accelerate, and is
set up as transformers' `run_mlm.py` has it: text cut into blocks of full length, `DataCollatorForLanguageModeling`, bf16.
Both sides are warm and take turns, round by round; the result is the median of the rounds' ratios. Tokens are counted
without padding, of which the witness has none. Masks are drawn, and batches made, within the time of either.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

ROWS, LENGTH, PREDICTIONS = 32, 128, 20
# Layers, width, heads.
SIZES = {"mini": (4, 256, 4), "minilm": (6, 384, 12), "tiny": (2, 128, 2)}

WITNESS = """
import json, sys, tempfile, time, accelerate, numpy as np, torch, transformers
from transformers import (BertConfig, BertForMaskedLM, BertTokenizerFast, DataCollatorForLanguageModeling, Trainer,
    TrainerCallback, TrainingArguments)
given = json.loads(sys.argv[1])
transformers.set_seed(0)

class Turns(TrainerCallback):
    start = time.perf_counter()
    def on_step_end(self, args, state, control, **_):
        if state.global_step % given["steps"] == 0:
            print(json.dumps(time.perf_counter() - self.start), flush=True)
            if not sys.stdin.readline():
                control.should_training_stop = True
            self.start = time.perf_counter()

blocks = [{"input_ids": block} for block in np.load(given["blocks"]).tolist()]
tokenizer = BertTokenizerFast(vocab_file=given["vocab"])
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(folder, max_steps=1_000_000, per_device_train_batch_size=given["rows"], bf16=True,
        use_cpu=True, learning_rate=1e-4, weight_decay=0.01, disable_tqdm=True, report_to="none", save_strategy="no",
        logging_strategy="no")
    trainer = Trainer(BertForMaskedLM(BertConfig(**given["config"])), arguments, train_dataset=blocks, callbacks=[Turns()],
        data_collator=DataCollatorForLanguageModeling(tokenizer))
    print(json.dumps(f"transformers {transformers.__version__}, torch {torch.__version__}"), flush=True)
    trainer.train()
"""


class Ours:
    """kbert's training step on examples of the text, a round at a time."""

    def __init__(self, args: argparse.Namespace):
        from kbert import runtime

        runtime.start()
        import keras

        from kbert import graphs
        from kbert.config import EncoderConfig, ModelConfig, TextConfig
        from kbert.data.vocabulary import read_vocabulary
        from kbert.pretrain_config import PretrainConfig
        from kbert.pretraining import corpus, tokens
        from kbert.pretraining.batches import PretrainingBatches
        from kbert.pretraining.cutting import Cut
        from kbert.pretraining.examples import TextExamples
        from kbert.pretraining.masking import Masking
        from kbert.serving import build_model
        from kbert.tasks.pretrain.options import PretrainOptions
        from kbert.tasks.pretrain.task import Pretrain
        from kbert.train import optimizers
        from kbert.train.objective import Objective
        from kbert.train.step import TrainStep

        keras.utils.set_random_seed(0)
        vocabulary = read_vocabulary(Path(args.vocab))
        layers, width, heads = SIZES[args.size]
        config = ModelConfig(
            task="pretrain",
            fields=("text",),
            labels=(),
            options=dataclasses.asdict(PretrainOptions(objective="mlm")),
            encoder=EncoderConfig(
                vocabulary_size=len(vocabulary),
                num_layers=layers,
                num_heads=heads,
                hidden_dim=width,
                intermediate_dim=4 * width,
                activation="gelu",
            ),
            text=TextConfig(lowercase=args.lowercase, strip_accents=args.lowercase),
            max_length=LENGTH,
        )
        task, encoder, built = build_model(Pretrain, config, vocabulary, "bfloat16")
        model = built.model
        encoder.compiled = graphs.worth_compiling(model.trainable_variables)
        encode = tokens.Encode(task.tokenizer, None)
        with ThreadPoolExecutor(1) as executor:
            blocks = corpus.blocks(args.input, "sentences")
            self.tokens = tokens.tokenized(blocks, corpus.files(args.input), encode, executor, 1)
        examples = TextExamples(self.tokens, vocabulary, Cut("mlm", LENGTH), Masking("piece", most=PREDICTIONS), 0)
        batches = PretrainingBatches(examples, pairs=None, batch_size=ROWS, seed=0, max_length=LENGTH)
        chosen = optimizers.optimizer(model, PretrainConfig(train_data=args.input, learning_rate=1e-4), 1_000_000)
        chosen.build(model.trainable_variables)
        self.step = TrainStep(model, chosen, Objective(built.loss, built.metrics))
        self.sums = self.step.zeros()
        self.iterator, self.again = (iter(batches.dataset(0)) for _ in range(2))
        self.shape, self.ends = config.encoder, (task.tokenizer.cls_id, task.tokenizer.sep_id)

    def blocks(self) -> np.ndarray:
        """Return the text as the witness wants it, int64 [blocks, LENGTH]."""
        from kbert.pretraining.tokens import pieces

        room = LENGTH - 2
        count = len(self.tokens.ids) // room
        inner = pieces(self.tokens.ids[: count * room]).reshape(count, room)
        first, last = (np.full((count, 1), number) for number in self.ends)
        return np.concatenate([first, inner, last], 1).astype(np.int64)

    def round(self, steps: int) -> float:
        """Run this many steps; return tokens a second."""
        start = time.perf_counter()
        for _ in range(steps):
            self.sums, loss = self.step(self.iterator, self.sums)
        float(loss)
        seconds = time.perf_counter() - start
        # The same batches a second time: they are the same from the same step on.
        return sum(int(next(self.again)[0]["padding_mask"].numpy().sum()) for _ in range(steps)) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--input", required=True, help="a sentence a line, blank lines between documents")
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--lowercase", action="store_true")
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--witness_python", default=sys.executable, help="interpreter that has torch, transformers, accelerate")
    args = parser.parse_args()
    ours = Ours(args)
    layers, width, heads = SIZES[args.size]
    config = {
        "vocab_size": ours.shape.vocabulary_size,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "blocks.npy", ours.blocks())
        given = {"blocks": f"{folder}/blocks.npy", "vocab": args.vocab, "config": config, "steps": args.steps, "rows": ROWS}
        command = [args.witness_python, "-c", WITNESS, json.dumps(given)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as witness:
            compare(witness, ours, args)


def compare(witness: "subprocess.Popen[str]", ours: Ours, args: argparse.Namespace) -> None:
    """Take turns, then print the table."""
    assert witness.stdin is not None and witness.stdout is not None

    def told() -> Any:
        assert witness.stdout is not None
        line = witness.stdout.readline()
        if not line:
            sys.exit("the witness has ended; has its interpreter torch, transformers and accelerate?")
        return json.loads(line)

    print(f"{told()}; {args.size}, {ROWS} rows of up to {LENGTH} tokens, rounds of {args.steps} steps", flush=True)
    told()  # its first round warms it up
    ours.round(2 * args.steps)
    print(f"{'tokens a second':<16}{'kbert':>9}{'Trainer':>9}{'ratio':>7}")
    rates = []
    for number in range(args.rounds):
        own = ours.round(args.steps)
        witness.stdin.write("\n")
        witness.stdin.flush()
        rates.append((own, args.steps * ROWS * LENGTH / told()))
        print(f"{f'round {number + 1}':<16}{rates[-1][0]:>9,.0f}{rates[-1][1]:>9,.0f}{own / rates[-1][1]:>7.2f}", flush=True)
    witness.stdin.close()
    witness.stdout.read()  # wait until it ends
    own, other = np.median(rates, axis=0)
    print(f"{'median':<16}{own:>9,.0f}{other:>9,.0f}{np.median([a / b for a, b in rates]):>7.2f}")


if __name__ == "__main__":
    main()
