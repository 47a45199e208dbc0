"""Batches of texts of equal length, without padding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence


def equal_batches(lengths: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Yield indices in batches of `size`, all of one length, shortest first; the last batch of a length repeats its last index.

    Nothing is padded, and the shape of a batch depends only on its length. A library picks its routine by the shape, and
    routines round differently. With a fixed shape, the result for a text is bit-identical, whatever else is in its batch.

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
