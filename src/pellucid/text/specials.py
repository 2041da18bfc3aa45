"""Tokens that are found in a text by their name, before anything else looks at the text.

Problem: a vocabulary has tokens that no merge may produce from ordinary text, such as `<|im_end|>`,
and others that must win over any merge, such as Gemma's runs of newlines. So the text is cut at
their names first, and only what lies between goes to the merge algorithm.

Which token wins where two names overlap is part of the model's definition: the longest name (in
UTF-8 bytes) claims all its places first, from left to right, then the next longest. A single
leftmost-longest scan gives other ids in rare cases.

Looking for each of Gemma's 6,400 names in each prompt would take longer than merging it. A name can
only be there if its first four characters are, and there are 70 different beginnings: they are
looked for first, and leave a handful of candidates.

Source: `tokenizer_st_partition` in llama.cpp.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

_HEAD = 4
"""Characters of a name that must be there before the whole name is looked for."""


class SpecialTokens:
    """Cuts texts at the names of tokens."""

    def __init__(self, names: Mapping[str, int]) -> None:
        """`names` maps what is written in the text to the token's id."""
        items = [(name, token) for name, token in names.items() if name]
        self._order = sorted(items, key=lambda item: (-len(item[0].encode()), item[1]))
        self._heads: dict[str, list[int]] = defaultdict(list)
        for place, (name, _) in enumerate(self._order):
            self._heads[name[:_HEAD]].append(place)

    def present(self, text: str) -> list[tuple[str, int]]:
        """(name, id) of every token whose name may be in `text`, longest first."""
        heads = [head for head in self._heads if head in text]
        places = sorted(place for head in heads for place in self._heads[head])
        return [self._order[place] for place in places]

    def split(self, text: str) -> list[str | int]:
        """`text` in pieces, in order: ids of the tokens named in it, and the text between them."""
        parts: list[str | int] = [text] if text else []
        for name, token in self.present(text):
            if name in text:
                parts = _cut(parts, name, token)
        return parts


def _cut(parts: list[str | int], name: str, token: int) -> list[str | int]:
    cut: list[str | int] = []
    for part in parts:
        if isinstance(part, int) or name not in part:
            cut.append(part)
            continue
        first, *rest = part.split(name)
        if first:
            cut.append(first)
        for between in rest:
            cut.append(token)
            if between:
                cut.append(between)
    return cut
