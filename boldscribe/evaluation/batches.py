"""Batches in which no text pads another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence


def equal_batches(lengths: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Indices in batches of `size`, all of one length, from the shortest on; the last batch of a length repeats its last index.

    So nothing is padded, and the shape of a batch depends on its length alone. A library picks its routine by the shape, and
    routines round differently: with a fixed shape, the result for a text is the same bit by bit, whatever is computed with it.

    Args:
        lengths: numbers of tokens, or pairs of them.
        size: indices per batch.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        groups[length].append(index)
    for length in sorted(groups):  # type: ignore[type-var]
        group = groups[length]
        group += [group[-1]] * (-len(group) % size)
        for start in range(0, len(group), size):
            yield group[start : start + size]
