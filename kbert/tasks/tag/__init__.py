"""The parts of `--task=tag`: find entities in texts.

crf             scores of words' tags -> the best sequence, and probabilities of its parts
entity_metrics  precision, recall and F1 of entities
"""
