"""Whatever dies, each request is answered right. Short runs of what `make chaos` does for as long as one likes."""

from __future__ import annotations

import pytest
from chaos.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.alone


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_every_request_is_answered_right(scenario: Scenario) -> None:
    outcome = scenario.run(4.0)
    account = outcome.account
    told = f"{account.row()}\n{account.examples()}\n{outcome.log}"
    assert outcome.blows.struck, "nothing was struck: the scenario has not happened"
    assert not scenario.unexcused(outcome), told
    assert not account.doubled, f"ran twice unmarked: {account.doubled}\n{told}"
    assert not account.unrun, f"answered without having run: {account.unrun}\n{told}"
