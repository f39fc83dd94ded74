"""The parts of `--task=match`: decide which texts belong together.

rows            how rows are read
audit           checks of pairs before training
negatives       pairs that do not belong together, redrawn each epoch
mining          hard negatives: texts similar to a title's match
long_text       the parts of a long text that are read
contrastive     losses over a batch's own pairs
metrics         recall, rank, correlation, ROC-AUC
report          the same over a set, as figures and tables
"""
