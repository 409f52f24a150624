"""What is wrong with the bytes of an image, and how large one may be."""

from __future__ import annotations

#: The largest radiographs have some 30 million pixels; what declares more is damaged, and would take the machine's memory.
MOST_PIXELS = 2**27
COPY_AGAIN = "copy it again from the release"


class Fault(Exception):
    """Why a file cannot be read, as the rest of the sentence `image <path> ...`, and what to do."""

    def __init__(self, what: str, remedy: str = COPY_AGAIN) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def refuse_size(height: int, width: int) -> None:
    """Raise Fault when an image declares no pixel, or more than any radiograph has."""
    if height < 1 or width < 1:
        raise Fault(f"declares {width} x {height} pixels")
    if height * width > MOST_PIXELS:
        raise Fault(f"declares {width} x {height} pixels, more than any radiograph has ({MOST_PIXELS:,})")
