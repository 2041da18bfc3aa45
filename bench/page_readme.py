"""The README's two generated parts: the switchboard, and six rows of speed beside their limits.

`bench/pages.py` writes them between the README's markers; the figures come from bench/results.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from page_results import GPU, PEERS, RESULTS, load, prefill_flop, prompt_flop, weight_bytes
from pellucid.explore import runfile
from pellucid.features import markdown_table

BEGIN, END = "<!-- made by: python bench/pages.py: {} -->", "<!-- end -->"
CPU_RUN = "run-smollm2-cpu.json"
"""The CPU's model: its recorded run holds the shapes that the limit of a prompt is counted from."""
NO_PEER = "–"


def page(readme: str) -> str:
    """The README with its generated parts as the switchboard and the results have them."""
    for name, text in (("switches", markdown_table()), ("speed", speed_table())):
        mark = BEGIN.format(name)
        head, rest = readme.split(mark)
        readme = f"{head}{mark}\n{text}\n{END}{rest.split(END, 1)[1]}"
    return readme


def speed_table() -> str:
    lines = ["| | pellucid | the machine's limit | beside it |", "|---|---|---|---|"]
    return "\n".join([*lines, *cpu_rows(), *gpu_rows()])


def cpu_rows() -> list[str]:
    """Decoding is bound by reading the weights, a prompt by multiplying matrices."""
    peers = load(PEERS)
    probes, tokens = peers["probes"], peers["settings"]["prefill_prompt"]
    spec = runfile.spec_of(runfile.read(RESULTS / CPU_RUN))
    work = prompt_flop(spec, tokens) / tokens
    read = [1e9 * rate / peers["weight_bytes"]["pellucid"] for rate in ends(probes["read_gb_s"])]
    multiply = [1e9 * rate / work for rate in ends(probes["matmul_fp32_gflop_s"])]
    machine = f"SmolLM2-135M Q4_1, {peers['environment']['cores']} CPU cores"
    what = {
        "decode": ("one answer, tokens/s", read),
        "prefill": (f"prompt of {tokens}, tokens/s", multiply),
    }
    return [
        row(
            f"{machine}: {title}",
            span(ends(peers[key]["pellucid"])),
            span(limit),
            f"llama.cpp {span(ends(peers[key]['llama.cpp']))}",
        )
        for key, (title, limit) in what.items()
    ]


def gpu_rows() -> list[str]:
    record = load(GPU)
    samples, limits = record["samples"], record["limits"]
    device = record["environment"]["gpu"].split()[1]
    rows = []
    for title, key, model in (
        ("0.6B", "qwen_b1_tok_s", "qwen3-0.6b"),
        ("8B", "llama8b_b1_tok_s", "llama-3.1-8b"),
    ):
        limit = limits["copy_bytes_s"] / weight_bytes(model)
        name = f"{title} bf16, one {device}: one answer, tokens/s"
        rows.append(row(name, middle(samples[key]), f"{limit:,.0f}", NO_PEER))
    prompt = 8192
    limit = 1e3 * prefill_flop(prompt) / limits["matmul_flop_s"]
    name = f"8B bf16, one {device}: prompt of {prompt:,}, ms"
    rows.append(
        row(name, middle(samples[f"llama8b_prefill_{prompt}_ms"]), f"{limit:,.0f}", NO_PEER)
    )
    cudnn = f"cuDNN {middle(samples['attn_16k_cudnn_tflops'])}"
    limit = limits["matmul_flop_s"] / 1e12
    name = f"causal attention of 16k tokens, one {device}, TFLOP/s"
    return [*rows, row(name, middle(samples["attn_16k_tflops"]), f"{limit:,.0f}", cudnn)]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def ends(sample: dict[str, float]) -> tuple[float, float, float]:
    return sample["median"], sample["min"], sample["max"]


def span(values: Sequence[float]) -> str:
    middle, low, high = values
    return f"{middle:,.0f} ({low:,.0f}–{high:,.0f})"


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f}"
