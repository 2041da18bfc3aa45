"""The C kernels as Python objects: pointers in, tensors out.

`linear.c` says what is computed and how the bytes lie. Here every shape, type and device is checked
before a pointer leaves, and what does not change from call to call is prepared once: a decode step
makes over a hundred of these calls. ctypes drops the interpreter lock for their duration.

The library has its own threads, as many as torch has been told to use; `pool.c` says why.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pellucid.kernels.cpu.build import BuildError, load_library

KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
"""Kinds of blocks, numbered as in linear.c."""

PLAIN = {torch.bfloat16: len(KINDS), torch.float32: len(KINDS) + 1}
"""Plain numbers, numbered as in linear.c."""

TYPES = {torch.float32: 0, torch.bfloat16: 1}

MAX_FEW = 16
"""Rows of x up to which weights are expanded in registers; measured by bench/cpu_linear.py."""

_P, _I = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "packed_bytes": (_I, [_I, _I, _I]),
    "pack_rows": (None, [_I, _P, _P, _I, _I, _I]),
    "matmul_few": (ctypes.c_int, [_P, _P, _P, _I, _I, _I]),
    "matmul_many": (ctypes.c_int, [_P, _P, _P, _I, _I, _I]),
    "expand_rows": (ctypes.c_int, [_P, _P, _P, _I, _I, _I, _I]),
    "instruction_set": (ctypes.c_char_p, []),
}


class _Packed(ctypes.Structure):
    """struct packed of linear.c."""

    _fields_ = [("data", _P), ("bias", _P), ("n", _I), ("k", _I), ("kind", _I)]


class CpuKernels:
    """The loaded library. Raises `BuildError` if it cannot be had."""

    def __init__(self) -> None:
        self.library, self.origin = load_library()
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.instruction_set: str = self.library.instruction_set().decode()

    @property
    def has_bf16_units(self) -> bool:
        """Whether the processor multiplies bfloat16 matrices faster than float32 ones."""
        return "bf16" in self.instruction_set

    def pack(self, kind: str, data: Tensor, k: int) -> PackedMatrix:
        """Lay a file's blocks out in strips. data: uint8 [n, bytes per row], k weights each."""
        if data.device.type != "cpu" or data.dtype != torch.uint8 or data.dim() != 2:
            raise ValueError("blocks must be a uint8 matrix on the CPU")
        data = data.contiguous()
        number, n = KINDS.index(kind), len(data)
        per_block = 256 if kind.endswith("_K") else 32
        if n < 1 or k < 1 or k % per_block:
            raise ValueError(f"{n} rows of {k} weights are not whole blocks of {kind}")
        size = self.library.packed_bytes(number, n, k)
        out = torch.empty(size, dtype=torch.uint8)
        if data.shape[1] != row_bytes(kind, k):
            raise ValueError(
                f"{k} weights of {kind} take {row_bytes(kind, k)} bytes, not {data.shape[1]}"
            )
        self.library.pack_rows(
            number, data.data_ptr(), out.data_ptr(), n, k, torch.get_num_threads()
        )
        return PackedMatrix(self, number, out, n, k)

    def pack_plain(self, numbers: Tensor) -> PackedMatrix:
        """Lay plain numbers out in strips. numbers: float32 or bfloat16 [n, k] on the CPU."""
        n, k = numbers.shape
        padded = torch.nn.functional.pad(numbers, (0, -k % 32, 0, -n % 16))
        strips = padded.view(len(padded) // 16, 16, -1).transpose(1, 2).contiguous()
        return PackedMatrix(self, PLAIN[numbers.dtype], strips, n, k)


def row_bytes(kind: str, k: int) -> int:
    """Bytes that k weights of a kind take in a file."""
    size = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}
    super_size = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
    return k // 32 * size[kind] if kind in size else k // 256 * super_size[kind]


class PackedMatrix:
    """A packed [n, k] matrix and what can be done with it."""

    def __init__(
        self,
        kernels: CpuKernels,
        kind: int,
        data: Tensor,
        n: int,
        k: int,
        bias: Tensor | None = None,
    ) -> None:
        """kind: its number in linear.c; data: its strips."""
        self.kernels = kernels
        self.kind, self.n, self.k = kind, n, k
        self.data = data
        self.bias = None
        if bias is not None:
            if bias.shape != (n,):
                raise ValueError(f"bias {tuple(bias.shape)} does not fit {n} rows")
            self.bias = torch.nn.functional.pad(bias.float(), (0, -n % 16)).contiguous()
        pointer = None if self.bias is None else self.bias.data_ptr()
        self._padding = -k % 32  # of plain numbers: blocks are whole
        self._struct = _Packed(data.data_ptr(), pointer, n, k + self._padding, kind)
        self._address = ctypes.addressof(self._struct)
        self._few = kernels.library.matmul_few
        self._many = kernels.library.matmul_many

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def with_bias(self, bias: Tensor | None) -> PackedMatrix:
        """The same bytes, not copied, and a bias [n] added to every product."""
        if bias is None:
            return self
        return PackedMatrix(self.kernels, self.kind, self.data, self.n, self.k, bias)

    def matmul(self, x: Tensor, exact: bool = False) -> Tensor:
        """x [m, k] float32 or bfloat16 → x · Wᵀ + bias, [m, n], in x's dtype.

        exact: a row's result is the same, to the bit, however many rows there are.
        """
        rows, cols = x.shape
        number = TYPES[x.dtype]
        if cols != self.k or not x.is_cpu:
            raise ValueError(
                f"x {tuple(x.shape)} on {x.device} does not fit a CPU matrix {self.n}×{self.k}"
            )
        if rows > MAX_FEW and number:
            return self.matmul(x.float(), exact).to(x.dtype)
        x = torch.nn.functional.pad(x, (0, self._padding)) if self._padding else x.contiguous()
        out = x.new_empty((rows, self.n))
        few = rows <= MAX_FEW
        call, option = (self._few, number) if few else (self._many, exact)
        threads = torch.get_num_threads()
        if call(self._address, x.data_ptr(), out.data_ptr(), rows, option, threads):
            raise MemoryError("no memory for the activations of a packed matrix product")
        return out

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows ids (int64 [m]) as numbers, [m, k] in float32 or bfloat16."""
        if ids.dtype != torch.int64 or ids.dim() != 1 or not ids.is_cpu:
            raise ValueError("row ids must be an int64 vector on the CPU")
        ids = ids.contiguous()
        return self._expand(ids.data_ptr(), 0, len(ids), dtype)

    def expand(self, first: int, count: int, dtype: torch.dtype) -> Tensor:
        """Rows first, first + 1, ... as numbers, [count, k]; first is a multiple of 16."""
        if first % 16:
            raise ValueError(f"rows are expanded from a multiple of 16, not {first}")
        if count < 0 or first < 0 or first + count > self.n:
            raise IndexError(f"rows {first}..{first + count} of {self.n}")
        return self._expand(None, first, count, dtype)

    def _expand(self, ids: int | None, first: int, count: int, dtype: torch.dtype) -> Tensor:
        out = torch.empty((count, self.k + self._padding), dtype=dtype)
        number, threads = TYPES[dtype], torch.get_num_threads()
        call = self.kernels.library.expand_rows
        if call(self._address, ids, out.data_ptr(), first, count, number, threads):
            raise IndexError(f"row id out of range: there are {self.n} rows")
        return out[:, : self.k].contiguous() if self._padding else out


__all__ = ["KINDS", "BuildError", "CpuKernels", "PackedMatrix"]
