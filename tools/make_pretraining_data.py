"""`kbert make_pretraining_data` from a checkout, where kbert need not be installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kbert.make_pretraining_data import main

if __name__ == "__main__":
    sys.exit(main(program="python tools/make_pretraining_data.py"))
