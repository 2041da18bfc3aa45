"""docs/results.md: every recorded speed as a table, made from bench/results by `bench/pages.py`."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from pellucid.explore import ablate_table
from pellucid.model.folder import spec_of_folder
from pellucid.model.spec import ModelSpec, expected_weights

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
GPU, ABLATION, PEERS, CACHE = "gpu-h100.json", "ablate-h100.json", "cpu-peers.json", "kv-cache.json"


def load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return record


def page() -> str:
    """The whole page."""
    return f"""# Results

<!-- made by: python bench/pages.py -->

Every figure is made by the command beside it and kept, with environment and raw samples, in
[`bench/results/`](../bench/results). A cell holds the median of the repeats, with the smallest and
the largest in brackets. The CPU is a shared and noisy machine, so compare only what stands side by
side within one table.

## On a CPU, beside llama.cpp and transformers

{cpu_section()}

## What the KV cache buys

{cache_section()}

## On one GPU

{gpu_section()}

## What each switch buys

{ablation_section()}
"""


def cpu_section() -> str:
    peers = load(PEERS)
    return f"""SmolLM2-135M (Q4_1), default settings, {peers["settings"]["repeats"]} rounds in
turns, on {peers["environment"]["cores"]} cores of an {peers["environment"]["cpu"]}
({peers["environment"]["cpu_capability"]}); `bench/cpu_peers.py`, {source(PEERS)}:

{peers_table(peers)}

Memory read at {peers["probes"]["read_gb_s"]["median"]:.1f} GB/s in the same run, which would allow
{peers["decode_limit_tok_s"]["pellucid"]:.0f} tokens/s of decoding. llama.cpp rounds activations to
8 bits before it multiplies, which takes fewer instructions; here they stay in fp32, and the tokens
are those of transformers."""


def cache_section() -> str:
    cache = load(CACHE)
    return f"""Milliseconds per new token behind a sequence of that length, fp32;
`bench/kv_cache.py`, {source(CACHE)}:

{cache_table(cache)}

{exponents(cache)}"""


def gpu_section() -> str:
    record = load(GPU)
    device, limits = record["environment"]["gpu"], record["limits"]
    return f"""One {device}, random weights of the shapes in `bench/models`, bf16;
`bench/gpu.py`, {source(GPU)}. In the same run the card copied
{limits["copy_bytes_s"] / 1e12:.2f} TB/s and multiplied matrices at
{limits["matmul_flop_s"] / 1e12:.0f} TFLOP/s.

{gpu_table(record["samples"], limits)}

Memory that the attention of one layer takes beyond its operands, 32 heads of 128: naive grows with
the square of the length, flash takes none.

{memory_table(record["samples"])}"""


def ablation_section() -> str:
    ablation = load(ABLATION)
    controls = ablation["controls"]
    return f"""One {ablation["environment"]["gpu"]}, Qwen3-0.6B shape: the default configuration
without one switch, for {ablation["workload"]["num_prompts"]} prompts at once and for one;
`pellucid ablate --device cuda`, {source(ABLATION)}. A time of 2.00× means that the same work takes
twice as long without the switch. The default itself, measured again beside each of them, moved by
{controls["batch"]["drift"]:.0%} (batch) and {controls["single"]["drift"]:.0%} (one).

{ablation_table(ablation)}

The same runs by stage, milliseconds per token of one request. The stages are timed in an engine
with borders between them, which slow it down (last column); `other` is the time of the plain engine
less the sum of the stages. It is negative where the borders cost more than what no stage claims.

{stages_table(ablation)}"""


def source(name: str) -> str:
    """A link to a recorded result, from a page in docs/."""
    return f"[`{name}`](../bench/results/{name})"


def ablation_table(ablation: dict[str, Any]) -> str:
    lines = ["| without | tokens/s, batch | time | ms per token, one | time |"]
    lines.append("|---|---|---|---|---|")
    for row in ablation["rows"]:
        cells = [ablate_table.title(row, True)]
        for figure, digits in (("batch_tok_s", 0), ("single_ms_per_token", 2)):
            time = row[f"{figure.split('_')[0]}_time_vs_default"]
            cells += [ablate_table.span(row[figure], digits), f"{time:.2f}×"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def stages_table(ablation: dict[str, Any]) -> str:
    cells = ablate_table.stage_cells(ablation, True)
    return "\n".join(ablate_table.markdown_lines(*cells))


def gpu_table(samples: dict[str, list[float]], limits: dict[str, float]) -> str:
    def figure(key: str, digits: int = 0) -> str:
        low, high = (f"{end(samples[key]):,.{digits}f}" for end in (min, max))
        middle = f"{statistics.median(samples[key]):,.{digits}f}"
        return middle if len(samples[key]) == 1 else f"{middle} ({low}–{high})"

    def decode_share(model: str, key: str) -> str:
        reads = weight_bytes(model) * statistics.median(samples[key])
        return f"{reads / limits['copy_bytes_s']:.0%} of what reading the weights allows"

    def prefill_share(tokens: int) -> str:
        rate = prefill_flop(tokens) / statistics.median(samples[f"llama8b_prefill_{tokens}_ms"])
        return f"{1e3 * rate / limits['matmul_flop_s']:.0%} of the matrix rate"

    rows = [
        ("0.6B, 256 requests of 100–1024 in and out, tokens/s", figure("nano_tok_s"), ""),
        (
            "0.6B, one request, 128 in, 512 out, tokens/s",
            figure("qwen_b1_tok_s"),
            decode_share("qwen3-0.6b", "qwen_b1_tok_s"),
        ),
        (
            "8B, one request, 128 in, 256 out, tokens/s",
            figure("llama8b_b1_tok_s"),
            decode_share("llama-3.1-8b", "llama8b_b1_tok_s"),
        ),
        ("8B, 64 requests, 512 in, 256 out, tokens/s", figure("llama8b_b64_tok_s"), ""),
    ]
    for tokens in (2048, 8192, 16000):
        what = f"8B, prompt of {tokens:,} to first token, ms"
        rows.append((what, figure(f"llama8b_prefill_{tokens}_ms"), prefill_share(tokens)))
    for name in ("8k", "16k"):
        rivals = " and ".join(
            f"{title} {figure(f'attn_{name}_{key}_tflops')}"
            for title, key in (("FlashAttention-2", "fa2"), ("cuDNN", "cudnn"))
        )
        what = f"causal attention, {name} tokens, TFLOP/s"
        rows.append((what, figure(f"attn_{name}_tflops"), f"beside {rivals}"))
    share = statistics.median(samples["decode_attn_bw_share"])
    rows.append(("decode attention, 64 rows behind 4,096 tokens", f"{share:.0%} of copying", ""))
    for title, key in (("0.6B", "qwen"), ("8B", "llama8b")):
        for kind, cached in (("", "not yet compiled"), ("_warm", "compiled before")):
            what = f"{title}, new process to first token, kernels {cached}, s"
            rows.append((what, figure(f"start_{key}{kind}_s", 1), ""))
    lines = ["| | median | beside |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def memory_table(samples: dict[str, list[float]]) -> str:
    lengths = (1024, 2048, 4096, 8192)
    lines = ["| tokens | " + " | ".join(f"{n:,}" for n in lengths) + " |", "|---|---|---|---|---|"]
    for name in ("naive", "flash"):
        cells = [f"{samples[f'attn_memory_{name}_{n}_mib'][0]:,.0f} MiB" for n in lengths]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def weight_bytes(model: str) -> int:
    """bf16 bytes of the matrices that a decode step reads."""
    shapes = expected_weights(spec_of_folder(ROOT / "bench" / "models" / model))
    tied = "lm_head" not in shapes
    return sum(2 * math.prod(s) for name, s in shapes.items() if tied or name != "embed")


def prefill_flop(tokens: int) -> float:
    """Of the 8B shape's layers and causal attention, for a prompt of `tokens`."""
    spec = spec_of_folder(ROOT / "bench" / "models" / "llama-3.1-8b")
    return prompt_flop(spec, tokens)


def prompt_flop(spec: ModelSpec, tokens: int) -> float:
    """Floating-point operations of all layers, causal attention included, for one prompt."""
    shapes = expected_weights(spec)
    layers = sum(math.prod(s) for name, s in shapes.items() if name.startswith("layers."))
    attention = 2 * spec.num_layers * spec.num_heads * spec.head_dim * tokens**2
    return 2.0 * layers * tokens + attention


def peers_table(peers: dict[str, Any]) -> str:
    names = ("pellucid", "llama.cpp", "transformers")
    lines = ["| | " + " | ".join(names) + " fp32 |", "|---|---|---|---|"]
    for label, key in (("decode, tokens/s", "decode"), ("prefill of 512, tokens/s", "prefill")):
        lines.append(f"| {label} | " + " | ".join(span(peers[key][n], 0) for n in names) + " |")
    start = span(peers["start"]["first_output_s"], 1)
    return "\n".join([*lines, f"| start to first token, file fetched, s | {start} | | |"])


def span(sample: dict[str, Any], digits: int) -> str:
    low, high = (f"{sample[end]:.{digits}f}" for end in ("min", "max"))
    return f"{sample['median']:.{digits}f} ({low}–{high})"


def cache_table(cache: dict[str, Any]) -> str:
    lines = ["| length | attention, cache on | rest, on | attention, off | rest, off |"]
    lines.append("|---|---|---|---|---|")
    rows = by_length(cache)
    for length, modes in rows.items():
        cells = [f"{modes[m][part]:.1f}" for m in ("on", "off") for part in ("attention", "rest")]
        lines.append(f"| {length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_length(cache: dict[str, Any]) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for row in cache["rows"]:
        rows.setdefault(row["length"], {})[row["kv_cache"]] = row
    return rows


def exponents(cache: dict[str, Any]) -> str:
    fit, rows = cache["exponents"], by_length(cache)
    last, before = sorted(rows)[-1], sorted(rows)[-2]
    slope = {
        mode: math.log(rows[last][mode]["attention"] / rows[before][mode]["attention"])
        / math.log(last / before)
        for mode in ("on", "off")
    }
    return (
        "Fitted over the longer half, time ≈ length^b: with the cache, "
        f"b = {fit['on']['attention']:.2f} for attention and {fit['on']['rest']:.2f} for the rest; "
        f"without, {fit['off']['attention']:.2f} and {fit['off']['rest']:.2f}. By the book: 1 and "
        "0, 2 and 1. Part of attention's cost at these lengths is per call and per key, not per "
        f"pair; between the two longest its exponent is {slope['on']:.2f} with the cache and "
        f"{slope['off']:.2f} without."
    )
