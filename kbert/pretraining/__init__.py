"""What BERT is pre-trained on: plain text as token ids, cut into examples, re-masked each epoch.

corpus      files of text -> documents of sentences
tokens      sentences -> token ids in a file, by document
cutting     documents -> examples: which stretches of tokens are in each
examples    examples of an epoch -> ids, random partners, masks
masking     which tokens are predicted, and what is in their place
records     the same examples as TFRecord shards, written and read
sources     what a run learns from, and what is held out of it
batches     examples -> the batches of a training run
start       the flags of a model from scratch, and what they may ask for
job         all of it as a training session has it
"""
