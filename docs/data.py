"""Measure what is wrong with FER2013: the tables and the figure of docs/data.md.

python -m docs.data --votes ferplus_votes.csv

Run it in an installed environment, from the project's folder; kagglehub downloads FER2013.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fer_search.config import EMOTIONS
from fer_search.data import sources, votes
from fer_search.data.duplicates import PARTS, identities
from fer_search.data.splits import split

NAMES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
BLANK = 10
"""An image is nearly blank if the standard deviation of its pixels is below this."""
SHOWN = 8


def main() -> None:
    """Print the tables and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=Path, required=True, help="FER+ votes by path")
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/data.png"))
    options = parser.parse_args()
    faces = sources.load("fer2013", seed=0)
    images, labels = np.asarray(faces.images), np.asarray(faces.labels)
    part_of = np.array([PARTS.index(part) for part in faces.splits.tolist()])
    print_counts(labels, part_of, "All images")
    splits = split(faces, limit=0, seed=0)
    for part in PARTS:
        print(f"used from {NAMES[part]}: {len(getattr(splits, part)):,}")
    for reason, row in splits.report["dropped"].items():
        print(f"- {row['count']:,} {reason}")
    groups = same_pixels(images)
    print_repeats(groups, labels, part_of)
    blank = np.flatnonzero(images.reshape(len(images), -1).std(axis=1) < BLANK)
    print_parts("Nearly blank (deviation of the pixels below 10)", blank, part_of)
    cast = votes.read(options.votes, faces.origins)
    no_face = votes.not_faces(cast, faces.origins)
    print_parts("No face according to most FER+ taggers", no_face, part_of)
    share = votes.agreement(cast, faces.origins, labels)
    print(f"Votes and labels agree on {share:.1%}")
    conflicts = [group for group in groups if len(set(labels[group])) > 1]
    shared = [group for group in groups if {1, 2} <= set(part_of[group])]
    repeated = [g for g in groups if len(set(labels[g])) == 1 and set(part_of[g]) == {0}]
    rows = {
        "repeated in Training": [(g[0], f"{len(g)} times") for g in repeated],
        "the same image, several labels": [
            (g[0], "\n".join(sorted({EMOTIONS[label] for label in labels[g]}))) for g in conflicts
        ],
        "in PublicTest and in PrivateTest": [(g[0], EMOTIONS[labels[g[-1]]]) for g in shared],
        "nearly blank": [(i, EMOTIONS[labels[i]]) for i in blank],
    }
    if share > votes.LEAST_AGREEMENT:  # otherwise they are votes on other images
        rows["no face (FER+)"] = [(i, EMOTIONS[labels[i]]) for i in no_face]
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    drawn(rows, images).savefig(options.figure, dpi=110)
    print(f"\nwrote {options.figure}")


def same_pixels(images: np.ndarray) -> list[list[int]]:
    """Return the positions of each image that occurs more than once."""
    groups = defaultdict(list)
    for i, same in enumerate(identities(images).tolist()):
        groups[same].append(i)
    return [group for group in groups.values() if len(group) > 1]


def print_counts(labels: np.ndarray, part_of: np.ndarray, title: str) -> None:
    """Print a table of images by part and emotion."""
    print(f"\n{title}\n\n| | {' | '.join(EMOTIONS)} | all |\n|{' --- |' * (len(EMOTIONS) + 2)}")
    for number, part in enumerate(PARTS):
        counts = np.bincount(labels[part_of == number], minlength=len(EMOTIONS))
        cells = [f"{count:,}" for count in (*counts, counts.sum())]
        print(f"| {NAMES[part]} | {' | '.join(cells)} |")
    print()


def print_repeats(groups: list[list[int]], labels: np.ndarray, part_of: np.ndarray) -> None:
    """Print how many images repeat within parts, across parts and under several labels."""
    print(f"\nredundant images in all: {sum(len(group) - 1 for group in groups):,}")
    for number, part in enumerate(PARTS):
        n = sum(max(0, (part_of[group] == number).sum() - 1) for group in groups)
        print(f"redundant inside {NAMES[part]}: {n:,}")
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = [group for group in groups if {one, other} <= set(part_of[group])]
        rows = sum((part_of[group] == other).sum() for group in both)
        names = f"{NAMES[PARTS[one]]} and {NAMES[PARTS[other]]}"
        print(f"{names} share {len(both):,} images, {rows:,} rows of the latter")
    conflicts = [group for group in groups if len(set(labels[group])) > 1]
    rows = sum(map(len, conflicts))
    print(f"the same image under several labels: {len(conflicts):,} images, {rows:,} rows\n")


def print_parts(title: str, positions: np.ndarray, part_of: np.ndarray) -> None:
    """Print how many of the images at `positions` are in each part."""
    counts = np.bincount(part_of[positions], minlength=len(PARTS))
    print(f"{title}: " + ", ".join(f"{NAMES[p]} {n:,}" for p, n in zip(PARTS, counts, strict=True)))


def drawn(rows: dict[str, list[tuple[int, str]]], images: np.ndarray) -> Figure:
    """Draw some images of each kind, one kind per row."""
    figure = Figure((SHOWN * 1.15, len(rows) * 1.75), layout="constrained")
    grid = figure.subplots(len(rows), SHOWN)
    for axes, (title, found) in zip(grid, rows.items(), strict=True):
        chosen = np.random.default_rng(0).permutation(len(found))[:SHOWN]
        for ax in axes:
            ax.axis("off")
        for ax, i in zip(axes, chosen, strict=False):
            place, caption = found[i]
            ax.imshow(images[place], cmap="gray", vmin=0, vmax=255)
            ax.text(0.5, -0.04, caption, transform=ax.transAxes, ha="center", va="top", fontsize=7)
        axes[0].set_title(f"{title}: {len(found):,}", loc="left", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
