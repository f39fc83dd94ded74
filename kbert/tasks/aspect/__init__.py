"""The parts of `--task=aspect`: classify what long texts say of aspects.

Layouts of rows (`names`, `three_lines`, `audit`), sentences and which of them are read (`sentences`, `selecting`, with the
scores of `text_filter`, trained by `filtering`, or of `word_weights`), and what is measured (`metrics`, `report`).
"""
