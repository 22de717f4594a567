"""Measure how much of FER2013's crops a face fills, for the margin of `predict`.

    python -m docs.faces

Run it in an installed environment, from the project's folder; kagglehub downloads FER2013.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from fer_search.data import sources
from fer_search.serving.faces import CROPPED, FACE, MARGIN, FaceFinder

EVERY = 70
SIDE, BORDER = 192, 96
"""Pixels to which an image is enlarged, and of grey border, so that no box ends at the edge."""


def main() -> None:
    """Print the shares."""
    finder = FaceFinder()
    images = np.asarray(sources.load("fer2013", seed=0).images)[::EVERY]
    shares, cropped = [], 0
    for image in images:
        face = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        cropped += finder.regions(Image.fromarray(image))[0].region == CROPPED
        framed = Image.new("L", (SIDE + 2 * BORDER,) * 2, 128)
        framed.paste(face, (BORDER, BORDER))
        first = finder.regions(framed)[0]
        if first.region == FACE:
            shares.append(first.side / MARGIN / SIDE)
    low, median, high = np.quantile(shares, [0.1, 0.5, 0.9])
    print(f"{len(images)} images; a face is found in {len(shares)}")
    print(f"its longer side is {median:.2f} of the image's ({low:.2f} to {high:.2f} in 8 of 10)")
    print(f"so an image's side is {1 / median:.2f} of its face's; classified as cropped: {cropped}")


if __name__ == "__main__":
    main()
