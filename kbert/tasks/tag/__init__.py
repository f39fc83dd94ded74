"""The parts of `--task=tag`: find entities in texts.

rows            how rows are read and checked
crf             scores of words' tags -> the best sequence, and probabilities of its parts
entity_metrics  precision, recall and F1 of entities
"""
