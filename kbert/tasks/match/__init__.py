"""Pairs of texts: which belong together.

audit           what a file of pairs holds, and the error with it
negatives       pairs that do not belong together, redrawn each epoch
mining          those that are easily taken for a match
long_text       which part of a long text is read
contrastive     losses over a batch's own pairs
gradient_cache  their gradients in large batches on a small machine
metrics         recall, rank, correlation, ROC-AUC
report          the same over a set, as figures and tables
"""
