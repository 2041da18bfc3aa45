"""GGUF's block formats: how a run of weights is stored in few bits, and how to expand it.

Neighbouring weights of a row are alike in size, so a run of 32 or 256 of them shares a scale and
each keeps only a small integer. All numbers are little-endian, scales are float16 (`d`: step, `m`:
minimum), and a block never crosses a row. With q the stored integer of a weight:

    kind   weights bytes   weight =               layout of a block, bytes
    Q4_0      32     18    d·(q - 8)              d 2 | q 16
    Q4_1      32     20    d·q + m                d 2 | m 2 | q 16
    Q5_0      32     22    d·(q - 16)             d 2 | h 4 | q 16
    Q5_1      32     24    d·q + m                d 2 | m 2 | h 4 | q 16
    Q8_0      32     34    q·d                    d 2 | q 32 (int8)
    Q4_K     256    144    (d·s)·q - (m·t)        d 2 | m 2 | st 12 | q 128
    Q5_K     256    176    (d·s)·q - (m·t)        d 2 | m 2 | st 12 | h 32 | q 128
    Q6_K     256    210    (d·s)·(q - 32)         q 128 | h 64 | s 16 (int8) | d 2

Four bits of each integer lie in `q`, two to a byte; the first half of a run is in the low nibbles
and the second half in the high ones, so that one load and one mask unpack sixteen neighbours:

    byte        0        1             15
            ┌────────┬────────┬ … ┬────────┐
    Q4_x    │ 16   0 │ 17   1 │   │ 31  15 │     high nibble, low nibble: number of the weight
            └────────┴────────┴ … ┴────────┘

The 256-weight kinds do the same within groups of 64 weights in 32 bytes (Q4_K, Q5_K) or 128 weights
in 64 bytes (Q6_K). Bits above the fourth are in `h`:

    Q5_0, Q5_1   bit i of the 32-bit number h belongs to weight i
    Q5_K         bit g of byte j to weight 32·g + j
    Q6_K         bits 2p, 2p+1 of byte 32·c + j to weight 128·c + 32·p + j

Q4_K and Q5_K have a 6-bit scale s and minimum t for each of their eight runs of 32, packed into
twelve bytes; Q6_K has a plain int8 scale for each run of 16. For a = 0..3:

    byte a        s[a+4] bits 4,5 | s[a] 6 bits
    byte a + 4    t[a+4] bits 4,5 | t[a] 6 bits
    byte a + 8    t[a+4] bits 0-3 | s[a+4] bits 0-3

`dequantize` is the reference for every faster path: it makes the same float32 operations in the
same order as `gguf.quants` and therefore the same bits. Source: ggml-quants.c and gguf-py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.quant.kinds import BLOCK_SHAPES

CHUNK = 1 << 18
"""Weights expanded at a time on a CPU: intermediate results then stay in its second-level cache."""


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """One kind of block."""

    size: int
    """Weights in a block."""
    nbytes: int
    """Bytes of a block."""
    decode: Callable[[Tensor], Tensor]
    """uint8 [n, nbytes] → float32 [n, size]."""

    def row_bytes(self, cols: int) -> int:
        """Bytes of a row of `cols` weights, which must be whole blocks."""
        return cols // self.size * self.nbytes


def dequantize(kind: str, data: Tensor) -> Tensor:
    """Expand rows of blocks. data: uint8 [rows, bytes per row] → float32 [rows, cols]."""
    block = BLOCKS[kind]
    rows, row_bytes = data.shape
    blocks = data.reshape(-1, block.nbytes)
    out = torch.empty(len(blocks), block.size, dtype=torch.float32, device=data.device)
    step = CHUNK // block.size if data.device.type == "cpu" else max(len(blocks), 1)
    for start in range(0, len(blocks), step):
        out[start : start + step] = block.decode(blocks[start : start + step])
    return out.view(rows, row_bytes // block.nbytes * block.size)


def half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at byte `at` of each block, as float32 [n, 1]."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def nibbles(packed: Tensor) -> Tensor:
    """uint8 [..., w] → uint8 [..., 2, w]: the low four bits, then the high four."""
    return torch.stack((packed & 15, packed >> 4), dim=-2)


def fields(packed: Tensor, width: int) -> Tensor:
    """uint8 [..., w] → uint8 [..., 8 / width, w]: fields of `width` bits, lowest first."""
    mask = (1 << width) - 1
    return torch.stack([(packed >> shift) & mask for shift in range(0, 8, width)], dim=-2)


def high_bits(packed: Tensor) -> Tensor:
    """Q5_0 and Q5_1: uint8 [n, 4] → uint8 [n, 32], sixteen times bit i of the 32-bit number."""
    return fields(packed, 1).transpose(1, 2).reshape(len(packed), 32) << 4


def scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Q4_K and Q5_K: uint8 [n, 12] → 6-bit scales and minima, float32 [n, 8, 1] each."""
    low_s, low_t, rest = packed.view(-1, 3, 4).unbind(1)
    s = torch.cat((low_s & 63, (rest & 15) | (low_s >> 2 & 48)), dim=-1)
    t = torch.cat((low_t & 63, (rest >> 4) | (low_t >> 2 & 48)), dim=-1)
    return s.float().unsqueeze(-1), t.float().unsqueeze(-1)


def decode_q4_0(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, 2:]).view(-1, 32)
    return (q.float() - 8).mul_(half(blocks, 0))


def decode_q4_1(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, 4:]).view(-1, 32)
    return q.float().mul_(half(blocks, 0)).add_(half(blocks, 2))


def decode_q5_0(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, 6:]).view(-1, 32) | high_bits(blocks[:, 2:6])
    return (q.float() - 16).mul_(half(blocks, 0))


def decode_q5_1(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, 8:]).view(-1, 32) | high_bits(blocks[:, 4:8])
    return q.float().mul_(half(blocks, 0)).add_(half(blocks, 2))


def decode_q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float().mul_(half(blocks, 0))


def decode_q4_k(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, 16:].reshape(-1, 4, 32)).view(-1, 8, 32)
    return affine_k(blocks, q)


def decode_q5_k(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, 48:].reshape(-1, 4, 32)).view(-1, 8, 32)
    return affine_k(blocks, q | fields(blocks[:, 16:48], 1) << 4)


def affine_k(blocks: Tensor, q: Tensor) -> Tensor:
    """(d·s)·q - (m·t). blocks: head of Q4_K or Q5_K; q: uint8 [n, 8, 32] → float32 [n, 256]."""
    s, t = scales(blocks[:, 4:16].contiguous())
    step = half(blocks, 0).unsqueeze(-1) * s
    least = half(blocks, 2).unsqueeze(-1) * t
    return q.float().mul_(step).sub_(least).view(-1, 256)


def decode_q6_k(blocks: Tensor) -> Tensor:
    q = nibbles(blocks[:, :128].reshape(-1, 2, 64)).view(-1, 2, 4, 32)
    q |= fields(blocks[:, 128:192].reshape(-1, 2, 32), 2) << 4
    step = half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return (q.view(-1, 16, 16).float() - 32).mul_(step.unsqueeze(-1)).view(-1, 256)


DECODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": decode_q4_0,
    "Q4_1": decode_q4_1,
    "Q5_0": decode_q5_0,
    "Q5_1": decode_q5_1,
    "Q8_0": decode_q8_0,
    "Q4_K": decode_q4_k,
    "Q5_K": decode_q5_k,
    "Q6_K": decode_q6_k,
}
BLOCKS = {kind: BlockFormat(*BLOCK_SHAPES[kind], decode) for kind, decode in DECODERS.items()}
