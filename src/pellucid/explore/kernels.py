"""Each GPU kernel alone: its time, the limit of this card, and the library that it competes with.

A kernel's work is counted, bytes that must cross memory at least once or floating-point operations,
and divided by its time; beside it stands the rate that the same card reached in the same run at
nothing but copying, or at one large matrix product. Launches are recorded in a graph that goes
through several copies of the operands, more than the cache holds, so that a time is neither the
cache's nor Python's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pellucid.attention import AttentionRow, AttentionShape, Heads, make_attention
from pellucid.kernels.kv import KVLayer
from pellucid.kernels.ops import TorchOps
from pellucid.kernels.triton import flash_hopper, gated, norm, rotary, sample
from pellucid.kernels.triton.decode import choose_splits, decode_attention, make_scratch
from pellucid.kernels.triton.flash import (
    choose_tiling,
    flash_attention,
    has_copy_engine,
    make_tiles,
)
from pellucid.kernels.triton.gemv import gemv

Launch = Callable[[], object]

DEVICE = torch.device("cuda")
PAGE = 128
_TARGET_MS = 40.0
"""Of device time behind each figure."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What this card reached in this run."""

    copy_bytes_s: float
    matmul_flop_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """One kernel on one shape. Rates are per second, of `unit`s (bytes or flop)."""

    kernel: str
    shape: str
    us: float
    samples_us: list[float]
    work: float
    unit: str
    rate: float
    limit_share: float
    rival: str = ""
    rival_us: float = 0.0


def gpu_limits() -> Limits:
    """A copy of two gigabytes by a kernel, and a product of 8192³ random bf16 numbers."""
    source = rand(2**30)
    target = torch.empty_like(source)
    left, right = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    copying = statistics.median(clock([lambda: torch.mul(source, 1, out=target)]))
    product = statistics.median(clock([lambda: left @ right]))
    return Limits(4 * len(source) / copying * 1e6, 2 * 8192**3 / product * 1e6)


def clock(launches: Sequence[Launch], repeats: int = 7) -> list[float]:
    """Microseconds of a launch, `repeats` samples; `launches` differ in their operands only."""
    for launch in launches[:2]:
        launch()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    launches[0]()
    end.record()
    torch.cuda.synchronize()
    once = max(begin.elapsed_time(end), 1e-3)
    count = max(len(launches), min(400, int(_TARGET_MS / repeats / once)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in islice(cycle(launches), count):
            launch()
    samples = []
    for _ in range(repeats + 1):
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end) * 1e3 / count)
    return samples[1:]


def measure_kernels(limits: Limits) -> Iterator[Timing]:
    """Every kernel on the shapes of an 8B model's layer and of a 0.6B one's."""
    for part in (norms, rotations, gates, gemvs, decoding, prefill, sampling):
        yield from part(limits)


def timing(
    name: str,
    shape: str,
    ours: Sequence[Launch],
    work: float,
    unit: str,
    limits: Limits,
    rival: str = "",
    theirs: Sequence[Launch] = (),
) -> Timing:
    samples = clock(ours)
    us = statistics.median(samples)
    limit = limits.copy_bytes_s if unit == "bytes" else limits.matmul_flop_s
    rate = work / us * 1e6
    rival_us = statistics.median(clock(theirs)) if theirs else 0.0
    return Timing(name, shape, us, samples, work, unit, rate, rate / limit, rival, rival_us)


def copies(nbytes: int) -> int:
    """How many sets of operands a cache of 60 MB cannot hold."""
    return max(1, min(64, 200_000_000 // nbytes))


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16)


def norms(limits: Limits) -> Iterator[Timing]:
    weight = torch.ones(4096, device=DEVICE)
    for tokens in (64, 8192):
        size = tokens * 4096 * 2
        sets = [(rand(tokens, 4096), rand(tokens, 4096)) for _ in range(copies(4 * size))]
        ours = [partial(norm.add_rms_norm, x, b, weight, 1e-5) for x, b in sets]
        theirs = [partial(TorchOps().add_norm, x, b, weight, 1e-5) for x, b in sets]
        shape = f"{tokens} x 4096"
        yield timing("add + RMSNorm", shape, ours, 4 * size, "bytes", limits, "torch", theirs)


def rotations(limits: Limits) -> Iterator[Timing]:
    heads, kv, dim = 16, 8, 128
    weights = (torch.ones(dim, device=DEVICE), torch.ones(dim, device=DEVICE))
    for tokens in (64, 8192):
        size_of_pool = (tokens // PAGE + 1, PAGE, kv, dim)
        pool = KVLayer(*(torch.zeros(size_of_pool, device=DEVICE).bfloat16() for _ in "kv"))
        slots = torch.arange(tokens, device=DEVICE)
        turn = (
            torch.rand(tokens, dim // 2, device=DEVICE),
            torch.rand(tokens, dim // 2, device=DEVICE),
        )
        size = tokens * (heads + 2 * kv) * dim * 2
        sets = [rand(tokens, heads + 2 * kv, dim) for _ in range(copies(2 * size))]
        more: Any = (weights, 1e-6, turn, pool, slots)
        ours = [partial(rotary.rotate_and_write, x, *more) for x in sets]
        theirs = [partial(TorchOps().rotate_and_write, x, *more) for x in sets]
        name = "QK-norm + RoPE + KV write"
        yield timing(
            name, f"{tokens} x 16/8 heads x 128", ours, 2 * size, "bytes", limits, "torch", theirs
        )


def gates(limits: Limits) -> Iterator[Timing]:
    for tokens in (64, 8192):
        size = tokens * 14336 * 2
        sets = [rand(tokens, 2 * 14336) for _ in range(copies(3 * size))]
        ours = [partial(gated.gated, x, "silu") for x in sets]
        theirs = [partial(TorchOps().gated, x, "silu") for x in sets]
        shape = f"{tokens} x 14336"
        yield timing("SiLU·mul", shape, ours, 3 * size, "bytes", limits, "torch", theirs)


def gemvs(limits: Limits) -> Iterator[Timing]:
    shapes = ((6144, 4096), (28672, 4096), (4096, 14336), (4096, 1024), (6144, 1024), (1024, 3072))
    for rows, columns in shapes:
        size = rows * columns * 2
        weights = [rand(rows, columns) for _ in range(copies(size))]
        for tokens in (1, 2):
            x = rand(tokens, columns)
            ours = [partial(gemv, x, w) for w in weights]
            theirs = [partial(F.linear, x, w) for w in weights]
            shape = f"{tokens} x {rows} x {columns}"
            yield timing("GEMV", shape, ours, size, "bytes", limits, "cuBLAS", theirs)


def decoding(limits: Limits) -> Iterator[Timing]:
    for rows, context, heads, kv in ((64, 4096, 32, 8), (256, 1024, 16, 8), (1, 4096, 32, 8)):
        yield decode_timing(rows, context, heads, kv, limits)


def decode_timing(rows: int, context: int, heads: int, kv: int, limits: Limits) -> Timing:
    """Decode attention of `rows` rows behind `context` tokens each; bytes of keys and values."""
    blocks = context // PAGE
    size = 2 * rows * context * kv * 128 * 2
    sets = [[rand(rows * blocks, PAGE, kv, 128) for _ in "kv"] for _ in range(copies(size))]
    tables = torch.randperm(rows * blocks, device=DEVICE, dtype=torch.int32).view(rows, blocks)
    firsts = torch.arange(rows, device=DEVICE, dtype=torch.int32)
    contexts = torch.full((rows,), context, device=DEVICE, dtype=torch.int32)
    sms = torch.cuda.get_device_properties(DEVICE).multi_processor_count
    splits = choose_splits(rows, kv, context, sms)
    scratch = make_scratch(rows, heads, 128, splits, DEVICE)
    q = rand(rows, heads, 128)
    out = torch.empty_like(q)
    ours = [
        partial(
            decode_attention,
            q,
            KVLayer(k, v),
            out,
            firsts,
            contexts,
            tables,
            scale=128**-0.5,
            num_splits=splits,
            scratch=scratch,
        )
        for k, v in sets
    ]
    dense = [[t.view(rows, context, kv, 128).transpose(1, 2) for t in pair] for pair in sets]
    packed = q.view(rows, kv, heads // kv, 128)
    theirs = [partial(F.scaled_dot_product_attention, packed, k, v) for k, v in dense]
    shape = f"{rows} rows x {context}, {heads}/{kv} heads x 128"
    return timing("decode attention", shape, ours, size, "bytes", limits, "SDPA, dense", theirs)


def prefill(limits: Limits) -> Iterator[Timing]:
    for kv in (32, 8):
        for tokens in (2048, 8192, 16384):
            for rival in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
                yield prefill_timing(tokens, 32, kv, limits, rival)
    # What long rows get where there is no Hopper, or with a window or soft-cap.
    yield prefill_timing(8192, 32, 8, limits, SDPBackend.FLASH_ATTENTION, anywhere=True)


def prefill_timing(
    tokens: int,
    heads: int,
    kv: int,
    limits: Limits,
    rival: SDPBackend,
    anywhere: bool = False,
) -> Timing:
    """Causal attention of one prompt, 128 wide; flop of the half that is not masked.

    By the kernel that the engine would take, or by the one that runs `anywhere`.
    """
    blocks = -(-tokens // PAGE)
    pool = KVLayer(*(rand(blocks, PAGE, kv, 128) for _ in "kv"))
    tables = torch.randperm(blocks, device=DEVICE, dtype=torch.int32)[None]
    q = rand(tokens, heads, 128)
    out = torch.empty_like(q)
    rows = [(0, tokens, tokens)]
    attend: Any = flash_attention
    block_m = choose_tiling(128, q.dtype, PAGE, has_copy_engine(DEVICE)).block_m
    if flash_hopper.fits(q, pool) and not anywhere:
        attend, block_m = flash_hopper.flash_attention_hopper, flash_hopper.BLOCK_M
    tiles = torch.tensor(make_tiles(rows, heads // kv, block_m), dtype=torch.int32, device=DEVICE)
    row = torch.tensor(rows, dtype=torch.int32, device=DEVICE)
    ours = partial(attend, q, pool, out, tiles, row, tables, scale=128**-0.5)
    k, v = (t.view(1, -1, kv, 128)[:, :tokens].transpose(1, 2) for t in (pool.keys, pool.values))
    dense = partial(
        F.scaled_dot_product_attention, q.transpose(0, 1)[None], k, v, is_causal=True,
        enable_gqa=kv != heads,
    )  # fmt: skip
    work = 4 * heads * 128 * tokens * tokens / 2
    shape = f"{tokens} tokens, {heads}/{kv} heads x 128"
    name = "FlashAttention-2" if rival == SDPBackend.FLASH_ATTENTION else "cuDNN"
    with sdpa_kernel(rival):
        ours_name = "flash attention" + (" (any GPU)" if anywhere else "")
        return timing(ours_name, shape, [ours], work, "flop", limits, name, [dense])


def attention_memory(name: str, tokens: int, heads: int = 32, kv: int = 8) -> int:
    """Bytes that one layer's causal attention takes beyond its operands and result, at its peak.

    name: an attention backend; a prompt of `tokens`, heads 128 wide, bf16.
    """
    shape = Heads(heads, kv, 128, PAGE)
    backend = make_attention(name, DEVICE, torch.bfloat16, shape)
    blocks = -(-tokens // PAGE)
    pool = KVLayer(*(rand(blocks, PAGE, kv, 128) for _ in "kv"))
    q = rand(tokens, heads, 128)
    rows = backend.prepare([AttentionRow(slice(0, tokens), tokens, list(range(blocks)))], DEVICE)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = backend.attend(q, pool, rows, AttentionShape(128**-0.5))
    peak = torch.cuda.max_memory_allocated()
    return int(peak - before) - out.numel() * out.element_size()


def sampling(limits: Limits) -> Iterator[Timing]:
    vocab = 128256
    for rows in (1, 64):
        sets = [rand(rows, vocab) for _ in range(copies(rows * vocab * 2))]
        size = rows * vocab * 2
        temperature = torch.ones(rows, device=DEVICE)
        keys = torch.arange(rows, device=DEVICE)
        top_k = torch.full((rows,), 50, dtype=torch.int32, device=DEVICE)
        top_p = torch.full((rows,), 0.9, device=DEVICE)
        min_p = torch.zeros(rows, device=DEVICE)
        ours = [partial(sample.choose, x, temperature, keys) for x in sets]
        theirs = [partial(torch.argmax, x, dim=-1) for x in sets]
        shape = f"{rows} x {vocab}"
        yield timing("Gumbel-max", shape, ours, size, "bytes", limits, "torch.argmax", theirs)
        ours = [
            partial(sample.choose_truncated, x, temperature, top_k, top_p, min_p, keys)
            for x in sets
        ]
        sort: Any = torch.sort
        theirs = [partial(sort, x, dim=-1) for x in sets]
        name = "top-k, top-p by pivot"
        yield timing(name, shape, ours, size, "bytes", limits, "torch.sort alone", theirs)


def table(limits: Limits, timings: Sequence[Timing]) -> str:
    """The report as lines to read."""
    lines = [
        f"limits of this run: copy {limits.copy_bytes_s / 1e12:.2f} TB/s, bf16 matrix product "
        f"{limits.matmul_flop_s / 1e12:.0f} TFLOP/s",
        f"{'kernel':26} {'shape':34} {'us':>9} {'rate':>14} {'of limit':>9}  beside",
    ]
    for t in timings:
        rate = f"{t.rate / 1e12:.2f} TB/s" if t.unit == "bytes" else f"{t.rate / 1e12:.0f} TFLOP/s"
        beside = f"{t.rival} {t.rival_us:.1f} us ({t.rival_us / t.us:.2f}x)" if t.rival else ""
        lines.append(
            f"{t.kernel:26} {t.shape:34} {t.us:9.1f} {rate:>14} {t.limit_share:9.0%}  {beside}"
        )
    return "\n".join(lines)


def record(limits: Limits, timings: Sequence[Timing]) -> dict[str, object]:
    return {"limits": asdict(limits), "kernels": [asdict(t) for t in timings]}
