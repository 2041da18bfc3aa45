"""SentencePiece-style BPE: merge the best-scored pair of neighbours until none is left.

There are no merge rules as in byte-level BPE. Any two neighbours may merge if together they are a
token, and of all such pairs the one whose token has the highest score goes first, of equals the
leftmost. What is left over and is no token is spelled in byte tokens, `<0xE2>` and so on. (It is
*not* the Unigram algorithm, which maximizes the sum of scores; the scores here are only ranks.)

    spaces become ▁          "go on"  →  "go▁on"
    heap of possible merges  (cost, place of the left symbol, place of the right one, merged text)

Three lists, indexed by the place of a symbol's first character, hold the chain of symbols: text,
next, previous. A symbol that was merged away has an empty text. An entry of the heap is stale when
its two symbols no longer add up to its text, and is dropped when it surfaces: O(n log n).

Words are worked on one by one and remembered. That changes nothing: a merge across a border needs
a token with these two characters side by side, and hardly any token has a space after something
else. The vocabulary is searched for such tokens when it is loaded, and where one of them could
matter (Gemma 3 has a single one, `>▁</`) the text is not cut.

Source: `llm_tokenizer_spm` in llama.cpp; Kudo and Richardson 2018, arXiv:1808.06226.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from pellucid.errors import ModelError

SPACE = "▁"
_CACHED_WORDS = 1 << 15
_CACHED_LENGTH = 64


class SpmMerger:
    """Turns text without special tokens into ids. Thread-safe."""

    def __init__(self, tokens: Sequence[str], scores: Sequence[float], unknown: int | None) -> None:
        self._ids = {text: token for token, text in enumerate(tokens)}
        self._costs = [-score for score in scores]
        self._bytes = [self._byte_token(value, unknown) for value in range(256)]
        self._word = _word_pattern(tokens)
        self._cache: dict[str, list[int]] = {}

    def _byte_token(self, value: int, unknown: int | None) -> int:
        token = self._ids.get(f"<0x{value:02X}>", unknown)
        if token is None:
            raise ModelError(
                f"the tokenizer has neither a token <0x{value:02X}> nor one for unknown bytes; "
                "convert the model again"
            )
        return token

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self._word.findall(text.replace(" ", SPACE)):
            known = self._cache.get(word)
            if known is None:
                known = self._merge(word)
                self._remember(word, known)
            ids += known
        return ids

    def _remember(self, word: str, ids: list[int]) -> None:
        if len(word) <= _CACHED_LENGTH:
            if len(self._cache) >= _CACHED_WORDS:
                self._cache.clear()
            self._cache[word] = ids

    def _merge(self, word: str) -> list[int]:
        ids, costs = self._ids, self._costs
        end = len(word)
        texts = list(word)
        following = list(range(1, end + 1))
        previous = list(range(-1, end - 1))
        heap: list[tuple[float, int, int, str]] = []
        for place in range(end - 1):
            merged = texts[place] + texts[place + 1]
            if (token := ids.get(merged)) is not None:
                heap.append((costs[token], place, place + 1, merged))
        heapify(heap)
        while heap:
            _, left, right, merged = heappop(heap)
            if not texts[left] or not texts[right] or texts[left] + texts[right] != merged:
                continue
            texts[left], texts[right] = merged, ""
            before, after = previous[left], following[right]
            following[left] = after
            if after < end:
                previous[after] = left
                longer = merged + texts[after]
                if (token := ids.get(longer)) is not None:
                    heappush(heap, (costs[token], left, after, longer))
            if before >= 0:
                longer = texts[before] + merged
                if (token := ids.get(longer)) is not None:
                    heappush(heap, (costs[token], before, left, longer))
        return self._look_up(texts)

    def _look_up(self, texts: list[str]) -> list[int]:
        ids: list[int] = []
        for text in filter(None, texts):
            token = self._ids.get(text)
            if token is None:
                ids += [self._bytes[value] for value in text.encode()]
            else:
                ids.append(token)
        return ids


def _word_pattern(tokens: Sequence[str]) -> re.Pattern[str]:
    """Matches the pieces that can be merged on their own: spaces, then what follows them.

    A space after one of `inner` may be in the middle of a token, so it does not begin a piece.
    """
    every = "\0".join(tokens)
    inner = {every[at - 1] for at in _places(every) if at and every[at - 1] not in (SPACE, "\0")}
    if not inner:
        return re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
    either = f"(?:[^{SPACE}]+|(?<=[{''.join(map(re.escape, sorted(inner)))}]){SPACE}+)"
    return re.compile(f"{SPACE}+{either}*|{either}+")


def _places(text: str) -> list[int]:
    return [match.start() for match in re.finditer(SPACE, text)]
