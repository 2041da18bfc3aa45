"""What a step makes any machine do: flops, bytes and launches, counted from shapes alone.

Problem: arithmetic, traffic and kernels of a step follow from the model's shape, the lengths and
the switches, and from nothing else. Counted once, they can be priced on any machine (`roofline.py`)
and on hundreds of trial machines in a fit (`calibrate.py`).

Idea: a step is rows of new tokens behind stored ones (`steps.py`). What a layer does to one token
is the same everywhere, so a stage is a sum over kinds of layers: those with one window, and the
last one, which computes only the tokens that are sampled from once every token's keys and values
are stored.

Layout: `load_of` cuts a `Workload` into steps (`AlikeRows`), and each step into kernels (`Work`):
what is around the layers, then one layer of each kind, in the order in which they run, with how
many there are of it. The result is a `Load`. Of the machine it has to know one thing, CPU or GPU:
that decides what `auto` means (`settled`) and how a step's kernels get onto it (`launching_of`).

Counted: matrices at their stored size, once a step; keys and values once per row and key head (the
heads of a group share them); activations in and out of each kernel. Left out: the arithmetic of
softmax, norms and rotation, which is small beside their traffic, and what caches spare or tiles
read twice, which the efficiencies of a machine absorb; and that the first layer's norm has nothing
to add.

Source: Pope et al. 2022, arXiv:2211.05102.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pellucid.explore.steps import (
    AlikeRows,
    Step,
    num_rows,
    num_tokens,
    positions_read,
    positions_seen,
    sampled_part,
    steps_of,
)
from pellucid.explore.workload import Choices, Workload, expected_tokens, settled
from pellucid.model.spec import ModelSpec

RESIDUAL = 4
"""Bytes of an element of the residual stream and of the logits: float32."""
FEW_TOKENS = 8
"""`gemv` multiplies up to so many tokens by a matrix …"""
FEW_WEIGHTS = 2**24
"""… of no more elements than these, …"""
TOKENS_OF_ANY = 2
"""… and up to so many with any."""
FEW_PACKED = 16
"""On a CPU, our kernel multiplies up to so many tokens by packed weights."""
GRAPHED_TOKENS = 4096
"""Up to so many tokens a step is replayed as a graph, with `graphs` on."""
SHARED_POSITIONS = 256
"""From so many stored positions on, several programs of a GPU share a decoding row …"""
UNSHARED_HEADS = 128
"""… if no more than so many key heads of rows keep it busy."""
PROMPT_CHAINS = 3
"""Dependent reads with which attention of a prompt begins on a GPU, before loading and computing
overlap. Fitted: short prompts on an H100 took three times a decoding row's start."""


class Work(NamedTuple):
    """What one kernel, or several alike in kind, does on no particular machine."""

    stage: str
    kind: Literal["matrix", "attention", "reduction", "elementwise"]
    flops: float = 0.0
    bytes: float = 0.0
    launches: float = 0.0
    """Of kernels of ours."""
    calls: float = 0.0
    """Of a library's kernels."""
    pad_flops: float = 0.0
    """Flops of one more row (a matrix), or of one more position per token (attention). A machine
    fills up tiles, which costs a multiple of this."""
    weights: int = 0
    """Elements of the matrix, if it is a product with one."""
    chains: float = 1.0
    """Attention only: how many reads of a launch must wait for the read before. 2 where a decoding
    row is shared, because its parts are merged at the end."""


Launching = Literal["ready", "at once", "behind"]
"""How a step's kernels get started. "ready": they cost `node_s` each (a recorded graph; a decode
step of a CPU, which is little work in a cache). "at once": the host starts each when the one before
has ended (CPU). "behind": the host queues them ahead of the device, which waits only where the host
is slower (GPU)."""


class Group(NamedTuple):
    """Kernels that run one after the other."""

    works: tuple[Work, ...]
    launching: Launching
    """The same for all groups of a step."""


@dataclass(frozen=True, slots=True)
class Load:
    """All that a workload makes a machine do."""

    groups: Mapping[Group, float]
    """Groups of kernels and how often each runs: most layers and chunks are alike."""
    num_plans: float
    """Steps that the device waits for the host to plan: all, or with `overlap` the first alone."""
    num_rows: float
    """Rows of all steps."""
    num_tokens: float
    """New tokens of all steps."""
    hides_host: bool
    """Whether the host's work falls into the device's (decoding with `overlap`)."""
    tokens_per_row: float


def load_of(spec: ModelSpec, workload: Workload, choices: Choices, device: str) -> Load:
    """Everything that `workload` makes a CPU or a GPU do."""
    choices = settled(choices, device)
    steps, decodes = steps_of(workload, choices), workload.phase == "decode"
    groups: dict[Group, float] = defaultdict(float)
    for times, rows in steps:
        for count, group in groups_of(spec, rows, choices, device, decodes):
            groups[group] += times * count
    return load_with(groups, steps, choices, decodes)


def load_with(
    groups: Mapping[Group, float], steps: Sequence[Step], choices: Choices, decodes: bool
) -> Load:
    """The groups, and what the host has to do for their steps. choices: settled."""
    overlaps = choices.overlap == "on"
    return Load(
        groups=groups,
        num_plans=1 if overlaps else sum(times for times, _ in steps),
        num_rows=sum(times * num_rows(rows) for times, rows in steps),
        num_tokens=sum(times * num_tokens(rows) for times, rows in steps),
        hides_host=overlaps and decodes,
        tokens_per_row=expected_tokens(choices) if decodes else 1.0,
    )


def groups_of(
    spec: ModelSpec, rows: Sequence[AlikeRows], choices: Choices, device: str, decodes: bool
) -> list[tuple[int, Group]]:
    """The kernels of one step. choices: settled."""
    launching = launching_of(num_tokens(rows), choices, device, decodes)
    return [
        (count, Group(tuple(works), launching))
        for count, works in step_work(spec, rows, choices, device)
    ]


def launching_of(tokens: int, choices: Choices, device: str, decodes: bool) -> Launching:
    """How the kernels of a step of so many tokens get onto the device. choices: settled."""
    if device == "cuda":
        return "ready" if choices.graphs == "on" and tokens <= GRAPHED_TOKENS else "behind"
    return "ready" if decodes and choices.kv_cache == "on" else "at once"


# Work


def step_work(
    spec: ModelSpec, rows: Sequence[AlikeRows], choices: Choices, device: str
) -> list[tuple[int, list[Work]]]:
    """The kernels of a step: of each kind of layer and of what is beside them, with its number."""
    kept = sampled_part(rows)
    last = spec.num_layers - 1
    windows = Counter(spec.window(layer) for layer in range(last))
    return [
        (1, outer_work(spec, num_tokens(rows), num_tokens(kept), choices)),
        *(
            (n, layer_work(spec, rows, rows, window, choices, device))
            for window, n in windows.items()
        ),
        (1, layer_work(spec, rows, kept, spec.window(last), choices, device)),
    ]


class MatrixShape(NamedTuple):
    """A matrix, and the stage of the product with it."""

    stage: str
    num_in: int
    num_out: int
    weight_bytes: float
    """Of one element …"""
    out_bytes: float
    """… and of one of what comes out."""

    @property
    def weights(self) -> int:
        return self.num_in * self.num_out


def layer_matrices(
    spec: ModelSpec, choices: Choices
) -> tuple[MatrixShape, MatrixShape, MatrixShape, MatrixShape]:
    """Those of a layer, in the order in which they are read: qkv, o, gate and up, down."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    sizes = choices.weight_bytes, choices.activation_bytes
    return (
        MatrixShape("qkv", hidden, q + 2 * kv, *sizes),
        MatrixShape("o_proj", q, hidden, *sizes),
        MatrixShape("mlp", hidden, 2 * inner, *sizes),
        MatrixShape("mlp", inner, hidden, *sizes),
    )


def outer_work(spec: ModelSpec, tokens: int, sampled: int, choices: Choices) -> list[Work]:
    """What stands before and behind the layers."""
    hidden, vocab = spec.hidden_size, spec.vocab_size
    stored = choices.head_bytes or choices.weight_bytes
    embed = Work("embed", "elementwise", bytes=tokens * hidden * (stored + RESIDUAL), launches=4)
    if not sampled:
        return [embed]
    head = MatrixShape("lm_head", hidden, vocab, stored, RESIDUAL)
    passes = 1 if choices.fused_kernels == "on" else 2
    return [
        embed,
        *last_norm(spec, sampled, head, choices),
        product(sampled, head, choices),
        Work("sample", "reduction", bytes=passes * sampled * vocab * RESIDUAL, launches=4),
    ]


def layer_work(
    spec: ModelSpec,
    rows: Sequence[AlikeRows],
    kept: Sequence[AlikeRows],
    window: int,
    choices: Choices,
    device: str,
) -> list[Work]:
    """One layer: keys and values of all `rows`, and everything after them for `kept` alone."""
    tokens, going_on = num_tokens(rows), num_tokens(kept)
    qkv, o, gate_up, down = layer_matrices(spec, choices)
    works = [
        *norm_between(spec, tokens, down, qkv, choices),
        product(tokens, qkv, choices),
        rotation_work(spec, tokens, choices),
    ]
    if not kept:
        return works
    return [
        *works,
        *(attention_work(spec, r, window, choices, device) for r in kept),
        product(going_on, o, choices),
        *post_norm(spec, going_on, o, choices),
        *norm_between(spec, going_on, o, gate_up, choices),
        product(going_on, gate_up, choices),
        *gate_work(going_on, gate_up, choices),
        product(going_on, down, choices),
        *post_norm(spec, going_on, down, choices),
    ]


def product(tokens: int, matrix: MatrixShape, choices: Choices) -> Work:
    """[tokens, num_in] times a matrix that is read once, whatever the number of tokens."""
    taken, made = matrix.num_in * choices.activation_bytes, matrix.num_out * matrix.out_bytes
    is_ours = has_own_kernel(tokens, matrix, choices)
    return Work(
        matrix.stage,
        "matrix",
        flops=2 * tokens * matrix.weights,
        bytes=matrix.weights * matrix.weight_bytes + tokens * (taken + made),
        launches=int(is_ours),
        calls=int(not is_ours),
        pad_flops=0.0 if is_ours else 2 * matrix.weights,
        weights=matrix.weights,
    )


def has_own_kernel(tokens: int, matrix: MatrixShape, choices: Choices) -> bool:
    """Whether one of our kernels multiplies: `gemv` on a GPU, packed weights on a CPU. They
    compute no more rows than there are; a library fills up its tiles."""
    if choices.gemv == "on":
        return gemv_pays(tokens, matrix.weights)
    return tokens <= FEW_PACKED and choices.weight_bytes < choices.activation_bytes


def gemv_pays(tokens: int, weights: int) -> bool:
    """Whether `gemv` is faster than a library, small steps included."""
    return tokens <= TOKENS_OF_ANY or (tokens <= FEW_TOKENS and weights <= FEW_WEIGHTS)


def is_gemv(tokens: int, matrix: MatrixShape, choices: Choices) -> bool:
    """Whether `gemv` makes the product, and with it the small steps around."""
    return choices.gemv == "on" and gemv_pays(tokens, matrix.weights)


def norm_between(
    spec: ModelSpec, tokens: int, before: MatrixShape, after: MatrixShape, choices: Choices
) -> list[Work]:
    """The step between two matrices: add the branch of `before` to the residual, and norm the sum
    for `after`. Where `gemv` multiplies by `before` it adds the branch itself, and only the norm is
    left.
    """
    if adds_inside(spec, tokens, before, choices):
        return open_norm(spec, tokens, after, choices)
    return [norm_work("norm", spec, tokens, choices)]


def last_norm(spec: ModelSpec, tokens: int, head: MatrixShape, choices: Choices) -> list[Work]:
    """The step between the last layer and the head. With `gemv` and few tokens, separate
    operations add the last branch and round the sum, and count as the head's; the norm is the
    head's as well.
    """
    if choices.gemv != "on" or tokens > FEW_TOKENS:
        return [norm_work("norm", spec, tokens, choices)]
    *_, down = layer_matrices(spec, choices)
    norm = open_norm(spec, tokens, head, choices)
    if adds_inside(spec, tokens, down, choices):
        return norm
    moved = tokens * spec.hidden_size * (3 * RESIDUAL + 2 * choices.activation_bytes)
    return [Work(head.stage, "elementwise", bytes=moved, launches=2), *norm]


def adds_inside(spec: ModelSpec, tokens: int, matrix: MatrixShape, choices: Choices) -> bool:
    """Whether `gemv` adds the product to the residual; not with Gemma, which norms it first."""
    return is_gemv(tokens, matrix, choices) and not spec.sandwich_norms


def open_norm(spec: ModelSpec, tokens: int, after: MatrixShape, choices: Choices) -> list[Work]:
    """A norm in the stage of `after`: inside of its product (no work of its own), or before it."""
    if is_gemv(tokens, after, choices):
        return []
    return [norm_work(after.stage, spec, tokens, choices, adds=False)]


def post_norm(spec: ModelSpec, tokens: int, before: MatrixShape, choices: Choices) -> list[Work]:
    """Gemma's norm of what a matrix gives."""
    if not spec.sandwich_norms:
        return []
    return [norm_work(before.stage, spec, tokens, choices, adds=False)]


def norm_work(
    stage: str, spec: ModelSpec, tokens: int, choices: Choices, adds: bool = True
) -> Work:
    """A norm; `adds`: after adding a branch to the residual. One kernel, or five if not fused."""
    residuals, launches = (2 * adds, 1) if choices.fused_kernels == "on" else (6 + adds, 5)
    element = residuals * RESIDUAL + 2 * choices.activation_bytes
    return Work(stage, "reduction", bytes=tokens * spec.hidden_size * element, launches=launches)


def rotation_work(spec: ModelSpec, tokens: int, choices: Choices) -> Work:
    """Turn queries and keys, store keys and values.

    Not fused, halves are multiplied, added and put together again: the rotated elements go through
    memory nine times instead of twice; norms of heads are float32 on the way.
    """
    a = choices.activation_bytes
    q, kv = (n * spec.head_dim * tokens for n in (spec.num_heads, spec.num_kv_heads))
    ends = (q + 2 * kv) * a + 2 * kv * choices.kv_bytes + q * a
    if choices.fused_kernels == "on":
        return Work("kv_write", "elementwise", bytes=ends, launches=1)
    norms = (q + kv) * (5 * RESIDUAL + 2 * a) if spec.qk_norm else 0.0
    moved = ends + 7 * (q + kv) * a + norms
    return Work("kv_write", "elementwise", bytes=moved, launches=16 + 6 * spec.qk_norm)


def gate_work(tokens: int, gate_up: MatrixShape, choices: Choices) -> list[Work]:
    """act(gate) · up: three elements in and out for each that it makes."""
    if is_gemv(tokens, gate_up, choices):
        return []
    elements, launches = (3, 1) if choices.fused_kernels == "on" else (5, 2)
    moved = elements * tokens * gate_up.num_out // 2 * choices.activation_bytes
    return [Work(gate_up.stage, "elementwise", bytes=moved, launches=launches)]


def attention_work(
    spec: ModelSpec, r: AlikeRows, window: int, choices: Choices, device: str
) -> Work:
    """Scores = q kᵀ and out = scores · v, with every position seen.

    Tiles write nothing but their output, [new, heads, dim].
    """
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    ends = 2 * r.new * q * choices.activation_bytes
    if choices.attention == "naive":
        return naive_attention(spec, r, choices, ends)
    stored = 2 * kv * choices.kv_bytes * positions_read(r.new, r.prefix, window)
    return Work(
        "attention",
        "attention",
        flops=r.num * 4 * q * positions_seen(r.new, r.prefix, window),
        bytes=r.num * (ends + stored),
        launches=1 if choices.attention == "flash" else 2 * r.num,
        pad_flops=r.num * 4 * q * r.new,
        chains=flash_chains(spec, r) if (device, choices.attention) == ("cuda", "flash") else 1.0,
    )


def flash_chains(spec: ModelSpec, r: AlikeRows) -> float:
    """`Work.chains` of our attention on a GPU: 3 for a prompt, 2 for a decoding row that several
    programs share (the second is their merge), else 1."""
    if r.new > 1:
        return PROMPT_CHAINS
    is_shared = r.prefix + 1 >= SHARED_POSITIONS and r.num * spec.num_kv_heads <= UNSHARED_HEADS
    return 1.0 + is_shared


def naive_attention(spec: ModelSpec, r: AlikeRows, choices: Choices, ends: float) -> Work:
    """The textbook's: the whole rectangle, masked afterwards, and every step through memory.

    Scores are written and read six times (product, float, scale, mask, softmax, cast), the four in
    the middle in float32; keys and values are copied once for each head that shares them.
    """
    a, context = choices.activation_bytes, r.prefix + r.new
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    scores = spec.num_heads * r.new * context
    copies = 2 * context * (kv * choices.kv_bytes + 2 * q * a)
    return Work(
        "attention",
        "attention",
        flops=r.num * 4 * scores * spec.head_dim,
        bytes=r.num * (ends + copies + scores * (8 * RESIDUAL + 4 * a)),
        launches=r.num * 12,
    )


# Sizes


def num_layer_weights(spec: ModelSpec) -> int:
    """Elements of all layers' matrices."""
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    one = spec.hidden_size * (2 * q + 2 * kv + 3 * spec.intermediate_size)
    return spec.num_layers * one


def num_head_weights(spec: ModelSpec) -> int:
    """Elements of the LM head, whether or not it is the embedding as well."""
    return spec.vocab_size * spec.hidden_size


def weight_bytes(spec: ModelSpec, choices: Choices) -> float:
    """Bytes of matrices that one step reads."""
    head = choices.head_bytes or choices.weight_bytes
    return num_layer_weights(spec) * choices.weight_bytes + num_head_weights(spec) * head


def modelled_kv_bytes(spec: ModelSpec, choices: Choices) -> float:
    """Bytes that one token leaves behind in all layers."""
    return 2 * spec.num_layers * spec.num_kv_heads * spec.head_dim * choices.kv_bytes
