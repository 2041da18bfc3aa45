"""The worker turns requests away when too many answers wait already."""

from __future__ import annotations

import pytest

from pellucid.errors import InputError
from pellucid.request import EngineStats, Request, SamplingParams
from pellucid.server.worker import check_load


class Busy:
    """As much of an engine as the check looks at."""

    def __init__(self, num_waiting: int) -> None:
        self.num_waiting = num_waiting

    def stats(self) -> EngineStats:
        return EngineStats(num_waiting=self.num_waiting)


@pytest.mark.parametrize(("num_waiting", "n", "fits"), [(0, 4, True), (1, 3, True), (1, 4, False)])
def test_answers_waiting_count_and_not_requests(num_waiting: int, n: int, fits: bool) -> None:
    request = Request(id="a", prompt_token_ids=[1], params=SamplingParams(n=n))
    if fits:
        check_load(Busy(num_waiting), request, max_waiting=4)  # type: ignore[arg-type]
        return
    with pytest.raises(InputError, match="1 answers are waiting already, and at most 4") as refused:
        check_load(Busy(num_waiting), request, max_waiting=4)  # type: ignore[arg-type]
    assert refused.value.code == "overloaded"
