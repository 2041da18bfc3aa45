"""What decides a row's next token, as columns of one small table of 32-bit numbers.

The table has a column for each setting and a place for each sequence. Kernels look their row's
place up, so that a setting crosses to the device once, when its sequence comes, and not at every
step. Floats are stored as their bits.
"""

from __future__ import annotations

from enum import IntEnum


class Column(IntEnum):
    TEMPERATURE = 0
    """float; 0 is greedy"""
    TOP_K = 1
    """0: all"""
    TOP_P = 2
    """float"""
    MIN_P = 3
    """float"""
    REPETITION = 4
    """float; 1 is off"""
    PRESENCE = 5
    """float"""
    FREQUENCY = 6
    """float"""
    PENALIZED = 7
    """1 if any of the three penalties is on"""
    NUM_BIAS = 8
    """edits that add to a logit"""
    NUM_ENDS = 9
    """edits behind them: tokens that would end the answer"""
    ENDS_FROM = 10
    """position from which those are allowed"""
    NUM_KNOWN = 11
    """tokens whose occurrences are counted already; later ones are counted when they are
    computed"""
    SEED_LOW = 12
    SEED_HIGH = 13


NUM_COLUMNS = len(Column)
assert NUM_COLUMNS <= 16, "kernels/triton/inputs.py copies sixteen columns"
