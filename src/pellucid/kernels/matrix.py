"""What a weight matrix can do: multiply, and whatever more its kind says of itself.

A layer asks its matrices for products. Some can do more than a bare product: end in float32
without rounding on the way, add to the residual, or hand over their tensors so that a kernel can
fuse the product with the norm before it and the gate behind it. A matrix *states* what it can;
nobody finds out by looking for attributes. An fp8 matrix also has a `weight`, and whoever
multiplied by that would forget the scale. So here the default is "no", and a kind of matrix says
"yes" by overriding.

    Matrix        multiplies; the base of every kind (quant/dense.py, quant/packed.py, ...)
    Operand       a matrix's tensors, for a kernel; its class says how they multiply
    PlainOperand  plain numbers: x · weightᵀ + bias and nothing else
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Operand:
    """The tensors of a matrix, as a kernel takes them.

    Each way of storing numbers has a class of its own, and a kernel takes the classes that it knows
    (`kernels/triton/products.py`). One that it does not know is multiplied by its matrix.
    """


@dataclass(frozen=True, slots=True)
class PlainOperand(Operand):
    """The product is x · weightᵀ + bias."""

    weight: Tensor
    """[out, in]"""
    bias: Tensor | None
    """[out]"""


class Matrix(ABC):
    """x [tokens, in] → x · Wᵀ + bias, [tokens, out], in x's dtype."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The product."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of weights that a call reads."""

    @property
    def operand(self) -> Operand | None:
        """Its tensors for a kernel that fuses; None: only the matrix itself can multiply."""
        return None

    def float32(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The product in float32, [tokens, out]; written to `out`, if given.

        By default widened after the product has been rounded to x's dtype, which a matrix that may
        be an LM head overrides: logits are float32.
        """
        product = self(x)
        return product.float() if out is None else out.copy_(product)

    def add_to(self, total: Tensor, x: Tensor) -> bool:
        """Add the product to `total`, float32 [tokens, out], without writing it down in between.

        False if this kind of matrix cannot do so here; `total` is then as it was.
        """
        return False
