"""Every operation of the original's specification, driven through its states by schemathesis (issue 3, show 3)."""

from __future__ import annotations

import pytest
from schemathesis import GenerationMode
from structlog.testing import capture_logs

from tests.specification import amendments
from tests.specification.cases import make_all
from tests.specification.operations import Judge, read_operations
from tests.specification.walk import Walk
from tests.specification.world import FAULTS, World

pytestmark = [pytest.mark.slow, amendments.needs_specification]

#: Cases of each operation. What has a body has most that can be wrong, and leads everywhere.
PLAIN = {GenerationMode.POSITIVE: 14, GenerationMode.NEGATIVE: 4}
WITH_BODY = {GenerationMode.POSITIVE: 32, GenerationMode.NEGATIVE: 18}
ROUNDS = 3


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_every_operation_in_all_its_states(world: World, seed: int) -> None:
    document = amendments.for_requests()
    cases = make_all(document, PLAIN, WITH_BODY, seed)
    answers = Judge(amendments.for_answers())
    walk = Walk(world, read_operations(answers.document), answers, Judge(amendments.letter()), seed)
    with capture_logs() as logs:
        walk.play(cases, rounds=ROUNDS)
        assert walk.listed > 20 and walk.links > 0
    assert [entry for entry in logs if entry["event"] in FAULTS] == []
    print(f"{walk.played} cases, states of jobs that were seen: {dict(walk.job_states)}")
    assert walk.played >= 550
    for operation in walk.operations:
        statuses = {status for played, status in walk.seen if played == operation}
        assert any(status < 300 for status in statuses), f"{operation} never succeeded"
        assert any(status >= 400 for status in statuses), f"{operation} never refused"
    assert len(walk.job_states) >= 3, walk.job_states
