"""Two settings measured in turns: whose times they are, and that the engine ends as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pellucid import LLM
from pellucid.errors import InputError
from pellucid.explore import runfile
from pellucid.explore.cells import Settings
from pellucid.explore.measure import MeasureProgress, measure_cells
from pellucid.explore.turns import measure_in_turns

SHORT = Settings(lengths=(16, 32), phases=("decode",), blocks=3)


@pytest.fixture(scope="module")
def llm(tiny_folder: Path) -> LLM:
    return LLM(str(tiny_folder), load_format="dummy", device="cpu", num_blocks=24, block_size=8)


def listen(news: MeasureProgress) -> None:
    pass


def test_two_run_files_of_the_same_blocks(llm: LLM) -> None:
    before, config = llm.engine.info.switches, llm.engine.config
    told: list[MeasureProgress] = []
    files = measure_in_turns(llm.engine, SHORT, {"attention": "naive"}, told.append)
    assert [file["engine"]["switches"]["attention"] for file in files] == ["flash", "naive"]
    for file in files:
        runfile.validate(file, "in turns")
        assert [len(cell["wall_ns"]) for cell in file["cells"]] == [3, 3]
    assert files[0]["settings"]["in_turns"] == files[1]["settings"]["in_turns"]
    assert llm.engine.info.switches == before
    assert llm.engine.config == config, "what was auto is auto again"
    assert told[-1].done == pytest.approx(told[-1].total)


def test_what_cannot_be_had_is_refused_before_anything_is_measured(llm: LLM) -> None:
    before = llm.engine.info
    with pytest.raises(InputError, match="graphs"):
        measure_in_turns(llm.engine, SHORT, {"graphs": "on"}, listen)
    assert llm.engine.info is before


@pytest.mark.parametrize("calls", [1, 9, 30])
def test_cut_short_it_leaves_the_engine_as_it_was(llm: LLM, calls: int) -> None:
    before, left = llm.engine.info.switches, calls

    def stop() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_in_turns(llm.engine, SHORT, {"kv_cache": "off"}, listen, stop)
    assert llm.engine.info.switches == before and not llm.engine.has_work


def test_cells_are_told_of_as_they_come(llm: LLM) -> None:
    """The last that is told of each cell is what the run file has of it."""
    told: list[MeasureProgress] = []
    file = measure_cells(llm.engine, SHORT, told.append)
    cells: dict[int, Any] = {}
    for news in told:
        if news.cell is not None:
            before = cells.get(news.cell["length"])
            assert len(news.cell["wall_ns"]) == (len(before["wall_ns"]) if before else 0) + 1
            cells[news.cell["length"]] = news.cell
    assert [cells[cell["length"]] for cell in file["cells"]] == file["cells"]


def test_the_cache_is_touched_a_layer_at_a_time(llm: LLM) -> None:
    assert len(list(llm.engine.touch(20))) == llm.engine.checkpoint.spec.num_layers
