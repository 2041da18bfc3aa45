"""Slow twins of the compiled kernels, in torch: what they compute, without how.

The layout that `pack` makes is drawn in `cpu/linear.c`. Tests compare both sides byte for byte
where bytes are the result, and up to the order of a sum where numbers are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STRIP = 16
"""Rows whose codes lie side by side."""


class Format(NamedTuple):
    """What a kind of block looks like."""

    bits: int
    offset: int
    has_min: bool
    shared: bool
    """Eight runs of 32 share half-precision scales and have small integers of their own."""
    nbytes: int
    """Bytes in the file: of 32 weights, or of 256 if shared."""


FORMATS = {
    "Q4_0": Format(4, 8, False, False, 18),
    "Q4_1": Format(4, 0, True, False, 20),
    "Q5_0": Format(5, 16, False, False, 22),
    "Q5_1": Format(5, 0, True, False, 24),
    "Q8_0": Format(8, 0, False, False, 34),
    "Q4_K": Format(4, 0, True, True, 144),
    "Q5_K": Format(5, 0, True, True, 176),
    "Q6_K": Format(6, 32, False, True, 210),
}


def pack(kind: str, data: Tensor) -> Tensor:
    """uint8 [n, bytes per row] as in the file → uint8 [bytes], in strips."""
    form = FORMATS[kind]
    padding = data.new_zeros(-len(data) % STRIP, data.shape[1])
    blocks = torch.cat((data, padding)).view(-1, STRIP, data.shape[1] // form.nbytes, form.nbytes)
    codes = file_codes(kind, blocks)  # [strips, 16, blocks of 32, 32]
    scales, heads = file_scales(kind, blocks)
    body = torch.cat((pack_codes(form.bits, codes), scales), dim=-1)
    if heads is not None:
        strips, runs, size = body.shape
        body = torch.cat((heads, body.view(strips, runs // 8, 8 * size)), dim=-1)
    return body.flatten()


def file_codes(kind: str, blocks: Tensor) -> Tensor:
    """uint8 [..., bytes] of file blocks → codes [strips, 16, blocks of 32, 32], int32."""
    b = blocks.int()
    if kind == "Q8_0":
        return b[..., 2:]
    if not FORMATS[kind].shared:
        low = torch.cat((b[..., -16:] & 15, b[..., -16:] >> 4), dim=-1)
        if FORMATS[kind].bits == 4:
            return low
        at = torch.arange(32)
        return low | (b[..., -20:-16][..., at // 8] >> at % 8 & 1) << 4
    column = torch.arange(256)
    if kind == "Q6_K":
        half, line, at = column // 128, column % 128 // 32, column % 32
        low = b[..., 64 * half + line % 2 * 32 + at] >> (line // 2 * 4) & 15
        codes = low | (b[..., 128 + 32 * half + at] >> 2 * line & 3) << 4
    else:
        line, at = column // 32, column % 32
        codes = b[..., -128:][..., line // 2 * 32 + at] >> (line % 2 * 4) & 15
        if kind == "Q5_K":
            codes = codes | (b[..., 16 + at] >> line & 1) << 4
    return codes.reshape(*codes.shape[:2], -1, 32)


def file_scales(kind: str, blocks: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scales as they follow the codes of a block of 32, and heads of eight blocks (K kinds).

    uint8 [strips, blocks, bytes] each.
    """
    form = FORMATS[kind]
    if not form.shared:
        parts = [blocks[..., 0:2], blocks[..., 2:4]] if form.has_min else [blocks[..., 0:2]]
        return by_lane(parts), None
    if kind == "Q6_K":
        pairs = blocks[..., 192:208].reshape(*blocks.shape[:2], -1, 2)
        return by_lane([pairs]), by_lane([blocks[..., 208:210]])
    low, mid, high = blocks[..., 4:16].unflatten(-1, (3, 4)).unbind(-2)
    s = torch.cat((low & 63, (high & 15) | low >> 6 << 4), dim=-1)
    t = torch.cat((mid & 63, high >> 4 | mid >> 6 << 4), dim=-1)
    pairs = torch.stack((s, t), dim=-1).reshape(*blocks.shape[:2], -1, 2)
    return by_lane([pairs]), by_lane([blocks[..., 0:2], blocks[..., 2:4]])


def by_lane(parts: list[Tensor]) -> Tensor:
    """[strips, 16, blocks, 2] each → [strips, blocks, parts · 16 · 2]."""
    return torch.cat([part.transpose(1, 2).flatten(2) for part in parts], dim=-1)


def pack_codes(bits: int, codes: Tensor) -> Tensor:
    """codes [strips, 16, blocks, 32] → words of 16 lanes, uint8 [strips, blocks, 64 · bits]."""
    quads: Tensor = codes.transpose(1, 2).unflatten(
        -1, (8, 4)
    )  # [strips, blocks, lane, quad, byte]
    if bits == 8:
        words = quads
    else:
        low = quads & 15
        words = low[..., 0::2, :] | low[..., 1::2, :] << 4
        if bits > 4:
            width = bits - 4
            high = (quads >> 4).unflatten(-2, (-1, 8 // width))
            shifts = torch.arange(8 // width)[:, None] * width
            words = torch.cat((words, (high << shifts).sum(-2).int()), dim=-2)
    return words.transpose(2, 3).flatten(2).to(torch.uint8)


def expand(kind: str, packed: Tensor, n: int, k: int) -> Tensor:
    """The numbers of a packed matrix, float32 [n, k]: the file's own, to the bit."""
    form = FORMATS[kind]
    strips, size = -(-n // STRIP), 64 * form.bits
    body, heads = packed.view(strips, -1), None
    if form.shared:
        body = body.view(strips, k // 256, -1)
        head_size = 64 if form.has_min else 32
        heads, body = body[..., :head_size], body[..., head_size:]
    body = body.reshape(strips, k // 32, -1)
    codes = unpack_codes(form.bits, body[..., :size]).float() - form.offset
    scale, least = unpack_scales(form, body[..., size:], heads)  # [strips, blocks, lane, runs]
    runs: Tensor = codes.unflatten(-1, (scale.shape[-1], -1))
    values = (runs * scale.unsqueeze(-1) + least.unsqueeze(-1)).flatten(-2)
    return values.transpose(1, 2).reshape(strips * STRIP, k)[:n]


def unpack_codes(bits: int, words: Tensor) -> Tensor:
    """The inverse of `pack_codes`, [strips, blocks, lane, 32]; 8-bit codes are signed."""
    # [strips, blocks, lane, word, byte]
    bytes_: Tensor = words.unflatten(-1, (bits, STRIP, 4)).transpose(2, 3).int()
    if bits == 8:
        return bytes_.to(torch.int8).int().flatten(-2)
    low = torch.stack((bytes_[..., :4, :] & 15, bytes_[..., :4, :] >> 4), dim=-2).flatten(-3, -2)
    if bits == 4:
        return low.flatten(-2)
    width = bits - 4
    shifts = torch.arange(8 // width)[:, None] * width
    high = (bytes_[..., 4:, :].unsqueeze(-2) >> shifts & (1 << width) - 1).flatten(-3, -2)
    return (low | high << 4).flatten(-2)


def unpack_scales(form: Format, scales: Tensor, heads: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scale and minimum of every run, float32 [strips, blocks, lane, runs]."""
    if heads is None:
        both = scales.contiguous().view(torch.float16).float().unflatten(-1, (-1, STRIP, 1))
        scale = both[..., 0, :, :]
        return scale, both[..., 1, :, :] if form.has_min else torch.zeros_like(scale)
    tops = heads.contiguous().view(torch.float16).float().unflatten(-1, (-1, STRIP, 1))
    tops = tops.repeat_interleave(8, dim=1)
    pairs = scales.unflatten(-1, (STRIP, 2))
    if not form.has_min:
        scale = tops[..., 0, :, :] * pairs.to(torch.int8).float()
        return scale, torch.zeros_like(scale)
    numbers = pairs.float()
    return tops[..., 0, :, :] * numbers[..., :1], -(tops[..., 1, :, :] * numbers[..., 1:])


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [m, k] · weight [n, k]ᵀ + bias, summed in float64, in x's dtype."""
    out = x.double() @ weight.double().T
    return (out if bias is None else out + bias.double()).to(x.dtype)
