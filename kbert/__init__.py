"""kbert: BERT in Keras, from raw text to a served model.

Importing this package imports nothing else: `kbert.model.encoder`, `kbert.data.tokenizer` and the rest load
TensorFlow when they are imported themselves, the command lines only once their flags are parsed.

A line of text goes table -> encode -> batch -> encoder -> head -> decode. Roughly from below (a file imports only from floors
below its own; which they are, file by file, is in tests/test_layout.py):

    config, options, flags          settings, and the command line
    sources, formats, text          files into rows, text into ids
    reports                         what measuring gives
    checkpoints, encoder, heads     weights of any form, the backbone, what stands on it
    answering, tagging, matching,   the parts of one task each
      aspects, pretraining
    tasks                           one file a task: what it reads, learns, answers and is measured by (tasks/base.py)
    pipeline, training, serving     rows into batches, batches into checkpoints, checkpoints into answers and SavedModels
    vectors                         what `encode` makes
    finetune, pretrain, evaluate, predict, export, encode, inspect      the commands
"""

__version__ = "0.1.0"
