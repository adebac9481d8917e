"""The child process of `opcod.tasks.mathematics`: reads pairs of formulas, says whether they are equal.

It imports nothing of opcod, and ends by itself when its parent is gone, even from within a formula.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time

from math_verify import LatexExtractionConfig, parse, verify

_MEMORY_BYTES = 2 * 1024**3
_SECONDS = 5
_CPU_SECONDS = 20


def main() -> None:
    """Serve until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    print('"ready"', flush=True)
    for line in sys.stdin:
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + _CPU_SECONDS, resource.RLIM_INFINITY))
        request = json.loads(line)
        print(json.dumps(_equal(request["reference"], request["found"])), flush=True)


def _equal(reference: str, found: str) -> bool:
    formulas = [
        parse(rf"$\boxed{{{text}}}$", extraction_config=[LatexExtractionConfig(boxed_match_priority=0)], parsing_timeout=_SECONDS)
        for text in (reference, found)
    ]
    return all(formulas) and bool(verify(*formulas, timeout_seconds=_SECONDS))


if __name__ == "__main__":
    main()
