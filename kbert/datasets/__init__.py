"""TFDS builders over text that registry packages carry; `tools/fetch_demo.py` brings it and runs them."""
