"""Formatting of numbers, times and values in a report."""

from __future__ import annotations

import datetime
import math
from typing import Any

MISSING = "–"


def score(value: float | None, digits: int = 3) -> str:
    """Format a rate in [0, 1]; a dash if unknown."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(ends: tuple[float, float], to: str = " to ") -> str:
    """Format the two ends of an interval."""
    return f"{ends[0]:.3f}{to}{ends[1]:.3f}"


def share(value: float) -> str:
    """Format a rate as a whole percentage."""
    return f"{100 * value:.0f} %"


def percent(value: float) -> str:
    """Format a rate as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def capitalised(text: str) -> str:
    """Capitalise the first letter, leaving the others as they are."""
    return text[:1].upper() + text[1:]


def duration(seconds: float | None) -> str:
    """Format a time in its two largest units: `5 h 12 min`, `3 min 20 s`, `42 s`."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def brief(seconds: float) -> str:
    """Format a time in one unit: `6.4 min`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float | None) -> str:
    """Format seconds since the epoch as date and time in UTC."""
    if seconds is None:
        return MISSING
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"


def value(given: Any, digits: int = 4) -> str:
    """Format a parameter; floats with `digits` significant digits."""
    if given is None:
        return MISSING
    if isinstance(given, bool):
        return "yes" if given else "no"
    return f"{given:.{digits}g}" if isinstance(given, float) else str(given)


def counted(number: int, noun: str) -> str:
    """Format a count: `1 trial`, `1,200 trials`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_NAMES = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "tiny": "a miniature network",
    "fer2013": "FER2013",
    "synthetic": "synthetic faces",
    "mutation": "mutation of the best",
    "tpe": "TPE",
    "random": "random search",
    "qmc": "a Sobol sequence",
    "gp": "a Gaussian process",
    "hyperband": "Hyperband",
    "asha": "ASHA",
    "median": "the median rule",
}


def named(word: str) -> str:
    """Return a backbone, source, sampler or pruner as named in prose; other words unchanged."""
    return _NAMES.get(word, word)
