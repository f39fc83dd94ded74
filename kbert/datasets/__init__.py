"""TFDS builders for texts from registry packages; `tools/fetch_demo.py` fetches the texts and runs the builders."""
