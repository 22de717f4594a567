"""A seeded choice of pictures that keeps the proportions of the emotions."""

from __future__ import annotations

import numpy as np


def choose(labels: np.ndarray, n: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Choose `n` of the pictures, stratified by label.

    Every label that occurs keeps at least one picture, as long as `n` allows; apart from that the
    number of each label is its proportional share, rounded up or down (largest remainders).

    Args:
        labels: Shape (N,), small non-negative integers.
        n: How many to choose; all if it is N or more.
        seed: Equal seeds choose equally.

    Returns:
        The chosen positions in rising order, shape (min(n, N),), int64.
    """
    if n >= len(labels):
        return np.arange(len(labels))
    quotas = _quotas(np.bincount(labels), n)
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in enumerate(quotas)
    ]
    return np.sort(np.concatenate(chosen))


def _quotas(counts: np.ndarray, n: int) -> np.ndarray:
    """Share out `n` in proportion to `counts`, at least one to each if there is enough."""
    shares = counts * n / counts.sum()
    least = (counts > 0) & (np.count_nonzero(counts) <= n)
    quotas: np.ndarray = np.maximum(np.floor(shares).astype(int), least)
    while quotas.sum() < n:
        quotas[np.argmax(shares - quotas)] += 1
    while quotas.sum() > n:
        quotas[np.argmax(np.where(quotas > least, quotas - shares, -np.inf))] -= 1
    return quotas
