"""`python -m worker.training_process`: the process that a worker starts to train one run.

It holds nothing but the start, because every student's own process imports this module again.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    from worker.training import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; unloading the native libraries would take seconds
