"""DICOM's run-length coding (PS3.5 annex G), which decoders let be longer or shorter than the image."""

from __future__ import annotations

import struct

import numpy as np

from trainers.data.formats.faults import Fault

_HEADER = 64


def read(frame: bytes, shape: tuple[int, int], bits_allocated: int) -> np.ndarray:
    """Return the unsigned gray values of one frame, (height, width). Raises Fault when a segment has another length than the image."""
    count = bits_allocated // 8
    if len(frame) < _HEADER:
        raise Fault("is truncated (its run-length coded pixels have no header)")
    segments, *starts = struct.unpack("<16L", frame[:_HEADER])
    starts = starts[: segments if segments <= 15 else 0]
    if segments != count or starts != sorted(starts) or starts[0] != _HEADER or starts[-1] > len(frame):
        raise Fault("is damaged (the header of its run-length coded pixels does not fit)")
    values = np.zeros(shape, np.uint8 if count == 1 else np.uint16)
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        # The segment with the highest byte comes first.
        values = values << 8 if count == 2 else values
        values |= np.frombuffer(_unpacked(frame[start:end], shape[0] * shape[1]), np.uint8).reshape(shape)
    return values


def _unpacked(segment: bytes, size: int) -> bytes:
    """Return `size` bytes of a segment. Raises Fault when it holds more or fewer of them."""
    found, at, end = bytearray(), 0, len(segment)
    while len(found) < size and at < end:
        head = segment[at]
        if head < 128:
            found += segment[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            found += segment[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    # One byte may follow, to make the length even.
    if len(found) != size or end - at > 1:
        raise Fault("is damaged (its run-length coded pixels are more or fewer than its header says)")
    return bytes(found)
