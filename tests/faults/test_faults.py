"""Whatever befalls a run, it ends as it would have: the same exchanges, metrics and weights, and nothing is left behind.

Several faults come over each run here. `make faults` tries each by itself and more often, and writes docs/faults.md.
`OPCOD_FAULT_SEED` chooses other moments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import pytest

from tests.faults.conftest import Reference
from tests.faults.injections import TOGETHER
from tests.faults.stage import Stage
from tests.faults.trial import Fault, attempt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

SEED = int(os.environ.get("OPCOD_FAULT_SEED", "1"))


@pytest.mark.parametrize(
    ("stage", "faults"),
    [pytest.param(faults[0].stage, faults, id="; ".join(fault.name for fault in faults)) for faults in TOGETHER],
    indirect=["stage"],
)
def test_a_disturbed_run_ends_as_one_that_was_left_alone(faults: Sequence[Fault], stage: Stage, reference: Reference) -> None:
    for seed in range(SEED, SEED + 4):
        trial = attempt(stage, faults, reference, seed=seed)
        print(trial)
        assert not trial.problems, "\n".join(trial.problems)
        faults = faults[len(trial.hits) :]
        if not faults:
            return
    pytest.fail(f"the run was over before it came: {faults[0].name}")
