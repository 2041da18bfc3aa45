"""The device's side of a step, as far as it can be seen on a CPU: inputs, lanes, conflicts, memory.

What runs on a GPU only is in tests/kernels and carries the mark `gpu`.
"""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid import LLM, EngineConfig, SamplingParams
from pellucid.attention import AttentionRow
from pellucid.errors import InputError
from pellucid.explore.work import GRAPHED_TOKENS
from pellucid.features import FEATURES, check_conflicts, excluded
from pellucid.kernels.decode import prepare
from pellucid.request import UNKNOWN, Row, StepPlan
from pellucid.runner import memory
from pellucid.runner.build import extrapolate
from pellucid.runner.inputs import make_batch
from pellucid.runner.machine import Machine
from pellucid.runner.memory import Profile, check_weights_fit, naming, plan_memory
from pellucid.runner.padded import (
    DECODE_ROWS,
    RAGGED_TOKENS,
    PaddedInputs,
    Shape,
    is_decode,
    padded_rows,
)
from pellucid.sampling.sampler import key

BLOCK = 4
CPU = torch.device("cpu")


class Untouched:
    """A backend that hands its rows back."""

    def prepare(self, rows: list[AttentionRow], device: torch.device) -> list[AttentionRow]:
        return rows


def row(seq_id: int, start: int, tokens: list[int], **more: object) -> Row:
    end = start + len(tokens)
    fields = {
        "blocks": [(seq_id * 31 + i * 7) % 97 for i in range(-(-end // BLOCK))],
        "samples": True,
        "scores_prompt": False,
        "params": SamplingParams(temperature=0.5 + seq_id),
        "seed": seq_id * 1000 - 7,
        "history": [],
        "num_prompt": end,
        **more,
    }
    return Row(seq_id=seq_id, tokens=tokens, start=start, **fields)  # type: ignore[arg-type]


ROWS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(shape=ROWS)
def test_a_ragged_batch_is_what_a_loop_would_make(
    shape: list[tuple[int, int, bool, bool]],
) -> None:
    rows = [
        row(i, start, list(range(100 * i, 100 * i + n)), samples=samples, scores_prompt=scores)
        for i, (start, n, samples, scores) in enumerate(shape)
    ]
    rows[0].tokens[-1] = UNKNOWN
    sampled = torch.tensor([5, 6, 7])
    batch = make_batch(StepPlan(rows), BLOCK, Untouched(), sampled, {0: 2})  # type: ignore[arg-type]
    tokens, positions, slots, keep = [], [], [], []
    for r in rows:
        for i, token in enumerate(r.tokens):
            position = r.start + i
            if r.samples and i == len(r.tokens) - 1:
                keep.append(len(tokens))
            tokens.append(7 if token == UNKNOWN else token)
            positions.append(position)
            slots.append(r.blocks[position // BLOCK] * BLOCK + position % BLOCK)
    assert batch.tokens.tolist() == tokens
    assert batch.positions.tolist() == positions
    assert batch.slots.tolist() == slots
    if any(r.scores_prompt for r in rows):
        assert batch.keep is None, "every token's logits are wanted"
    elif batch.keep is None:
        assert keep == list(range(len(tokens)))
    else:
        assert batch.keep.tolist() == keep
        alone = [(r.end, r.blocks) for r in rows if r.samples]
        assert [(k.context, k.blocks) for k in batch.kept_rows or []] == alone


class Tiled(Untouched):
    """A backend whose tiles are two queries of a row."""

    def tiles_of(self, rows: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
        tiles = [(r, q) for r, (_, num_new, _) in enumerate(rows) for q in range(0, num_new, 2)]
        return [(len(tiles), 0), *tiles]

    def most_tiles(self, num_tokens: int, num_rows: int) -> int:
        return 1 + num_tokens // 2 + num_rows


SPARE = 999


def padded_inputs(max_rows: int = 6, max_tokens: int = 70) -> PaddedInputs:
    return PaddedInputs(max_rows, max_tokens, 10, BLOCK, SPARE, Tiled(), CPU)  # type: ignore[arg-type]


def test_sizes_waste_little() -> None:
    for num_rows in range(1, 600):
        size = padded_rows(num_rows)
        assert size in DECODE_ROWS and num_rows <= size
        assert size - num_rows <= max(4, num_rows // 2)


@settings(max_examples=40)
@given(steps=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), max_size=6))
def test_decode_inputs_follow_rows_that_come_go_and_grow(steps: list[list[int]]) -> None:
    """Whatever was there before, a step finds its own rows, and padding that touches nobody."""
    inputs = padded_inputs()
    lengths = dict.fromkeys(range(10), 3)
    for present in steps:
        rows = []
        for seq_id in present:
            lengths[seq_id] += 1
            rows.append(row(seq_id, lengths[seq_id] - 1, [seq_id + 40]))
        shape = inputs.shape_of(rows)
        assert shape == Shape(padded_rows(len(rows)))
        inputs.fill(rows, {}, shape)
        got = prepare(
            inputs.tokens(shape),
            inputs.positions(shape),
            inputs.tables[: shape.rows],
            inputs.seeds[: shape.rows],
            torch.zeros(6, dtype=torch.int64),
            BLOCK,
        )
        for i, r in enumerate(rows):
            assert got.tokens[i] == r.tokens[0]
            assert got.contexts[i] == r.end
            assert got.slots[i] == r.blocks[-1] * BLOCK + r.start % BLOCK
            assert got.keys[i] == key(r.seed, r.end)
            assert inputs.tables[i, : len(r.blocks)].tolist() == r.blocks
            assert inputs.temperatures[i] == r.params.temperature
        for i in range(len(rows), shape.rows):
            assert got.contexts[i] == 1 and got.slots[i] == SPARE * BLOCK
            assert inputs.temperatures[i] == 0


@settings(max_examples=60)
@given(steps=st.lists(ROWS, min_size=1, max_size=4))
def test_ragged_inputs_say_what_the_batch_would(
    steps: list[list[tuple[int, int, bool, bool]]],
) -> None:
    """Row by row as `make_batch` has it; what is padding lives in the spare block."""
    inputs = padded_inputs()
    for step, shapes in enumerate(steps):
        rows = [
            row(10 * step + i, start, list(range(100 * i, 100 * i + n)), samples=samples)
            for i, (start, n, samples, _) in enumerate(shapes)
        ]
        if is_decode(rows):
            continue
        rows[0].tokens[-1] = UNKNOWN
        places = {rows[0].seq_id: 2}
        shape = inputs.shape_of(rows)
        assert shape is not None and shape.tokens in RAGGED_TOKENS
        inputs.fill(rows, places, shape)
        got, num_tokens = inputs.ragged(shape), sum(len(r.tokens) for r in rows)
        sampled = torch.tensor([5, 6, 7])
        want = make_batch(StepPlan(rows), BLOCK, Untouched(), sampled, places)  # type: ignore[arg-type]
        want_tokens = want.tokens.tolist()
        want_tokens[len(rows[0].tokens) - 1] = -3  # looked up on the device
        assert got.tokens.tolist() == want_tokens + [0] * (shape.tokens - num_tokens)
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
        for i, r in enumerate(rows):
            last = sum(len(other.tokens) for other in rows[: i + 1]) - 1
            assert (got.lasts[i], got.ends[i]) == (last, r.end - 1)
            assert inputs.tables[i, : len(r.blocks)].tolist() == r.blocks
            if got.rows.contexts[i]:
                assert len(r.tokens) == 1 and got.rows.contexts[i] == r.end
                seen[int(got.rows.firsts[i])] += 1
            else:
                assert got.rows.rows[i].tolist() == [last + 1 - len(r.tokens), len(r.tokens), r.end]
        assert set(seen.values()) == {1}, "every token has its attention once"
        for i in range(len(rows), shape.rows):
            assert got.rows.contexts[i] == got.lasts[i] == got.ends[i] == 0
            assert set(inputs.tables[i].tolist()) == {SPARE}
        assert set(inputs.tables[inputs.capacity].tolist()) == {SPARE}


def test_the_model_knows_which_steps_are_replayed() -> None:
    assert RAGGED_TOKENS[-1] == GRAPHED_TOKENS


def test_steps_that_are_not_padded() -> None:
    inputs = padded_inputs(max_tokens=70)
    assert inputs.shape_of([row(0, 0, [1] * 65)]) == Shape(1, 128)
    assert inputs.shape_of([row(0, 0, [1] * 200)]) is None, "more than a step can have"
    assert inputs.shape_of([row(0, 0, [1, 2], scores_prompt=True)]) is None
    assert inputs.shape_of([row(0, 0, [1], samples=False)]) == Shape(1, 16)


def test_the_most_rows_a_step_can_have() -> None:
    assert padded_inputs(max_rows=DECODE_ROWS[-1]).capacity == DECODE_ROWS[-1]


def test_every_shape_of_a_step_can_be_captured_beforehand() -> None:
    inputs = padded_inputs()
    shapes = inputs.shapes()
    assert len(set(shapes)) == len(shapes)
    for num_rows in range(1, 7):
        for num_tokens in range(num_rows, 71):
            first = row(0, 0, [1] * (num_tokens - num_rows + 1))
            rows = [first, *(row(i, 3, [1]) for i in range(1, num_rows))]
            shape = inputs.shape_of(rows)
            assert shape in shapes
            inputs.fill(rows, {}, shape)
    assert set(inputs.largest()) <= set(shapes)


def test_a_token_of_the_step_before_is_looked_up() -> None:
    inputs, shape = padded_inputs(2), Shape(2)
    inputs.fill([row(3, 5, [UNKNOWN]), row(4, 2, [8])], {3: 1}, shape)
    got = prepare(
        inputs.tokens(shape),
        inputs.positions(shape),
        inputs.tables[:2],
        inputs.seeds[:2],
        torch.tensor([10, 11]),
        BLOCK,
    )
    assert got.tokens.tolist() == [11, 8]


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
    options: dict[str, str], words: str, tiny_folder: Path
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
    profile = Profile(activations=2 * memory.GIB, graphs=memory.GIB)
    config = EngineConfig(max_seqs=10**7)
    plan = plan_memory(config, spec.checkpoint.spec, gpu, 128, profile)
    assert plan.num_blocks == int(7 * memory.GIB * 0.9) // plan.block_bytes
    lines = plan.ledger(5 * memory.GIB)
    assert [line.split()[0] for line in lines] == ["weights", "activations", "graphs", "KV", "left"]
    with pytest.raises(InputError, match=r"KV cache does not fit.*set num_blocks to"):
        plan_memory(EngineConfig(num_blocks=10**9), spec.checkpoint.spec, gpu, 128, profile)
