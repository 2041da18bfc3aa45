"""The device's side of a step, as far as it can be seen on a CPU: inputs, lanes, conflicts, memory.

What runs on a GPU only is in tests/kernels and carries the mark `gpu`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid import LLM, EngineConfig, SamplingParams
from pellucid.assembly import load, resolve_here
from pellucid.cache.blocks import BlockTable
from pellucid.errors import InputError
from pellucid.explore.work import GRAPHED_TOKENS
from pellucid.features import FEATURES, check_conflicts, excluded
from pellucid.kernels.ops import TorchOps
from pellucid.kernels.units import Stream
from pellucid.model.checkpoint import open_checkpoint
from pellucid.request import UNKNOWN, Row, SequenceStart, StepPlan
from pellucid.runner import memory
from pellucid.runner import runner as runner_module
from pellucid.runner.build import extrapolate
from pellucid.runner.machine import Machine
from pellucid.runner.memory import Profile, check_weights_fit, naming, plan_memory
from pellucid.runner.padded import PaddedInputs
from pellucid.runner.runner import HostCopy
from pellucid.runner.sequences import SequenceTable, flatten
from pellucid.runner.shapes import (
    DECODE_ROWS,
    RAGGED_TOKENS,
    Shape,
    Shapes,
    is_decode,
    padded_rows,
)
from pellucid.sampling.sampler import EVERYTHING, PLAIN
from pellucid.stages import NullClock

BLOCK = 4
COLUMNS = 24
SPARE = 99
CPU = torch.device("cpu")


class Company:
    """Sequences as a scheduler would have them: each row brings what is new to its table."""

    def __init__(self, num_places: int = 6) -> None:
        self.tables: dict[int, BlockTable] = {}
        self.starts: list[SequenceStart] = []
        self.known = SequenceTable(num_places, COLUMNS, SPARE)

    def row(
        self, seq_id: int, start: int, tokens: list[int], samples: bool = True, scored: bool = False
    ) -> Row:
        end = start + len(tokens)
        if seq_id not in self.tables:
            self.tables[seq_id] = BlockTable()
            params = SamplingParams(temperature=0.5)
            self.starts.append(SequenceStart(seq_id, params, seq_id * 1000 - 7, end, end))
        table = self.tables[seq_id]
        for i in range(len(table), -(-end // BLOCK)):
            table.append((seq_id * 31 + i * 7) % 97)
        targets = [5] * len(tokens) if scored else []
        return Row(seq_id, tokens, start, table.unsent(), table.version, int(samples), targets)

    def plan(self, rows: list[Row]) -> StepPlan:
        """Those of earlier plans that have no row here have left."""
        present = {row.seq_id for row in rows}
        left = [seq_id for seq_id in self.tables if seq_id not in present]
        for seq_id in left:
            del self.tables[seq_id]
        starts, self.starts = self.starts, []
        self.known.update(plan := StepPlan(rows, starts, left))
        return plan

    def place(self, row: Row) -> int:
        return self.known[row.seq_id].place

    def blocks(self, row: Row) -> list[int]:
        return self.tables[row.seq_id].blocks


ROWS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(shape=ROWS)
def test_rows_one_behind_the_other_are_what_a_loop_would_make(
    shape: list[tuple[int, int, bool, bool]],
) -> None:
    company = Company()
    rows = [
        company.row(i, start, list(range(100 * i, 100 * i + n)), samples)
        for i, (start, n, samples, _) in enumerate(shape)
    ]
    rows[0].tokens[-1] = UNKNOWN
    company.plan(rows)
    flat = flatten(rows, company.known, BLOCK)
    tokens, positions, slots = [], [], []
    for r in rows:
        for i, token in enumerate(r.tokens):
            position = r.start + i
            tokens.append(-1 - company.place(r) if token == UNKNOWN else token)
            positions.append(position)
            slots.append(company.blocks(r)[position // BLOCK] * BLOCK + position % BLOCK)
    assert flat.tokens.tolist() == tokens
    assert flat.positions.tolist() == positions
    assert flat.slots.tolist() == slots
    assert flat.places.tolist() == [company.place(r) for r in rows]
    assert flat.contexts.tolist() == [r.end for r in rows]
    for r, first, length in zip(rows, flat.firsts, flat.lengths, strict=True):
        assert length == len(r.tokens)
        assert flat.positions[first] == r.start


def test_a_table_that_changed_without_growing_is_taken_over() -> None:
    """[0, 1, 3] becomes [0, 1, 4] by a rollback: no longer, and not the same."""
    table = SequenceTable(2, COLUMNS, SPARE)
    start = SequenceStart(7, SamplingParams(), 0, 9, 9)
    table.update(StepPlan([Row(7, [5] * 12, 0, [0, 1, 3], 0, 1)], [start]))
    place = table[7].place
    assert table.tables[place, :3].tolist() == [0, 1, 3]
    table.changed.clear()
    table.update(StepPlan([Row(7, [5], 12, [], 0, 1)]))
    assert not table.changed
    table.update(StepPlan([Row(7, [5], 11, [0, 1, 4], 1, 1)]))
    assert table.changed == {place}
    assert table[7].blocks == table.tables[place, :3].tolist() == [0, 1, 4]


def test_a_step_of_padding_alone_stays_inside_its_block_table(tiny_folder: Path) -> None:
    """A graph is recorded of such a step, also where a context is shorter than the step."""
    llm = LLM(str(tiny_folder), load_format="dummy", device="cpu", num_blocks=8, context_length=64)
    sequences = llm.engine.runner._sequences
    block_size = llm.engine.info.block_size
    assert sequences.tables.shape[1] * block_size >= RAGGED_TOKENS[-1]


def test_a_place_is_free_again_when_its_sequence_has_left() -> None:
    table = SequenceTable(1, COLUMNS, SPARE)
    for seq_id in range(5):
        start = SequenceStart(seq_id, SamplingParams(), 0, 9, 9)
        left = [seq_id - 1] if seq_id else []
        assert table.update(StepPlan([Row(seq_id, [5], 0, [seq_id], 0, 1)], [start], left)) == [0]
        assert table[seq_id].blocks == [seq_id]
    table.forget()
    assert table.update(StepPlan([], [start])) == [0]


class Tiled:
    """A backend whose tiles are two queries of a row."""

    def tiles_of(self, rows: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
        tiles = [(r, q) for r, (_, num_new, _) in enumerate(rows) for q in range(0, num_new, 2)]
        return [(len(tiles), 0), *tiles]

    def most_tiles(self, num_tokens: int, num_rows: int) -> int:
        return 1 + num_tokens // 2 + num_rows


def padded_inputs(company: Company, max_rows: int = 6, max_tokens: int = 70) -> PaddedInputs:
    return PaddedInputs(
        Shapes(max_rows, max_tokens),
        company.known,
        block_size=BLOCK,
        spare_block=SPARE,
        attention=Tiled(),  # type: ignore[arg-type]
        device=CPU,
    )


def test_sizes_waste_little() -> None:
    for num_rows in range(1, 600):
        size = padded_rows(num_rows)
        assert size in DECODE_ROWS and num_rows <= size
        assert size - num_rows <= max(4, num_rows // 2)


@settings(max_examples=40)
@given(steps=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), max_size=6))
def test_decode_inputs_follow_rows_that_come_go_and_grow(steps: list[list[int]]) -> None:
    """Whatever was there before, a step finds its own rows, and padding that touches nobody."""
    company = Company()
    inputs = padded_inputs(company)
    lengths = dict.fromkeys(range(10), 3)
    for present in steps:
        rows = []
        for seq_id in present:
            lengths[seq_id] += 1
            rows.append(company.row(seq_id, lengths[seq_id] - 1, [seq_id + 40]))
        company.plan(rows)
        shape = inputs.shapes.shape_of(rows)
        assert shape == Shape(padded_rows(len(rows)))
        inputs.fill(rows, shape)
        tokens, positions, places = (part.tolist() for part in inputs.decode(shape))
        for i, r in enumerate(rows):
            assert (tokens[i], positions[i], places[i]) == (
                r.tokens[0],
                r.start,
                company.place(r),
            )
            blocks = company.blocks(r)
            assert inputs.tables[places[i], : len(blocks)].tolist() == blocks
        for i in range(len(rows), shape.rows):
            assert (tokens[i], positions[i], places[i]) == (0, 0, company.known.spare_place)
        assert set(inputs.tables[company.known.spare_place].tolist()) == {SPARE}


@settings(max_examples=60)
@given(steps=st.lists(ROWS, min_size=1, max_size=4))
def test_ragged_inputs_say_what_the_rows_say(
    steps: list[list[tuple[int, int, bool, bool]]],
) -> None:
    """Row by row as `flatten` has it; what is padding lives in the spare block."""
    company = Company()
    inputs = padded_inputs(company)
    for step, shapes in enumerate(steps):
        rows = [
            company.row(10 * step + i, start, list(range(100 * i, 100 * i + n)), samples)
            for i, (start, n, samples, _) in enumerate(shapes)
        ]
        rows[0].tokens[-1] = UNKNOWN
        company.plan(rows)
        if is_decode(rows):
            continue
        shape = inputs.shapes.shape_of(rows)
        assert shape is not None and shape.tokens in RAGGED_TOKENS
        inputs.fill(rows, shape)
        got, num_tokens = inputs.ragged(shape), sum(len(r.tokens) for r in rows)
        want = flatten(rows, company.known, BLOCK)
        assert got.tokens.tolist() == want.tokens.tolist() + [0] * (shape.tokens - num_tokens)
        assert got.positions[:num_tokens].tolist() == want.positions.tolist()
        assert got.slots[:num_tokens].tolist() == want.slots.tolist()
        assert set(got.slots[num_tokens:].tolist()) <= {SPARE * BLOCK}
        assert not got.positions[num_tokens:].any()

        count, *tiles = got.rows.tiles.tolist()
        seen = dict.fromkeys(range(shape.tokens), 0)
        for index, query in tiles[: count[0]]:
            first, num_new, _ = got.rows.rows[index].tolist()
            for token in range(first + query, first + min(query + 2, num_new)):
                seen[token] += 1
        spare = company.known.spare_place
        for i, r in enumerate(rows):
            last = sum(len(other.tokens) for other in rows[: i + 1]) - 1
            assert (got.lasts[i], got.ends[i]) == (last, r.end - 1)
            assert got.places[i] == company.place(r)
            assert got.draw_places[i] == (company.place(r) if r.samples else spare)
            if got.rows.contexts[i]:
                assert len(r.tokens) == 1 and got.rows.contexts[i] == r.end
                seen[int(got.rows.firsts[i])] += 1
            else:
                assert got.rows.rows[i].tolist() == [last + 1 - len(r.tokens), len(r.tokens), r.end]
        assert set(seen.values()) == {1}, "every token has its attention once"
        gap = shape.tokens - num_tokens
        assert got.ends[len(rows)] == max(0, gap - 1), "as far as the padding's table is needed"
        for i in range(len(rows), shape.rows + 1):
            assert got.places[i] == got.draw_places[i] == spare and got.lasts[i] == 0
            assert i == shape.rows or got.rows.contexts[i] == 0


def test_the_model_knows_which_steps_are_replayed() -> None:
    assert RAGGED_TOKENS[-1] == GRAPHED_TOKENS


def test_steps_that_are_not_padded() -> None:
    shapes, company = Shapes(6, 70), Company()
    assert shapes.shape_of([company.row(0, 0, [1] * 65)]) == Shape(1, 128)
    assert shapes.shape_of([company.row(1, 0, [1] * 200)]) is None, "more than a step can have"
    assert shapes.shape_of([company.row(2, 0, [1, 2], scored=True)]) is None
    assert shapes.shape_of([company.row(3, 0, [1], samples=False)]) == Shape(1, 16)


def test_every_shape_of_a_step_can_be_captured_beforehand() -> None:
    company = Company(DECODE_ROWS[-1])
    inputs = padded_inputs(company)
    shapes = inputs.shapes.all()
    assert len(set(shapes)) == len(shapes)
    for num_rows in range(1, 7):
        for num_tokens in range(num_rows, 71):
            ids = [100 * num_tokens + i for i in range(num_rows)]
            rows = [company.row(ids[0], 0, [1] * (num_tokens - num_rows + 1))]
            rows += [company.row(seq_id, 3, [1]) for seq_id in ids[1:]]
            company.plan(rows)
            shape = inputs.shapes.shape_of(rows, PLAIN)
            assert shape in shapes
            inputs.fill(rows, shape)
    assert set(inputs.shapes.largest()) <= set(shapes)
    assert set(inputs.shapes.common()) <= set(shapes)


def test_kernels_are_compiled_for_every_number_of_rows_that_matters() -> None:
    shapes = Shapes(256, 4096).of_each_kernel(2048)
    decode = {shape.rows for shape in shapes if not shape.tokens}
    assert decode == {1, 2, 4, 8, 12, 16, 256}
    assert {shape.rows for shape in shapes if shape.tokens} == {1, 4, 16}
    assert {shape.draw for shape in shapes} == {PLAIN, EVERYTHING}


@pytest.mark.parametrize("chunk", [3, 0])
def test_overlap_changes_no_token(chunk: int, tiny_folder: Path) -> None:
    """Also with stop tokens, penalties, log-probabilities and a pool that preempts."""
    kinds = [
        SamplingParams(temperature=0, max_tokens=9, ignore_eos=True),
        SamplingParams(temperature=1, seed=4, max_tokens=7, ignore_eos=True, logprobs=2),
        SamplingParams(temperature=0, max_tokens=8, presence_penalty=1.5, ignore_eos=True),
        SamplingParams(temperature=1, seed=9, max_tokens=12, top_k=20, stop_token_ids=(5, 17, 60)),
        SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=1),
    ]
    prompts = [[i + 3, 9, 44, 2 * i + 1, 7] * (i + 1) for i in range(len(kinds))]
    outputs = {}
    for overlap in ("off", "on"):
        llm = LLM(
            str(tiny_folder),
            load_format="dummy",
            dtype="float32",
            device="cpu",
            num_blocks=9,
            block_size=8,
            chunked_prefill=chunk,
            overlap=overlap,
        )
        outputs[overlap] = llm.generate(prompts, kinds)
        assert llm.engine.stats().num_blocks_used == 0
        llm.engine.scheduler.check_integrity()
    for serial, ahead in zip(outputs["off"], outputs["on"], strict=True):
        assert ahead.token_ids == serial.token_ids
        assert ahead.finish_reason == serial.finish_reason
        assert [e and e.token_id for e in ahead.prompt_logprobs or []] == [
            e and e.token_id for e in serial.prompt_logprobs or []
        ]
        for one, other in zip(ahead.logprobs or [], serial.logprobs or [], strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


def test_conflicts_are_never_silent() -> None:
    for feature in FEATURES:
        for conflict in feature.conflicts:
            key_, value = conflict.split("=")
            settings_ = {feature.key: "on", key_: value}
            assert excluded(feature.key, settings_) == conflict
            with pytest.raises(InputError, match=f"{feature.key} on does not work with {key_}"):
                check_conflicts(settings_)
            check_conflicts({**settings_, feature.key: "auto"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": "on", "kv_cache": "off"}, "overlap on does not work with kv_cache off"),
        ({"graphs": "on", "attention": "naive"}, "graphs on does not work with attention naive"),
        ({"graphs": "on"}, "graphs on: CUDA graphs need an NVIDIA GPU"),
        ({"capture": "start"}, "capture start: graphs is off here"),
        ({"gemv": "on"}, "gemv on: its kernels are for an NVIDIA GPU"),
        ({"sampler": "pivot"}, "sampler pivot: its kernels are for an NVIDIA GPU"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    options: dict[str, Any], words: str, tiny_folder: Path
) -> None:
    with pytest.raises(InputError, match=words):
        LLM(str(tiny_folder), load_format="dummy", device="cpu", num_blocks=8, **options)


def test_the_engine_says_what_every_switch_came_to(tiny_folder: Path) -> None:
    llm = LLM(str(tiny_folder), load_format="dummy", device="cpu", num_blocks=8)
    switches = llm.engine.info.switches
    assert set(switches) == {feature.key for feature in FEATURES}
    assert "auto" not in switches.values()
    assert set(switches) < set(llm.engine.info.why)
    assert switches["graphs"] == switches["gemv"] == switches["overlap"] == "off"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 40])
def test_logits_are_float32_whatever_the_model_is(
    rows: int, tied: bool, tiny_folder: Path, tmp_path: Path
) -> None:
    """They are those of the bfloat16 operands, and are not rounded to steps of bfloat16."""
    shape = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(shape | {"tie_word_embeddings": tied}))
    config = EngineConfig(
        model=str(tmp_path), load_format="dummy", device="cpu", dtype="bfloat16", threads=1
    )
    checkpoint = open_checkpoint(config)
    model = load(config, checkpoint, resolve_here(config, checkpoint)).model
    hidden = torch.randn(rows, shape["hidden_size"])
    logits = model.logits(Stream(hidden), NullClock())
    name = "embed" if tied else "lm_head"
    weight = checkpoint.weights(torch.bfloat16, CPU)[name].dense(torch.float64)
    h = TorchOps().norm(hidden, *model.norm, torch.bfloat16)
    torch.testing.assert_close(logits, (h.double() @ weight.T).float(), rtol=1e-5, atol=1e-6)
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16()).float().mean() > 0.9


def test_the_pool_that_overflows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"out of GPU memory for activations.*chunked_prefill"
    with (
        pytest.raises(InputError, match=words) as e,
        naming("activations", "set chunked_prefill below 8192", "chunked_prefill"),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert e.value.param == "chunked_prefill"
    gpu = Machine(torch.device("cuda"), torch.float32, 128, 8192)
    monkeypatch.setattr(memory, "free_memory", lambda device: 20 * memory.GIB)
    with pytest.raises(InputError, match=r"weights do not fit.*24.00 GiB in float32.*16-bit"):
        check_weights_fit(24 * memory.GIB, gpu)
    check_weights_fit(12 * memory.GIB, gpu)


def test_activations_are_extrapolated_with_their_square() -> None:
    """Linear stays linear; scores of every pair of tokens are counted as such."""
    assert extrapolate(500, 1000, 100, 400) == 4000
    peak = [30 * n + 2 * n * n for n in (1024, 2048, 8192)]
    assert extrapolate(peak[0], peak[1], 2048, 8192) == pytest.approx(peak[2], rel=1e-6)
    assert extrapolate(5, 5, 1, 1) == 5
    assert extrapolate(900, 1000, 100, 200) == 2000, "a constant part never makes it shrink"


def test_the_ledger_adds_up(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU: weights, activations, graphs and KV cache, each measured; a tenth is left."""
    spec = LLM(str(tiny_folder), load_format="dummy", device="cpu", num_blocks=8).engine
    gpu = Machine(torch.device("cuda"), torch.float32, 128, 8192)
    monkeypatch.setattr(memory, "free_memory", lambda device: 10 * memory.GIB)
    profile = Profile(activations=2 * memory.GIB, set_aside=memory.GIB)
    config = EngineConfig(max_seqs=10**7)
    plan = plan_memory(config, spec.checkpoint.spec, gpu, 128, profile)
    assert plan.num_blocks == int(7 * memory.GIB * 0.9) // plan.block_bytes
    lines = plan.ledger(5 * memory.GIB)
    assert [line.split()[0] for line in lines] == ["weights", "activations", "graphs", "KV", "left"]
    with pytest.raises(InputError, match=r"KV cache does not fit.*set num_blocks to"):
        plan_memory(EngineConfig(num_blocks=10**9), spec.checkpoint.spec, gpu, 128, profile)


def test_a_step_that_samples_nothing_is_waited_for_too(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the host would run ahead and write over inputs that the device has yet to read."""
    waited = list[int]()

    class Noted(HostCopy):
        def tolist(self) -> list[Any]:
            tokens = super().tolist()
            waited.append(len(tokens))
            return tokens

    monkeypatch.setattr(runner_module, "HostCopy", Noted)
    llm = LLM(str(tiny_folder), load_format="dummy", device="cpu", chunked_prefill=4)
    llm.generate([[3] * 11], SamplingParams(max_tokens=2, ignore_eos=True))
    assert waited == [0, 0, 1, 1]
