"""A seeded choice of images that keeps the proportions of the emotions."""

from __future__ import annotations

import numpy as np


def choose(labels: np.ndarray, n: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Choose `n` of the images, stratified by label.

    Every label that occurs keeps at least one image, as far as `n` allows; apart from that, each
    label gets its proportional share, rounded up or down (largest remainders).

    Args:
        labels: Shape (N,), small non-negative integers.
        n: Number of images to choose; all if it is N or more.
        seed: Seed of the choice; equal seeds choose equally.

    Returns:
        The chosen positions in ascending order, shape (min(n, N),), int64.
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
    """Divide `n` in proportion to `counts`, with at least one for each if there are enough."""
    shares = counts * n / counts.sum()
    least = (counts > 0) & (np.count_nonzero(counts) <= n)
    quotas: np.ndarray = np.maximum(np.floor(shares).astype(int), least)
    while quotas.sum() < n:
        quotas[np.argmax(shares - quotas)] += 1
    while quotas.sum() > n:
        quotas[np.argmax(np.where(quotas > least, quotas - shares, -np.inf))] -= 1
    return quotas
