"""The roofline model: what a step needs and takes, against numbers worked out by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.cli import main
from pellucid.errors import InputError
from pellucid.explore.hardware import Reached
from pellucid.explore.peaks import find_hardware
from pellucid.explore.roofline import MODELLED, Budget, Hardware, budget, queued
from pellucid.explore.sheets import PEAKS
from pellucid.explore.steps import cut, num_tokens, positions_read, positions_seen
from pellucid.explore.work import (
    GRAPHED_TOKENS,
    load_of,
    modelled_kv_bytes,
    num_layer_weights,
    weight_bytes,
)
from pellucid.explore.workload import Choices, Workload
from pellucid.model.spec import ModelSpec
from pellucid.stages import STAGES

LLAMA_8B = ModelSpec(
    family="llama", vocab_size=128_256, hidden_size=4096, intermediate_size=14_336,
    num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, context_length=131_072,
    norm_eps=1e-5, rope_theta=5e5,
)  # fmt: skip
WINDOWED = replace(LLAMA_8B, sliding_window=4096)
IDEAL = Hardware(name="ideal", flop_s=1e15, bytes_s=1e12)
"""Nothing but peaks: no launches, no host."""
PLAIN = Choices(overlap="off", gemv="off", chunked_prefill=0)


def decode(length: int, spec: ModelSpec = LLAMA_8B, batch: int = 1, **choices: Any) -> Budget:
    work = Workload(phase="decode", length=length, batch=batch)
    return budget(spec, work, replace(PLAIN, **choices), IDEAL)


def prefill(length: int, prefix: int = 0, batch: int = 1, **choices: Any) -> Budget:
    work = Workload(phase="prefill", length=length, prefix=prefix, batch=batch)
    return budget(LLAMA_8B, work, replace(PLAIN, **choices), IDEAL)


def test_the_sizes_of_llama_8b() -> None:
    assert num_layer_weights(LLAMA_8B) == 32 * (
        2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    )
    assert num_layer_weights(LLAMA_8B) == 6_979_321_856
    assert modelled_kv_bytes(LLAMA_8B, Choices()) == 131_072
    assert weight_bytes(LLAMA_8B, Choices()) == 2 * (6_979_321_856 + 128_256 * 4096)


def test_stages_are_those_that_the_clock_knows() -> None:
    assert set(MODELLED) <= set(STAGES)
    assert tuple(decode(7).stages) == MODELLED


def test_a_decode_step_by_hand() -> None:
    stages = decode(1000).stages
    assert stages["attention"].flops == 32 * 4 * 32 * 128 * 1000
    assert stages["attention"].bytes == 131_072 * 1000 + 32 * 2 * 4096 * 2
    assert stages["qkv"].flops == 32 * 2 * 4096 * (4096 + 2 * 1024)
    assert stages["o_proj"].bytes == 32 * (4096 * 4096 * 2 + (4096 + 4096) * 2)
    assert stages["lm_head"].bytes == 128_256 * 4096 * 2 + 4096 * 2 + 128_256 * 4
    assert stages["mlp"].seconds == pytest.approx(stages["mlp"].bytes / 1e12)
    assert {stages[s].bound for s in ("qkv", "attention", "mlp", "lm_head")} == {"bandwidth"}


def test_heads_that_share_keys_divide_the_bytes_and_not_the_flops() -> None:
    alone, shared = decode(4096, replace(LLAMA_8B, num_kv_heads=32)), decode(4096)
    ends = 32 * 2 * 4096 * 2
    read = [b.stages["attention"].bytes - ends for b in (alone, shared)]
    assert read[0] == 4 * read[1]
    assert alone.stages["attention"].flops == shared.stages["attention"].flops


def test_a_causal_prompt_is_half_a_square() -> None:
    """In 31 layers; the last one computes only the token that is sampled from."""
    length = 50_000  # whose square is beyond 32 bits
    per_pair = 4 * 4096
    seen = 31 * (length * (length + 1) // 2) + length
    assert prefill(length).stages["attention"].flops == per_pair * seen


def test_a_chunk_sees_its_prefix() -> None:
    per_pair = 4 * 4096
    chunk, whole = prefill(1000, prefix=2000), prefill(3000)
    pairs = 1000 * 2000 + 1000 * 1001 // 2
    assert chunk.stages["attention"].flops == per_pair * (31 * pairs + 3000)
    chunked = prefill(3000, chunked_prefill=1000)
    assert chunked.stages["attention"].flops == whole.stages["attention"].flops
    assert chunked.stages["mlp"].bytes > whole.stages["mlp"].bytes  # weights once a chunk


def test_tiles_write_their_output_and_no_scores() -> None:
    length, a = 8192, 2
    tiled = prefill(length).stages["attention"].bytes
    assert tiled == 31 * (2 * length * 4096 * a + length * 4096) + 2 * 4096 * a + length * 4096
    scores = 31 * 32 * length * length
    assert prefill(length, attention="naive").stages["attention"].bytes > scores * (8 * 4 + 4 * a)


def test_the_head_is_computed_once_for_each_prompt() -> None:
    head = 2 * 128_256 * 4096
    assert prefill(5000, batch=3).stages["lm_head"].flops == 3 * head
    assert prefill(5000, batch=3, chunked_prefill=512).stages["lm_head"].flops == 3 * head


def test_without_a_kv_cache_a_step_is_a_whole_prompt() -> None:
    recomputed, prompt = decode(2048, kv_cache="off"), prefill(2048)
    assert recomputed.stages == prompt.stages
    assert recomputed.seconds > 2 * decode(2048).seconds


def test_drafts_are_verified_in_one_step() -> None:
    one, five = decode(1000), decode(1000, drafts=4, acceptance=0.5)
    assert five.tokens_per_row == pytest.approx((1 - 0.5**5) / (1 - 0.5))
    assert five.stages["mlp"].flops == 5 * one.stages["mlp"].flops
    assert five.seconds < 1.1 * one.seconds  # the weights are read once
    assert decode(1000, drafts=4, acceptance=0.5, kv_cache="off").tokens_per_row == 1


@pytest.mark.parametrize(
    ("graphs", "launch_s", "per_launch"),
    [("on", 5e-3, 1e-6), ("off", 5e-3, 5e-3), ("off", 5e-6, 1e-6)],
    ids=["recorded", "slower than the device", "hidden behind it"],
)
def test_launches_cost_what_is_seen_of_them(
    graphs: str, launch_s: float, per_launch: float
) -> None:
    machine = replace(IDEAL, launch_s=launch_s, library_s=launch_s, node_s=1e-6)
    work = Workload(phase="decode", length=1)
    found = budget(LLAMA_8B, work, replace(PLAIN, graphs=graphs), machine).stages["norm"]
    assert found.launches == 2 * 32 + 1
    assert found.launch_s == pytest.approx(65 * per_launch, rel=0.02)
    assert found.bound == "launch"


@pytest.mark.parametrize(
    ("length", "graphs", "per_launch"),
    [(GRAPHED_TOKENS, "on", 1e-6), (GRAPHED_TOKENS, "off", 1.0), (GRAPHED_TOKENS + 1, "on", 1.0)],
    ids=["recorded", "not recorded", "too long for that"],
)
def test_so_do_those_of_a_prompt(length: int, graphs: str, per_launch: float) -> None:
    """On a host that takes a second for each."""
    machine = replace(IDEAL, launch_s=1.0, library_s=1.0, node_s=1e-6)
    work = Workload(phase="prefill", length=length)
    found = budget(LLAMA_8B, work, replace(PLAIN, graphs=graphs), machine).stages["norm"]
    assert found.launch_s == pytest.approx(65 * per_launch, rel=0.02)


def launched(work: Workload, device: str = "cuda", **choices: Any) -> dict[str, float]:
    """How many products of qkv, one a layer and step, get onto the device in which way."""
    load = load_of(LLAMA_8B, work, replace(PLAIN, **choices), device)
    ways: defaultdict[str, float] = defaultdict(float)
    for group, count in load.groups.items():
        ways[group.launching] += count * sum(work.stage == "qkv" for work in group.works)
    return {way: count for way, count in ways.items() if count}


def test_steps_of_up_to_4096_tokens_are_replayed() -> None:
    """32 layers; a step is replayed or not, whatever the others of the same prompts are."""

    def prompts(length: int, batch: int = 1, **choices: Any) -> dict[str, float]:
        return launched(Workload(phase="prefill", length=length, batch=batch), **choices)

    def tokens(length: int, batch: int = 1, **choices: Any) -> dict[str, float]:
        return launched(Workload(phase="decode", length=length, batch=batch), **choices)

    assert prompts(4096) == {"ready": 32}
    assert prompts(4097) == {"behind": 32}
    assert prompts(4096, graphs="off") == {"behind": 32}
    assert prompts(4096, attention="sdpa") == {"behind": 32}
    # 10,000 = 8192 + 1808, and 3 · 2048 = 4096 + 2048
    assert prompts(10_000, chunked_prefill=8192) == {"behind": 32, "ready": 32}
    assert prompts(2048, batch=3, chunked_prefill=4096) == {"ready": 2 * 32}
    assert prompts(2048, batch=3) == {"behind": 32}
    # Stored tokens do not count; those computed again do, and drafts: 512 · (1 + 7) = 4096.
    assert tokens(100_000, batch=256) == {"ready": 32}
    assert tokens(9, batch=512, drafts=7) == {"ready": 32}
    assert tokens(9, batch=513, drafts=7) == {"behind": 32}
    assert tokens(4096, kv_cache="off") == {"ready": 32}
    assert tokens(4097, kv_cache="off") == {"behind": 32}
    assert tokens(64, graphs="off") == {"behind": 32}


@pytest.mark.parametrize(
    ("work", "device", "changes", "chains"),
    [
        (Workload(phase="decode", length=255), "cuda", {}, 1),
        (Workload(phase="decode", length=256), "cuda", {}, 2),
        (Workload(phase="decode", length=256, batch=16), "cuda", {}, 2),  # 16 · 8 heads
        (Workload(phase="decode", length=256, batch=17), "cuda", {}, 1),
        (Workload(phase="decode", length=256), "cuda", {"attention": "sdpa"}, 1),
        (Workload(phase="decode", length=256), "cpu", {}, 1),
        (Workload(phase="prefill", length=2), "cuda", {}, 3),
        (Workload(phase="prefill", length=2), "cpu", {}, 1),
    ],
)
def test_attention_waits_for_chains_of_reads(
    work: Workload, device: str, changes: dict[str, Any], chains: int
) -> None:
    """In a graph each takes as long as `attention_launches` kernels, beside its roof."""
    load = load_of(LLAMA_8B, work, replace(PLAIN, **changes), device)
    first_layer = next(g.works for g in load.groups if any(w.stage == "qkv" for w in g.works))
    assert [w.chains for w in first_layer if w.stage == "attention"] == [chains]


def test_a_chain_takes_so_many_launches() -> None:
    """256 stored positions: two chains in each of 32 layers."""
    machine = replace(IDEAL, node_s=1e-3, attention_launches=1.5)
    work = Workload(phase="decode", length=256)
    assert budget(LLAMA_8B, work, PLAIN, machine).stages["attention"].launch_s == pytest.approx(
        32 * 2 * 1.5 * 1e-3
    )


def test_a_library_has_its_own_cost_of_a_kernel() -> None:
    """Four products in each of 32 layers, and the head."""
    work = Workload(phase="prefill", length=64)
    stages = budget(LLAMA_8B, work, PLAIN, replace(IDEAL, library_node_s=1e-3)).stages
    assert {s: round(1e3 * c.launch_s) for s, c in stages.items() if c.launch_s} == {
        "qkv": 32, "o_proj": 32, "mlp": 64, "lm_head": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "kv_cache", "way"),
    [("decode", "on", "ready"), ("decode", "off", "at once"), ("prefill", "on", "at once")],
)
def test_on_a_cpu_kernels_of_decode_steps_stand_ready(phase: Any, kv_cache: str, way: str) -> None:
    work = Workload(phase=phase, length=64)
    assert launched(work, "cpu", kv_cache=kv_cache) == {way: 32}


seconds = st.floats(0, 1)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=20))
def test_a_queue_takes_as_long_as_the_slower_of_host_and_device(
    given: list[tuple[float, float]],
) -> None:
    device, host = (list(column) for column in zip(*given, strict=True))
    laps = queued(device, host)
    assert sum(laps) == pytest.approx(max(sum(device), sum(host)))
    assert all(lap >= own - 1e-12 for lap, own in zip(laps, device, strict=True))
    assert queued(device, [0.0] * len(host)) == pytest.approx(device)
    assert queued([0.0] * len(device), host) == pytest.approx(host)


def test_fusing_saves_launches_and_traffic() -> None:
    fused, plain = decode(64), decode(64, fused_kernels="off")
    for stage in ("norm", "kv_write", "mlp"):
        assert fused.stages[stage].launches < plain.stages[stage].launches
        assert fused.stages[stage].bytes < plain.stages[stage].bytes
    assert decode(64, gemv="on").stages["norm"].launches == 0


QWEN_06B = replace(
    LLAMA_8B, vocab_size=151_936, hidden_size=1024, intermediate_size=3072, num_layers=28,
    num_heads=16, qk_norm=True,
)  # fmt: skip
GEMMA_270M = replace(
    LLAMA_8B, vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_layers=18,
    num_heads=4, num_kv_heads=1, head_dim=256, qk_norm=True, sandwich_norms=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "batch", "launches"),
    [
        # One or two tokens: everything is inside the four products of a layer and the head's.
        (LLAMA_8B, 1, (0, 32, 32, 2 * 32, 1)),
        (LLAMA_8B, 2, (0, 32, 32, 2 * 32, 1)),
        # Of 4096 · 6144, 4096 · 4096, 4096 · 28,672, 14,336 · 4096 and 4096 · 128,256 elements
        # only the second are no more than 2^24 = 4096 · 4096. So o_proj alone adds its branch and
        # leaves the norm open, which gate and up then take in a launch; their product, the gate
        # and down are three more. The sum behind the last down, its rounding and the norm count
        # as the head's.
        (LLAMA_8B, 3, (32, 32, 32, (1 + 3) * 32, 2 + 1 + 1)),
        (LLAMA_8B, 8, (32, 32, 32, (1 + 3) * 32, 2 + 1 + 1)),
        # All of a layer's are small (the largest is 1024 · 6144), the head is not.
        (QWEN_06B, 2, (0, 28, 28, 2 * 28, 1)),
        (QWEN_06B, 8, (0, 28, 28, 2 * 28, 1 + 1)),
        # Norms behind o and down stand between them and the sum, which is then the next norm's;
        # the last one is open, its sum and rounding are two launches.
        (GEMMA_270M, 1, (2 * 18, 18, 2 * 18, 3 * 18, 2 + 1)),
        (GEMMA_270M, 8, (2 * 18, 18, 2 * 18, 3 * 18, 2 + 1 + 1)),
    ],
)
def test_gemv_takes_in_what_stands_around_the_products_it_makes(
    spec: ModelSpec, batch: int, launches: tuple[int, ...]
) -> None:
    """Two norms a layer and one at the end, products, gates."""
    stages = decode(64, spec, batch, gemv="on").stages
    assert (
        tuple(stages[s].launches for s in ("norm", "qkv", "o_proj", "mlp", "lm_head")) == launches
    )


def test_gemv_takes_them_in_fused_or_not() -> None:
    """What it leaves takes five launches for a norm and two for a gate where not fused."""
    one, four = (decode(64, batch=n, gemv="on", fused_kernels="off").stages for n in (1, 4))
    assert one["norm"].launches == 0 and one["mlp"].launches == 2 * 32
    assert four["norm"].launches == 5 * 32 and four["mlp"].launches == (5 + 1 + 2 + 1) * 32


def test_beyond_eight_tokens_no_product_is_of_gemv() -> None:
    for spec in (LLAMA_8B, QWEN_06B, GEMMA_270M):
        assert decode(64, spec, 9, gemv="on").stages == decode(64, spec, 9, gemv="off").stages


def test_the_bytes_of_four_tokens_by_hand() -> None:
    """Llama-8B, see above: every norm but the ones that gate and up take adds a branch; those and
    the head's are alone, from bf16 to bf16."""
    stages = decode(64, batch=4, gemv="on").stages
    elements = 4 * 4096
    assert stages["norm"].bytes == 32 * elements * (2 * 4 + 2 * 2)
    products = 2 * (4096 * 28_672 + 14_336 * 4096) + 4 * 2 * (4096 + 28_672 + 14_336 + 4096)
    assert stages["mlp"].bytes == 32 * (products + elements * (2 + 2) + 4 * 14_336 * 3 * 2)
    head = 2 * 4096 * 128_256 + elements * 2 + 4 * 128_256 * 4
    added, rounded, normed = 4 + 2 + 4, 4 + 2, 2 + 2
    assert stages["lm_head"].bytes == head + elements * (added + rounded + normed)


def test_a_norm_behind_a_matrix_adds_nothing() -> None:
    """Gemma at batch 1: bf16 in and out in the stages of o and down; the sum is the next norm's."""
    stages = decode(64, GEMMA_270M, gemv="on").stages
    product = 2 * (4 * 256 * 640) + 2 * (4 * 256 + 640)
    assert stages["o_proj"].bytes == 18 * (product + 640 * (2 + 2))
    assert stages["norm"].bytes == 2 * 18 * 640 * (2 * 4 + 2 * 2)


def test_only_a_library_fills_tiles() -> None:
    """Four rows of Llama-8B where a product costs four rows more than it has: not o_proj's."""
    machine = replace(IDEAL, gemm_rows=4)
    work = Workload(phase="decode", length=64, batch=4)
    stages = budget(LLAMA_8B, work, replace(PLAIN, gemv="on"), machine).stages
    assert stages["qkv"].compute_s == pytest.approx(32 * 2 * (4 + 4) * 4096 * 6144 / 1e15)
    assert stages["o_proj"].compute_s == pytest.approx(32 * 2 * 4 * 4096 * 4096 / 1e15)


def test_a_host_behind_the_device_costs_nothing() -> None:
    work, machine = Workload(phase="decode", length=64), replace(IDEAL, host_s=1e-3)
    serial, hidden = (
        budget(LLAMA_8B, work, replace(PLAIN, overlap=o), machine) for o in ("off", "on")
    )
    assert hidden.stages["host_gap"].seconds == 0.0
    assert serial.seconds - hidden.seconds == pytest.approx(1e-3)
    assert serial.stages["host_gap"].bound == "host"


def test_the_share_of_a_windowed_model_is_bounded() -> None:
    assert decode(10**6, WINDOWED).share() == decode(4096, WINDOWED).share()
    assert decode(4095, WINDOWED).share() < decode(4096, WINDOWED).share()


@given(length=st.integers(1, 300_000), more=st.integers(1, 100_000), batch=st.integers(1, 64))
def test_the_share_of_full_attention_rises_with_length(length: int, more: int, batch: int) -> None:
    assert decode(length, batch=batch).share() < decode(length + more, batch=batch).share()
    assert prefill(length).share() <= prefill(length + more).share() * (1 + 1e-12) + 0.01


@given(new=st.integers(1, 40), prefix=st.integers(0, 60), window=st.integers(0, 50))
def test_positions_are_counted_as_one_would_by_hand(new: int, prefix: int, window: int) -> None:
    sees = [range(max(0, i + 1 - (window or i + 1)), i + 1) for i in range(prefix, prefix + new)]
    assert positions_seen(new, prefix, window) == sum(map(len, sees))
    assert positions_read(new, prefix, window) == len(set().union(*sees))


@given(length=st.integers(1, 50), batch=st.integers(1, 5), chunk=st.integers(1, 60))
def test_cutting_loses_no_token(length: int, batch: int, chunk: int) -> None:
    work, end = Workload(phase="prefill", length=length, batch=batch), length * batch
    steps = [cut(begin, min(begin + chunk, end), work) for begin in range(0, end, chunk)]
    assert all(num_tokens(rows) <= chunk for rows in steps)
    rows = [row for step in steps for row in step]
    assert num_tokens(rows) == end
    assert sum(row.num_sampled for row in rows) == batch
    assert sum(positions_seen(r.new, r.prefix) for r in rows) == batch * positions_seen(length, 0)


@pytest.mark.parametrize("name", PEAKS)
def test_every_machine_has_a_source_and_plausible_peaks(name: str) -> None:
    peak, machine = PEAKS[name], find_hardware(name)
    assert peak.source and machine.kind == "spec"
    assert peak.flop_s_32 <= peak.flop_s_16 <= peak.flop_s_8
    assert 1 < machine.flop_s / machine.bytes_s < 1000
    assert find_hardware(name, 4.0).flop_s == peak.flop_s_32


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("H100", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("GeForce RTX 4090", "rtx4090"),
        ("M4 Max", "m4-max"),
        ("Apple M1", "m1"),
        ("AMD MI300X", "mi300x"),
    ],
)
def test_a_machine_may_be_written_as_people_do(written: str, key: str) -> None:
    assert find_hardware(written) == find_hardware(key)


def test_hardware_is_this_machine_unless_named(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Reached(name="Abacus", device="cpu", element_bytes=4, flop_s=2e9, bytes_s=1e9)
    monkeypatch.setattr("pellucid.cli.hardware.measure_here", lambda spec: here)
    argv = ["model", "--model", str(tiny_folder), "--json", "-"]
    assert main(argv) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["hardware"]["name"] == "Abacus"
    assert record["choices"]["activation_bytes"] == record["choices"]["kv_bytes"] == 4.0
    assert main([*argv[:-2], "--activation-bytes", "2"]) == 0
    assert "0.002 TFLOP/s and 1 GB/s, measured just now" in capsys.readouterr().out


def test_all_machines_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossover", "--hardware", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(PEAKS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Workload(phase="decode", length=0), "length must be at least 1, not 0"),
        (lambda: Workload(phase="train", length=1), "phase must be decode or prefill"),  # type: ignore[arg-type]
        (lambda: Workload(phase="decode", length=9, prefix=1), "prefix is for prefill"),
        (lambda: Choices(acceptance=1.5), "acceptance must be at most 1, not 1.5"),
        (lambda: Choices(attention="fast"), "attention must be one of flash, sdpa, naive"),
        (lambda: find_hardware("A100"), "hardware 'A100' is one of a100-40, a100-80"),
        (lambda: find_hardware("h10"), "Did you mean h100?"),
        (lambda: find_hardware("abacus"), "hardware 'abacus' is not known. pellucid model"),
    ],
)
def test_bad_input_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_model_needs_no_weights(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["model", "--model", str(tiny_folder), "--hardware", "h100", "--lengths", "1,64"]
    assert main(argv) == 0
    assert "not validated here" in capsys.readouterr().out
    assert main([*argv, "--json", "-", "--weight-bytes", "0.5625"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "spec"
    assert record["kv_bytes_per_token"] > 0
    assert [row["length"] for row in record["lengths"]] == [1, 64]
    for row in record["lengths"]:
        assert set(row["stages"]) == set(MODELLED)
        assert sum(s["ms"] for s in row["stages"].values()) == pytest.approx(row["ms"])
        assert row["lo"] <= row["ms"] <= row["hi"]


def test_model_refuses_what_is_no_calibration(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = str(tiny_folder / "config.json")
    assert main(["model", "--model", str(tiny_folder), "--hardware", wrong]) == 2
    assert "no file of pellucid calibrate" in capsys.readouterr().err
