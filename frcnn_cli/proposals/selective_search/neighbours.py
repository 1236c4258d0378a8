"""The neighbours of regions as linked lists.

A list names regions that may have been merged since; `current` finds what they are part of. So two lists are joined
without a look at their content, and a list is cleaned when it is read.
"""

from __future__ import annotations

from typing import Any

from frcnn_cli.system.jit import kernel


@kernel(inline="always")
def current(merged: Any, region: int) -> Any:
    """The region that a region is part of now."""
    while merged[region] != region:
        merged[region] = merged[merged[region]]
        region = merged[region]
    return region


@kernel(inline="always")
def link(first: Any, last: Any, following: Any, neighbour: Any, links: int, a: int, b: int) -> Any:
    """Appends `b` to the list of `a`."""
    following[links], neighbour[links] = -1, b
    if last[a] < 0:
        first[a] = links
    else:
        following[last[a]] = links
    last[a] = links
    return links + 1


@kernel(inline="always")
def join(first: Any, last: Any, following: Any, made: int, a: int, b: int) -> None:
    """Makes the lists of `a` and `b` that of `made`."""
    if first[a] < 0:
        first[made], last[made] = first[b], last[b]
        return
    first[made], last[made] = first[a], last[a]
    if first[b] >= 0:
        following[last[a]] = first[b]
        last[made] = last[b]


@kernel()
def distinct_neighbours(
    merged: Any,
    first: Any,
    last: Any,
    following: Any,
    neighbour: Any,
    a: int,
    seen: Any,
    near: Any,
    found: int,
    made: int,
) -> Any:
    """Adds the regions in the list of `a` to `near`, and drops those from the list that were seen for `made` before."""
    one, kept = first[a], -1
    while one >= 0:
        after = following[one]
        n = current(merged, neighbour[one])
        if seen[n] != made:
            seen[n] = made
            near[found] = n
            found += 1
            neighbour[one] = n
            if kept < 0:
                first[a] = one
            else:
                following[kept] = one
            kept = one
        one = after
    if kept < 0:
        first[a] = -1
    else:
        following[kept] = -1
    last[a] = kept
    return found
