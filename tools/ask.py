"""`kbert ask` from a checkout, where kbert need not be installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kbert.ask import main

if __name__ == "__main__":
    sys.exit(main(program="python tools/ask.py"))
