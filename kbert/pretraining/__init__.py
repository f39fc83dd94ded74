"""Prepare BERT's pre-training data: plain text as token ids, cut into examples, re-masked each epoch.

corpus      files of text -> documents of sentences
tokens      sentences -> token ids in a file, by document
cutting     documents -> examples: which spans of tokens each contains
examples    examples of an epoch -> ids, random partners, masks
masking     which tokens are predicted, and what replaces them
records     the same examples as TFRecord shards, written and read
sources     the training and the held-out examples of a run
batches     examples -> the batches of a training run
start       the flags of a model from scratch, and what they may ask for
job         all of it as a training session has it
"""
