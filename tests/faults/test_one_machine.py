"""Whatever befalls `opcod up`, a run ends as it would have: exchanges, metrics, weights; nothing is left behind.

`make faults` tries each fault by itself and more often, and writes docs/faults.md. `OPCOD_FAULT_SEED` chooses other moments.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.conftest import Reference
from tests.faults.stage import Stage
from tests.faults.survival import MARKS, come_together, survive
from tests.faults.trial import Fault

pytestmark = MARKS


@come_together("alone", "clock", "small disk", "small home")
def test_a_disturbed_run_ends_as_one_that_was_left_alone(faults: Sequence[Fault], stage: Stage, reference: Reference) -> None:
    survive(faults, stage, reference)
