"""The reader's attention against the formula: the same values, less memory, half of the work."""

from __future__ import annotations

import torch
from reference import attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


def operands(n: int, dim: int = 16, scale: float = 1.0) -> list[torch.Tensor]:
    torch.manual_seed(n)
    q, k, v = torch.randn(3, n, dim, dtype=torch.float64)
    return [scale * q, k, v]


def compare(answer, n: int, tile: int, scale: float = 1.0) -> None:
    given = operands(n, scale=scale)
    found = answer.flash_attention(*given, tile)
    assert found.shape == given[0].shape, f"the result is {[*found.shape]}, not [{n}, 16]"
    off = (found - attention(*given)).abs().amax(1)
    wrong = (~(off < 1e-9)).nonzero().flatten().tolist()  # NaN is wrong too
    assert not wrong, f"{n} tokens, tiles of {tile}: wrong from query {wrong[0]} on"


class Sizes(TorchDispatchMode):
    """Notes the most numbers that an operation puts out."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def one_tile(answer) -> None:
    """One tile gives what the formula gives."""
    compare(answer, 24, 32)


def many_tiles(answer) -> None:
    """So do many tiles: the sums are rescaled when a larger score comes."""
    compare(answer, 128, 32)


def ragged_tiles(answer) -> None:
    """So do lengths that are no multiple of the tile."""
    for n, tile in ((1, 32), (33, 32), (100, 24)):
        compare(answer, n, tile)


def large_scores(answer) -> None:
    """Scores of several thousand overflow nowhere."""
    compare(answer, 96, 32, scale=3000.0)


def no_square(answer) -> None:
    """Nothing as large as n × n is made."""
    n = 512
    given = operands(n)
    with Sizes() as sizes:
        answer.flash_attention(*given, 32)
    assert sizes.largest <= n * 16, (
        f"{n} tokens of 16: a tensor of {sizes.largest:,} numbers was made"
    )


def skips_the_hidden(answer) -> None:
    """Tiles that every query of a tile is too early for are skipped: half of the work."""
    given, work = operands(512), []
    for call in (lambda: answer.flash_attention(*given, 32), lambda: attention(*given)):
        with FlopCounterMode(display=False) as counter:
            call()
        work.append(counter.get_total_flops())
    share = work[0] / work[1]
    assert 0.4 < share < 0.6, f"it multiplies {share:.0%} of what the formula takes; 53% are needed"


CHECKS = [one_tile, many_tiles, ragged_tiles, large_scores, no_square, skips_the_hidden]
