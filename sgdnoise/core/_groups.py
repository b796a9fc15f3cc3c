"""Groups of samples for the errors of statistics, and what the evaluations of one call share.

A statistic receives a group of samples as an array.  A function inside it that knows a faster way,
such as a search for neighbours that was done for all samples, asks `current_group` which rows these
are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arrays import device, namespace, widened


class Group(NamedTuple):
    """Samples that a statistic is evaluated on: rows of `whole`, or all of it if rows is None.

    groups: the number of groups of this partition; most: the largest number of any partition.
    shared: what evaluations leave for later ones of the same call.
    """

    samples: Any
    whole: Any
    rows: np.ndarray | None
    groups: int
    most: int
    shared: dict[str, Any]


_CURRENT: ContextVar[Group | None] = ContextVar("current", default=None)
_SHARED: ContextVar[tuple[Any, dict[str, Any]] | None] = ContextVar("shared", default=None)


def current_group(samples) -> Group | None:
    """The group whose statistic is being evaluated, if these are its samples."""
    group = _CURRENT.get()
    return group if group is not None and group.samples is samples else None


@contextmanager
def sharing(samples, shared: dict[str, Any]) -> Iterator[None]:
    """Within it, errors of statistics of these samples start from what is shared."""
    token = _SHARED.set((samples, shared))
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared_with(samples) -> dict[str, Any]:
    """What `sharing` holds for these samples, or a new dict."""
    known = _SHARED.get()
    return known[1] if known is not None and known[0] is samples else {}


def check_groups(n: int, groups: int, n_fewer: int, block: int) -> None:
    """Raise ValueError unless n samples in blocks make as many groups."""
    blocks = n // block if block >= 1 else 0
    if not 2 <= groups <= blocks:
        of_rows = f" in blocks of {block}" if block != 1 else ""
        raise ValueError(
            f"{n} samples{of_rows} cannot make {groups} groups; take 2 to {max(blocks, 2)}"
        )
    if not 2 <= n_fewer <= groups:
        raise ValueError(f"n_fewer must be 2 to {groups}, the number of groups, not {n_fewer}")


def evaluate(statistic, group: Group):
    """The statistic of the samples of a group."""
    token = _CURRENT.set(group)
    try:
        value = namespace(group.whole).asarray(statistic(group.samples))
        return widened(value, "the statistic")
    finally:
        _CURRENT.reset(token)


def of_groups(statistic, group: Group, splits: int, block: int):
    """The statistic of each group of each partition of the samples, (split, group, ...).

    group: all samples, and the number of groups.  block: rows that stay together.
    """
    xp, samples = namespace(group.whole), group.whole
    results = []
    for split in range(splits):
        values = []
        for rows in partition(samples.shape[0], group.groups, split, block):
            places = xp.asarray(rows, device=device(samples))
            taken = xp.take(samples, places, axis=0)
            values.append(evaluate(statistic, group._replace(samples=taken, rows=rows)))
        results.append(xp.stack(values))
    return xp.stack(results)


def partition(n: int, groups: int, split: int, block: int = 1) -> np.ndarray:
    """The rows of disjoint random groups of equal size, (groups, size), always the same."""
    count = n // block
    order = np.random.default_rng([groups, split]).permutation(count)[: count - count % groups]
    rows = order[:, None] * block + np.arange(block)
    return rows.reshape(groups, -1)
