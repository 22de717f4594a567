"""Images to remove from a split because their pixels occur elsewhere.

FER2013 holds over a thousand exact repeats, some under two labels, and its validation set shares 43
images with its test set. `splits.py` asks this module what to remove before anything is measured.
"""

from __future__ import annotations

import hashlib

import numpy as np

PARTS = ("train", "validation", "test")


def find(images: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> dict[str, np.ndarray]:
    """Find the images to remove from training and validation; those of test always stay.

    From training, all equal images with different labels are removed, and so are those that
    validation or test also hold; of equal images with one label the first stays. Validation loses
    what test also holds. Repeats within validation stay: they are part of the benchmark.

    Args:
        images: Shape (N, 48, 48), uint8.
        labels: Shape (N,).
        parts: Index into `PARTS` per image, shape (N,).

    Returns:
        Ascending positions by reason, without reasons that apply to no image. An image to which
        several reasons apply has the first.
    """
    same = identities(images)
    train, validation, test = (parts == part for part in range(len(PARTS)))
    in_test = np.isin(same, same[test])
    held_out = in_test | np.isin(same, same[validation])
    pairs = np.unique(np.stack([same[train], labels[train]]), axis=1)
    several, n_labels = np.unique(pairs[0], return_counts=True)
    conflict = np.isin(same, several[n_labels > 1])
    first = np.zeros(len(same), bool)
    first[np.flatnonzero(train)[np.unique(same[train], return_index=True)[1]]] = True

    reasons = {
        "with conflicting labels in train": train & conflict,
        "in train and also held out": train & held_out & ~conflict,
        "repeated in train": train & ~first & ~held_out & ~conflict,
        "in validation and also in test": validation & in_test,
    }
    return {reason: np.flatnonzero(those) for reason, those in reasons.items() if those.any()}


def identities(images: np.ndarray) -> np.ndarray:
    """Number images so that equal numbers mean equal pixels.

    Args:
        images: Shape (N, H, W), uint8.

    Returns:
        Shape (N,), int64.
    """
    numbers: dict[bytes, int] = {}
    digests = (hashlib.blake2b(image, digest_size=16).digest() for image in np.asarray(images))
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], np.int64)
