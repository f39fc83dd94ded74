"""Questions and the stretches of text that answer them.

squad          SQuAD's layout -> questions with gold answers
answer_spans   scores of tokens -> the best spans
squad_metrics  exact match and F1, as the official scripts have them
squad_report   the same over a set, as figures and tables
"""
