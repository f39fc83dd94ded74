"""Entities in texts.

conll           columns of words and tags -> texts with spans
crf             scores of words' tags -> the best sequence, and how likely parts of it are
entity_metrics  precision, recall and F1 of entities
"""
