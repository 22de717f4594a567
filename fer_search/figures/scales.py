"""How the values of a parameter are placed on an axis: as choices, linearly, or logarithmically."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_search.figures import style

Value = float | int | str | bool

_FEW = 6
"""Up to this many different whole numbers are drawn as choices instead of along a scale."""
_WIDE = 20
"""A log scale needs a range of this factor, and most of the values in its lowest quarter."""


def are_choices(values: Sequence[Value]) -> bool:
    """Tell whether values are words, few whole numbers or all equal, to be spaced equally."""
    distinct = set(values)
    are_numbers = not any(isinstance(value, (str, bool)) for value in distinct)
    are_whole = are_numbers and all(isinstance(value, int) for value in distinct)
    return not (len(distinct) > 1 and are_numbers and not (are_whole and len(distinct) <= _FEW))


def are_wide(places: Sequence[float]) -> bool:
    """Tell whether numbers span such a range that a log scale shows them better."""
    low, high = min(places), max(places)
    return bool(low > 0 and high >= _WIDE * low and np.median(places) < (low + high) / 4)


def distinct(values: Sequence[Value]) -> list[Value]:
    """List every choice once, in order: numbers before words."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))


def label(value: Value) -> str:
    """Format a value briefly."""
    text = f"{value:.3g}" if isinstance(value, float) else f"{value!s:.14}"
    return style.verbatim(text)


def aside(number: int) -> float:
    """Offset equal choices so that they do not hide each other, in [-0.25, 0.25).

    The golden ratio spreads them evenly, however many there are.
    """
    return (number * 0.618 + 0.5) % 1 / 2 - 0.25
