"""Parse files into rows, and turn text into ids.

Sources and their files (`sources`, `file_settings`), parsers of one layout each (`formats` chooses one), tables
of rows (`table`), and the tokenizer.
"""
