"""The parts of `--task=answer`: extract the span of a context that answers a question.

rows           how rows are read and checked
answer_spans   scores of tokens -> the best spans
metrics        exact match and F1, as in the official scripts
report         the same over a set, as figures and tables
"""
