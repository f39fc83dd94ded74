"""Parse files into rows, and turn text into ids.

Readers of one layout each (`conll`, `squad`, `three_lines`), tables of rows (`table`, `formats`), and the tokenizer.
"""
