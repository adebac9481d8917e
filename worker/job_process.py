"""`python -m worker.job_process`: the process that a worker starts to carry out one job."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    from worker.job import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; unloading the native libraries would take seconds
