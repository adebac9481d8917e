"""What both files of fault tests have in common: several faults come over one run, and it ends as it would have."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import pytest

from tests.faults.conftest import Reference
from tests.faults.injections import TOGETHER
from tests.faults.stage import Stage
from tests.faults.trial import Fault, attempt

SEED = int(os.environ.get("OPCOD_FAULT_SEED", "1"))
"""Chooses the moments."""

MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]


def come_together(*stages: str) -> pytest.MarkDecorator:
    """For each of the suite's runs on these stages: the faults that come over it, and the stage."""
    runs = [faults for faults in TOGETHER if faults[0].stage in stages]
    named = [pytest.param(faults[0].stage, faults, id="; ".join(fault.name for fault in faults)) for faults in runs]
    return pytest.mark.parametrize(("stage", "faults"), named, indirect=["stage"])


def survive(faults: Sequence[Fault], stage: Stage, reference: Reference) -> None:
    """Disturb runs until every fault has come; a run may be over before the last."""
    for seed in range(SEED, SEED + 4):
        trial = attempt(stage, faults, reference, seed=seed)
        print(trial)
        assert not trial.problems, "\n".join(trial.problems)
        faults = faults[len(trial.hits) :]
        if not faults:
            return
    pytest.fail(f"the run was over before it came: {faults[0].name}")
