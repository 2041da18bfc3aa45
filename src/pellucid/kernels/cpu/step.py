"""The entry points of `step.c`: shapes and types are checked here, pointers leave from here."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.kernels.kv import KVLayer

TYPES = {torch.float32: 0, torch.bfloat16: 1}
MAX_DIM, MAX_HEADS = 512, 128
"""Elements of a head, and query heads: as in step.c."""

_P, _I, _F, _N = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int


def _of(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Turn(ctypes.Structure):
    """struct turn of step.c."""

    _fields_ = [
        *[
            (name, _P)
            for name in ["qkv", "cos", "sin", "q_norm", "k_norm", "q", "keys", "values", "slots"]
        ],
        *[(name, _I) for name in ["tokens", "heads", "kv_heads", "dim", "half"]],
        ("eps", _F),
        ("type", _N),
    ]


class _Attend(ctypes.Structure):
    """struct attend of step.c."""

    _fields_ = [
        *[
            (name, _P)
            for name in ["q", "keys", "values", "out", "token", "context", "tables", "table"]
        ],
        *[(name, _I) for name in ["rows", "heads", "kv_heads", "dim", "block_size", "window"]],
        ("scale", _F),
        ("softcap", _F),
        ("type", _N),
        ("chunks", _P),
        ("parts", _P),
    ]


class RowTables:
    """The rows with one new token of a step, as the arrays that `attend_one` of step.c reads."""

    def __init__(
        self, tokens: Sequence[int], contexts: Sequence[int], tables: Sequence[Sequence[int]]
    ) -> None:
        """tokens: index of each row's token; contexts: positions it sees; tables: its blocks."""
        flat: list[int] = []
        begins: list[int] = []
        before: Sequence[int] | None = None
        for table in tables:
            if table is not before:  # tokens of one sequence share its table
                begins.append(len(flat))
                flat += table
                before = table
            else:
                begins.append(begins[-1])
        self.num_rows = len(tokens)
        self._memory = [torch.tensor(part) for part in (tokens, contexts, flat, begins)]
        self.pointers = [part.data_ptr() for part in self._memory]


class StepKernels:
    """The functions of step.c in a loaded library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._norm = library.rms_norm
        self._norm.restype, self._norm.argtypes = None, [_P] * 5 + [_I, _I, _F, _N, _I]
        self._turn = library.rotate_and_write
        self._turn.restype, self._turn.argtypes = None, [_P, _I]
        self._gated = library.gated
        self._gated.restype, self._gated.argtypes = None, [_P, _P, _I, _I, _N, _N, _I]
        self._attend = library.attend_one
        self._attend.restype, self._attend.argtypes = _N, [_P, _I]

    def norm(
        self, x: Tensor, branch: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """x [..., dim] (+ branch of the same shape), weight float32 [dim] → sum, norm."""
        x = x.contiguous()
        dim = x.shape[-1]
        if weight.shape != (dim,) or weight.dtype != torch.float32:
            raise ValueError(f"norm weight {tuple(weight.shape)} does not fit {tuple(x.shape)}")
        total, pointer = x, None
        if branch is not None:
            if branch.shape != x.shape or branch.dtype != x.dtype:
                raise ValueError(f"{tuple(branch.shape)} cannot be added to {tuple(x.shape)}")
            branch, total = branch.contiguous(), torch.empty_like(x)
            pointer = branch.data_ptr()
        out = torch.empty_like(x)
        self._norm(
            x.data_ptr(),
            pointer,
            weight.data_ptr(),
            total.data_ptr(),
            out.data_ptr(),
            x.numel() // dim,
            dim,
            eps,
            TYPES[x.dtype],
            torch.get_num_threads(),
        )
        return total, out

    def rotate_and_write(
        self,
        qkv: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        rotation: tuple[Tensor, Tensor],
        kv: KVLayer,
        slots: Tensor,
    ) -> Tensor:
        """See `Ops.rotate_and_write`."""
        cos, sin = rotation
        keys, values = kv.keys, kv.values
        num_tokens, all_heads, dim = qkv.shape
        kv_heads, half = kv.num_kv_heads, cos.shape[1]
        heads = all_heads - 2 * kv_heads
        fits = keys.shape == values.shape and keys.shape[3] == dim and len(slots) == num_tokens
        plain = all(t.is_contiguous() for t in (qkv, cos, sin, keys, values, slots))
        if not (fits and plain and 2 * half <= dim <= MAX_DIM and cos.dtype == torch.float32):
            raise ValueError(f"qkv {tuple(qkv.shape)} does not fit keys {tuple(keys.shape)}")
        q = qkv.new_empty((num_tokens, heads, dim))
        q_norm, k_norm = (None, None) if norms is None else (n.data_ptr() for n in norms)
        turn = _Turn(
            qkv.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            q_norm,
            k_norm,
            q.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            slots.data_ptr(),
            num_tokens,
            heads,
            kv_heads,
            dim,
            half,
            eps,
            TYPES[qkv.dtype],
        )
        self._turn(ctypes.byref(turn), torch.get_num_threads())
        return q

    def gated(self, gate_up: Tensor, *, gelu: bool) -> Tensor:
        """[T, 2·width] → act(gate)·up, [T, width]."""
        gate_up = gate_up.contiguous()
        rows, both = gate_up.shape
        out = gate_up.new_empty((rows, both // 2))
        kind = TYPES[gate_up.dtype]
        threads = torch.get_num_threads()
        self._gated(gate_up.data_ptr(), out.data_ptr(), rows, both // 2, gelu, kind, threads)
        return out

    def attend(
        self,
        q: Tensor,
        kv: KVLayer,
        out: Tensor,
        rows: RowTables,
        *,
        scale: float,
        window: int,
        softcap: float,
    ) -> None:
        """Attention of the rows with one new token, into `out`. Shapes: `AttentionBackend`."""
        _, heads, dim = q.shape
        keys, values, kv_heads = kv.keys, kv.values, kv.num_kv_heads
        if dim > MAX_DIM or heads % kv_heads or heads > MAX_HEADS:
            raise ValueError(f"{heads} heads of {dim} over {kv_heads} key heads: not supported")
        if not all(t.is_contiguous() for t in (q, keys, values, out)):
            raise ValueError("attention needs contiguous tensors")
        job = _Attend(
            q.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            out.data_ptr(),
            *rows.pointers,
            rows.num_rows,
            heads,
            kv_heads,
            dim,
            kv.block_size,
            window,
            scale,
            softcap,
            TYPES[q.dtype],
            None,
            None,
        )
        if self._attend(ctypes.byref(job), torch.get_num_threads()):
            raise MemoryError("no memory for the scores of a decode step")
