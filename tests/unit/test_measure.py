"""Measuring stages: every cell has its samples, in an order that is fair, and they add up."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.cli import main
from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore import hardware, runfile
from pellucid.explore import measure as measuring
from pellucid.explore.cells import DECODE, PREFILL, Cell, Settings, fit_settings, order_of
from pellucid.explore.measure import MeasureProgress, measure_cells

CELLS = [Cell(phase, n, batch) for phase in (DECODE, PREFILL) for n in (8, 48) for batch in (1, 2)]
SMALL: dict[str, Any] = {"lengths": (8, 48), "batches": (1, 2), "blocks": 3}
DUMMY = ["--load-format", "dummy", "--device", "cpu", "--num-blocks", "64", "--threads", "1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "RUN_NS", 2_000_000)
    limits = {"read_bytes_s": 1e10, "matmul_flop_s": 1e11}
    monkeypatch.setattr(measuring, "measure_limits", lambda device, dtype, between: limits)


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return tiny(tiny_folder)


def tiny(folder: Path, **options: Any) -> Engine:
    given = {"load_format": "dummy", "device": "cpu", "num_blocks": 64, "threads": 1}
    return Engine(EngineConfig(model=str(folder), **{**given, **options}))


def ignore(progress: MeasureProgress) -> None:
    pass


# --- what is measured, and in which order --------------------------------------------------------


def test_every_cell_has_its_samples_and_they_add_up(engine: Engine, tmp_path: Path) -> None:
    record = measure_cells(engine, Settings(**SMALL), ignore)
    path = tmp_path / "run.json"
    runfile.write(record, path)
    assert runfile.read(path) == record
    found = [Cell(cell["phase"], cell["length"], cell["batch"]) for cell in record["cells"]]
    assert found == CELLS
    for cell in record["cells"]:
        assert len(cell["wall_ns"]) == len(cell["timed_wall_ns"]) == 3
        sums = [sum(times) for times in zip(*cell["stages_ns"].values(), strict=True)]
        assert sums == cell["wall_ns"]
        claimed = {"schedule", "prepare", "qkv", "attention", "mlp", "lm_head", "detokenize"}
        for stage in claimed:
            assert min(cell["stages_ns"][stage]) > 0, stage
        assert list(cell["stages_ns"])[-1] == runfile.OTHER
    parts = engine.runner._ways[-1]._parts  # type: ignore[attr-defined]
    assert record["weight_bytes"] == parts.model.weight_bytes
    assert record["kv_bytes_per_token"] == 2 * 2 * 2 * 8 * parts.cache.format.dtype.itemsize
    assert record["settings"]["lengths"] == [8, 48]
    assert not record["interrupted"]
    assert not engine.has_work
    engine.scheduler.check_integrity()


def test_the_stages_of_a_timed_run_are_its_wall_time(engine: Engine) -> None:
    bench = measuring.CellBench(engine, Settings(**SMALL))
    for cell in CELLS:
        timed, plain = measuring.Side(bench.clock), measuring.Side()
        bench.run(cell, 2, 0, [timed])
        bench.run(cell, 2, 0, [plain])
        assert sum(timed.stages_ns.values()) == pytest.approx(timed.wall_ns, rel=0.2)
        assert plain.wall_ns > 0
        assert not plain.stages_ns


class Watched:
    """Where the rows of each step ended, and whether it had borders."""

    def __init__(self, bench: measuring.CellBench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[list[int], bool]] = []
        runner = bench.engine.runner
        launch = runner.launch

        def watched(plan: Any) -> Any:
            self.steps.append(([row.end for row in plan.rows], runner.clock is bench.clock))
            return launch(plan)

        monkeypatch.setattr(runner, "launch", watched)

    def take(self, timed: bool) -> list[list[int]]:
        return sorted(ends for ends, with_borders in self.steps if with_borders is timed)


def test_decoding_stays_around_its_length_and_the_sides_change_places(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = measuring.CellBench(engine, Settings(**SMALL))
    bench.sizes[Cell(DECODE, 48, 2)] = measuring.Size(8)
    watched = Watched(bench, monkeypatch)
    bench.pair(Cell(DECODE, 48, 2), 0, timed_first=False)
    ends = [[end, end] for end in range(45, 53)]
    assert watched.take(timed=True) == ends
    assert watched.take(timed=False) == [[44, 44]] * 2 + ends, "the first token is not counted"
    assert [timed for _, timed in watched.steps[1:9]] == [False, True] * 4
    assert [timed for _, timed in watched.steps[10:]] == [True, False] * 4


def test_the_chunks_of_a_prompt_change_places(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = measuring.CellBench(tiny(tiny_folder, chunked_prefill=16), Settings(**SMALL))
    bench.sizes[Cell(PREFILL, 48, 1)] = measuring.Size(3)
    watched = Watched(bench, monkeypatch)
    assert bench.pair(Cell(PREFILL, 48, 1), 0, timed_first=True).num_steps == 3
    assert watched.take(timed=True) == watched.take(timed=False) == [[16], [32], [48]]
    assert [timed for _, timed in watched.steps] == [True, False, True, False, True, False]


def test_whole_runs_take_turns_where_changing_would_mean_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = measuring.CellBench(engine, Settings(**SMALL))
    monkeypatch.setattr(bench, "_whole_runs", True)
    bench.sizes |= {Cell(DECODE, 48, 1): measuring.Size(8), Cell(PREFILL, 48, 1): measuring.Size(1)}
    watched = Watched(bench, monkeypatch)
    bench.pair(Cell(DECODE, 48, 1), 0, timed_first=True)
    bench.pair(Cell(PREFILL, 48, 1), 0, timed_first=True)
    sides = [timed for _, timed in watched.steps]
    assert sides == [False, *[True] * 8, *[False] * 9, True, False]


def test_short_runs_are_repeated(engine: Engine) -> None:
    bench = measuring.CellBench(engine, Settings(lengths=(8,), blocks=1))
    bench.warm_up(ignore)
    assert bench.sizes[Cell(PREFILL, 8, 1)].repeats > 1
    num_steps, repeats = bench.sizes[Cell(DECODE, 8, 1)]
    assert num_steps == 2, "a short context leaves room for few"
    assert repeats > 1


def test_the_order_is_seeded_and_interleaved() -> None:
    orders = [order_of(CELLS, number, seed=3) for number in range(8)]
    assert orders == [order_of(CELLS, number, seed=3) for number in range(8)]
    assert orders != [order_of(CELLS, number, seed=4) for number in range(8)]
    for one, next_one in pairwise(orders):
        assert one != next_one
        assert {cell for cell, _ in one} == set(CELLS)
    # Either of a pair goes first now and then.
    assert {timed_first for order in orders for _, timed_first in order} == {False, True}


def test_a_chunked_prefill_counts_all_its_steps(tiny_folder: Path) -> None:
    chunked = tiny(tiny_folder, chunked_prefill=16)
    settings = Settings(lengths=(8, 48), phases=(PREFILL,), blocks=1)
    record = measure_cells(chunked, settings, ignore)
    assert [cell["num_steps"] for cell in record["cells"]] == [1, 3]


def test_without_a_kv_cache_a_token_is_its_whole_prefix(tiny_folder: Path) -> None:
    forgetful = tiny(tiny_folder, kv_cache="off", batching="static", max_seqs=4)
    settings = Settings(lengths=(8, 48), batches=(2,), phases=(DECODE,), blocks=1)
    record = measure_cells(forgetful, settings, ignore)
    assert [cell["num_steps"] for cell in record["cells"]] == [2, 2]
    assert forgetful.stats().num_blocks_used == 0


@pytest.mark.parametrize("whole_runs", [False, True])
def test_a_host_that_runs_ahead_is_measured_over_as_many_steps(
    whole_runs: bool, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = tiny(tiny_folder, overlap="on")
    bench = measuring.CellBench(ahead, Settings(**SMALL))
    monkeypatch.setattr(bench, "_whole_runs", whole_runs)
    counts = []
    time_work = bench._time

    def num_launched() -> int:
        return ahead.stats().num_steps + ahead.pipeline.is_busy

    def counted(work: Any, side: Any) -> None:
        before = num_launched()
        time_work(work, side)
        counts.append(num_launched() - before)

    monkeypatch.setattr(bench, "_time", counted)
    assert bench.run(Cell(DECODE, 48, 2), 8, 0, [measuring.Side()]) == 8
    assert sum(counts) == 8, "launched while the time was taken"
    assert bench.run(Cell(PREFILL, 48, 2), 8, 0, [measuring.Side()]) == 1
    assert sum(counts) == 9
    assert not ahead.pipeline.is_busy
    assert not ahead.has_work


# --- how long it takes ---------------------------------------------------------------------------


def test_the_cost_is_said_before_it_starts(engine: Engine) -> None:
    said: list[MeasureProgress] = []
    measure_cells(engine, Settings(**SMALL), said.append)
    notes = [(p.doing, p.note) for p in said if p.note]
    assert notes[0] == ("warm-up", "warming up 8 cells")
    assert notes[1][0] == "measure"
    assert notes[1][1].startswith("3 blocks of 8 cells: about ")
    steps = [p.done for p in said if p.doing == "measure"]
    assert steps == sorted(steps)
    assert len(steps) == 1 + 3 * len(CELLS)
    assert said[-1].done == pytest.approx(said[-1].total)


def test_a_time_limit_takes_blocks_away_and_says_so(engine: Engine) -> None:
    said: list[MeasureProgress] = []
    record = measure_cells(engine, Settings(**SMALL, max_seconds=1e-3), said.append)
    assert all(len(cell["wall_ns"]) == 1 for cell in record["cells"])
    assert any("1 blocks of 8 cells (3 do not fit into the time)" in p.note for p in said)
    assert not record["interrupted"]


@pytest.mark.parametrize("num_whole", [1, 2])
def test_an_interrupt_keeps_whole_blocks(engine: Engine, num_whole: int) -> None:
    record = measure_cells(engine, Settings(**SMALL), Stopper(num_whole * len(CELLS) + 3))
    assert record["interrupted"]
    assert all(len(cell["wall_ns"]) == num_whole for cell in record["cells"])
    assert not engine.has_work


def test_an_interrupt_with_nothing_to_keep_goes_on(engine: Engine) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_cells(engine, Settings(**SMALL), Stopper(3))
    assert not engine.has_work


def test_it_can_be_ended_between_two_steps(engine: Engine) -> None:
    """Also while the warm-up runs."""

    class Enough(Exception):
        pass

    calls, said = 0, list[MeasureProgress]()

    def listen() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Enough

    with pytest.raises(Enough):
        measure_cells(engine, Settings(**SMALL), said.append, listen)
    assert {p.doing for p in said} == {"warm-up"} and said[-1].done < len(CELLS)
    assert not engine.has_work and engine.stats().num_blocks_used == 0


class Stopper:
    """Whoever presses Ctrl-C after so many pairs of runs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, progress: MeasureProgress) -> None:
        self.left -= progress.doing == "measure" and progress.done > 0
        if not self.left:
            raise KeyboardInterrupt


# --- what fits -----------------------------------------------------------------------------------


def test_lengths_are_those_that_fit(engine: Engine) -> None:
    assert fit_settings(engine, Settings()).lengths == (64,)
    few = fit_settings(engine, Settings(batches=(32,))).lengths
    assert few, "where none of the grid fits, half of what there is"
    assert max(few) < 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lengths": (120,)}, "length 120 takes 139 tokens of context, and the context length"),
        ({"lengths": (64,), "batches": (1, 32)}, "length 64 at batch 32 takes 76 tokens a"),
        ({"batches": (65,)}, "batch 65 is more than max_seqs 64"),
    ],
    ids=str,
)
def test_what_the_engine_cannot_hold_is_refused(
    engine: Engine, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        measure_cells(engine, Settings(**changes), ignore)


def test_the_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(hardware, "read_bandwidth", lambda device: 1e10)
    monkeypatch.setitem(hardware.PRODUCT, "cpu", 64)
    limits = hardware.measure_limits(torch.device("cpu"), torch.float32)
    assert limits["read_bytes_s"] == 1e10
    assert limits["matmul_flop_s"] > 0


# --- the command ---------------------------------------------------------------------------------


def test_the_verb(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    sizes = ["--lengths", "8,48", "--phases", "decode", "--blocks", "2", "--json", str(path)]
    assert main(["measure", *sizes, "--model", str(tiny_folder), *DUMMY]) == 0
    said = capsys.readouterr()
    record = runfile.read(path)
    assert [(cell["phase"], cell["length"]) for cell in record["cells"]] == [
        ("decode", 8),
        ("decode", 48),
    ]
    assert "2 blocks of 2 cells: about" in said.err
    assert "attention %" in said.out
    assert record["id"] in said.out


def test_the_run_file_alone(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--lengths", "8", "--batches", "1,2", "--blocks", "1", "--json", "-"]
    assert main(["measure", *sizes, "--model", str(tiny_folder), *DUMMY]) == 0
    record = json.loads(capsys.readouterr().out)
    runfile.validate(record, "stdout")
    assert {"closure", "instrument_ratio"} <= set(record)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lengths", "64,many"], "'64,many' is no list of whole numbers"),
        (["--lengths", "0"], "lengths must be numbers of 1 or more"),
        (["--phases", "decode,encode"], "phases can be decode and prefill, not 'encode'"),
        (["--blocks", "0"], "blocks must be at least 1, not 0"),
        (["--max-seconds", "-1"], "max_seconds must be 0 (no limit) or more"),
        (["--temperature", "-1"], "temperature must be between 0 and 100"),
        (["--json", "/no/such/folder/run.json"], "there is no folder /no/such/folder"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_clear_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["measure", *argv])
    except SystemExit as stop:  # argparse's own refusals
        status = int(stop.code or 0)
    said = capsys.readouterr()
    assert status == 2
    assert words in said.err.strip().splitlines()[-1]
    assert said.out == ""


def test_a_run_has_what_the_page_reads(engine: Engine) -> None:
    """The page refuses a file that lacks a field which it reads (frontend/src/data/runfile.ts)."""
    source = Path(__file__).parents[2] / "frontend" / "src" / "data" / "runfile.ts"
    read = re.findall(r"for \(const key of \[(.*?)\]\) \w+\((\w+)\[key\]", source.read_text())
    fields = {name: re.findall(r'"(\w+)"', keys) for keys, name in read}
    assert fields.keys() == {"environment", "engine", "run", "cell"}
    run = measure_cells(engine, Settings(lengths=(8,), blocks=1), ignore)
    places = {**run, "run": run, "cell": run["cells"][0]}
    for name, keys in fields.items():
        assert not [key for key in keys if key not in places[name]], name
