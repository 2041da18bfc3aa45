"""Linear layers on the CPU: packed against dense, and both against the machine.

Problem: a decode step should last as long as reading the packed weights, and a prompt should cost
no more than with expanded weights. Are they?
Idea: the matrices of SmolLM2-135M with random weights, all thirty layers of them, so that nothing
stays in a cache that would not stay there in the model. Packed and dense take turns; the memory's
bandwidth is probed in between. On a shared machine the best of the repeats says what the code can
do and the median what it did.

    python bench/cpu_linear.py --json bench/results/cpu_linear.json

Expected before measuring: decode within 20 % of the bandwidth probe (a token's 96 MB in 6 ms at
16 GB/s); a prompt of 512 tokens at 1.0 to 1.2 times the dense speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

import environment as env
from pellucid.kernels import status
from pellucid.kernels.matrix import Matrix
from pellucid.quant.blocks import BLOCKS
from pellucid.quant.linear import make_linear
from pellucid.quant.weight import BlockWeight

LAYERS = 30
SHAPES = {"qkv": (960, 576), "o": (576, 576), "gate_up": (3072, 576), "down": (576, 1536)}
HEAD = (49152, 576)
TOKENS = (1, 2, 3, 4, 6, 8, 10, 12, 13, 16, 24, 32, 64)
PROMPT = 512
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--kind", default="Q4_1", choices=BLOCKS, help="blocks of the layers")
    parser.add_argument("--json", metavar="FILE", help="write the result there; - is stdout")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"kernels: {status().line}")
    layers, head = make_layers(args.kind), make(*HEAD, "Q8_0", "packed")
    record = {
        "environment": env.environment(),
        "kernels": status().line,
        "kind": args.kind,
        "threads": args.threads,
        "decode": decode(layers, head, args.repeats),
        "tokens": sweep(layers, args.repeats),
        "prompt": prompt(args.kind, args.repeats),
    }
    if args.json:
        env.write_json(args.json, record)


def make_layers(kind: str) -> dict[str, list[Matrix]]:
    return {
        name: [make(*shape, kind, "packed") for _ in range(LAYERS)]
        for name, shape in SHAPES.items()
    }


def make(n: int, k: int, kind: str, method: str) -> Matrix:
    """A linear of random blocks with factors of an ordinary size."""
    form = BLOCKS[kind]
    if k % form.size:
        raise SystemExit(f"{kind} has blocks of {form.size} weights, and a row has {k}")
    data = torch.randint(0, 256, (n, k // form.size, form.nbytes), dtype=torch.uint8)
    for at in {"Q4_0": [0], "Q5_0": [0], "Q8_0": [0], "Q6_K": [208]}.get(kind, [0, 2]):
        data[..., at : at + 2] = torch.tensor([0.005]).half().view(torch.uint8)
    part = BlockWeight("w", kind, (n, k), data.view(n, -1))
    return make_linear([part], None, dtype=torch.float32, device=CPU, method=method)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def all_of(matrices: Sequence[Matrix], x: torch.Tensor) -> None:
    for matrix in matrices:
        matrix(x)


def decode(layers: dict[str, list[Matrix]], head: Matrix, repeats: int) -> dict[str, Any]:
    """One token: every matrix of every layer, then the head."""
    items = {name: (row, torch.randn(1, SHAPES[name][1])) for name, row in layers.items()}
    items["head"] = ([head], torch.randn(1, HEAD[1]))
    samples: dict[str, list[float]] = {name: [] for name in [*items, "token"]}
    bandwidth: list[float] = []
    order = [items[name][0][i] for i in range(LAYERS) for name in SHAPES] + [head]
    xs = [items[name][1] for _ in range(LAYERS) for name in SHAPES] + [items["head"][1]]
    for _ in range(repeats):
        bandwidth += env.read_bandwidth(1)
        for name, (row, x) in items.items():
            samples[name].append(seconds(partial(all_of, row, x)) / len(row))
        samples["token"].append(
            seconds(lambda: [m(x) for m, x in zip(order, xs, strict=True)])
        )  # fmt: skip
    sizes = {name: row[0].nbytes for name, (row, _) in items.items()}
    sizes["token"] = sum(m.nbytes for m in order)
    print(f"\nmemory reads {max(bandwidth):.1f} GB/s (best), {env.median(bandwidth):.1f} (median)")
    print(
        f"{'one token':10} {'bytes':>10} {'best µs':>9} {'median':>9} {'GB/s':>6} {'of memory':>9}"
    )
    for name, values in samples.items():
        best = min(values)
        rate = sizes[name] / best / 1e9
        print(
            f"{name:10} {sizes[name]:10} {best * 1e6:9.1f} {env.median(values) * 1e6:9.1f} "
            f"{rate:6.1f} {rate / max(bandwidth):9.0%}"
        )
    return {
        "bandwidth_gb_s": env.summary(bandwidth),
        "bytes": sizes,
        "seconds": {name: env.summary(values) for name, values in samples.items()},
    }


def sweep(layers: dict[str, list[Matrix]], repeats: int) -> dict[str, Any]:
    """All layers for several tokens at once: where one way gives over to the other."""
    samples: dict[int, list[float]] = {m: [] for m in TOKENS}
    xs = {(m, k): torch.randn(m, k) for m in TOKENS for k in (576, 1536)}

    def forward(m: int) -> None:
        for i in range(LAYERS):
            for name, (_, k) in SHAPES.items():
                layers[name][i](xs[m, k])

    for _ in range(repeats):
        for m in TOKENS:
            samples[m].append(seconds(partial(forward, m)))
    print("\ntokens     " + "".join(f"{m:8}" for m in TOKENS))
    print("best ms    " + "".join(f"{min(samples[m]) * 1e3:8.2f}" for m in TOKENS))
    print("ms a token " + "".join(f"{min(samples[m]) * 1e3 / m:8.2f}" for m in TOKENS))
    return {str(m): env.summary(values) for m, values in samples.items()}


def prompt(kind: str, repeats: int) -> dict[str, Any]:
    """512 tokens through each matrix, packed and dense in turns."""
    result = {}
    print(
        f"\n{PROMPT} tokens {'packed GFLOP/s':>14} {'dense':>7} "
        f"{'ratio of bests':>15} {'medians':>8}"
    )
    for name, (n, k) in SHAPES.items():
        x = torch.randn(PROMPT, k)
        pair = {method: make(n, k, kind, method) for method in ("packed", "dense")}
        samples: dict[str, list[float]] = {method: [] for method in pair}
        for layer in pair.values():
            layer(x)
        for _ in range(3 * repeats):
            for method, layer in pair.items():
                samples[method].append(seconds(partial(layer, x)))
        flop = 2 * PROMPT * n * k / 1e9
        best = {method: min(values) for method, values in samples.items()}
        middle = {method: env.median(values) for method, values in samples.items()}
        print(
            f"{name:10} {flop / best['packed']:14.0f} {flop / best['dense']:8.0f} "
            f"{best['dense'] / best['packed']:15.2f} {middle['dense'] / middle['packed']:8.2f}"
        )
        result[name] = {method: env.summary(values) for method, values in samples.items()}
    return result


if __name__ == "__main__":
    main()
