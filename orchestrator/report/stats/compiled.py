"""The bootstrap in machine code, by numba: importing this module compiles it, or reads what an earlier process compiled.

It is imported only where numba is installed and there is enough to do (`bootstrap.engine_for`). Every sum is one of whole numbers, and
every quotient is taken as in `bootstrap`, so the two give the same bits.

Counts come in tiles (units, LANES) of bytes: what one unit weighs in 64 replicates is one line of the cache and one vector register, or in
128 where two tiles share it (`bootstrap.in_pairs`). A case adds its unit's line to a register of byte sums, which is emptied into 32 bits
before a byte could overflow.
"""
# Numba is an extra of this project, so a type checker may not find it.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orchestrator.report.stats import streams

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("NUMBA_DISABLE_JIT is set")

#: Replicates a tile. A literal, and not imported: numba keeps what it compiled until this very file changes.
LANES = 64
_GOLDEN, _MIX_1, _MIX_2 = streams.GOLDEN, streams.MIX_1, streams.MIX_2
#: Draws of one replicate that are made before they are counted, so that making them is one loop of vector instructions.
_BLOCK = 1024


def compiled(*signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for one signature (the result first), and keep the machine code where numba finds a place to write."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        one = signature[0](*signature[1:])
        try:
            return numba.njit(one, cache=True, error_model="numpy")(function)
        except (RuntimeError, OSError):
            # Neither beside this file nor in a home may anything be written, or the disk is full: compile for this process alone.
            return numba.njit(one, error_model="numpy")(function)

    return decorate


_TILES, _ROWS = types.uint8[:, :, ::1], types.uint32[::1]
_PLACES, _LONGS, _REALS = types.int64[::1], types.int64[::1], types.float64[::1]


#: Numba passes the typing context itself, which a type checker cannot know.
_intrinsic: Any = intrinsic


@_intrinsic
def _add_rows(_context: Any, tile: Any, rows: Any, start: Any, stop: Any, lanes: Any) -> Any:
    """Add `tile[rows[start:stop]]` to `lanes`, modulo 256: one load and one add of a vector a row.

    Written as vectors because LLVM makes gathers of the loop when it is written as numbers, which are several times slower.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = ir.VectorType(ir.IntType(8), LANES)
        long = ir.IntType(64)

        def data(index: int) -> Any:
            return cgutils.create_struct_proxy(signature.args[index])(context, builder, value=arguments[index]).data

        table, sums = (builder.bitcast(data(index), line.as_pointer()) for index in (0, 4))
        total = cgutils.alloca_once_value(builder, builder.load(sums, align=1))
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], long(1)) as (index, _):
            unit = builder.zext(builder.load(builder.gep(data(1), [index])), long)
            row = builder.load(builder.gep(table, [unit]), align=1)
            builder.store(builder.add(builder.load(total), row), total)
        builder.store(builder.load(total), sums, align=1)
        return context.get_dummy_value()

    return types.void(tile, rows, types.int64, types.int64, lanes), codegen


@_intrinsic
def _add_pairs(_context: Any, pairs: Any, rows: Any, start: Any, stop: Any, lanes: Any) -> Any:
    """Add `pairs[rows[start:stop]]` to `lanes`, modulo 256: the lower halves of bytes to its first half, the upper ones to its second."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = ir.VectorType(ir.IntType(8), LANES)
        long = ir.IntType(64)

        def data(index: int) -> Any:
            return cgutils.create_struct_proxy(signature.args[index])(context, builder, value=arguments[index]).data

        table, sums = (builder.bitcast(data(index), line.as_pointer()) for index in (0, 4))
        places = [sums, builder.gep(sums, [long(1)])]
        totals = [cgutils.alloca_once_value(builder, builder.load(place, align=1)) for place in places]
        low, half = (ir.Constant(line, [value] * LANES) for value in (15, 4))
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], long(1)) as (index, _):
            unit = builder.zext(builder.load(builder.gep(data(1), [index])), long)
            row = builder.load(builder.gep(table, [unit]), align=1)
            for total, part in zip(totals, (builder.and_(row, low), builder.lshr(row, half)), strict=True):
                builder.store(builder.add(builder.load(total), part), total)
        for total, place in zip(totals, places, strict=True):
            builder.store(builder.load(total), place, align=1)
        return context.get_dummy_value()

    return types.void(pairs, rows, types.int64, types.int64, lanes), codegen


@numba.njit(error_model="numpy", inline="always")
def _pass(tile: Any, rows: Any, start: int, stop: int, left: int, room: int, lanes: Any, total: Any) -> int:
    """Add `tile[rows[start:stop]]` to `lanes`, emptied into `total` after every `room` rows; return how many rows still fit."""
    while start < stop:
        if left == 0:
            _empty(lanes, total)
            left = room
        end = min(stop, start + left)
        _add_rows(tile, rows, start, end, lanes)
        left -= end - start
        start = end
    return left


@numba.njit(error_model="numpy", inline="always")
def _empty(lanes: Any, total: Any) -> None:
    for lane in range(lanes.shape[0]):
        total[lane] += np.int32(lanes[lane])
        lanes[lane] = 0


@numba.njit(error_model="numpy", inline="always")
def _gather(tile: Any, rows: Any, start: int, stop: int, room: int, lanes: Any, total: Any) -> None:
    """Write the sum of `tile[rows[start:stop]]` to `total`; `lanes` is empty before and after."""
    total[:] = 0
    _pass(tile, rows, start, stop, room, room, lanes, total)
    _empty(lanes, total)


@numba.njit(error_model="numpy", inline="always")
def _pass_pairs(pairs: Any, rows: Any, start: int, stop: int, left: int, room: int, lanes: Any, total: Any) -> int:
    """As `_pass`, for two tiles in one."""
    while start < stop:
        if left == 0:
            _empty(lanes, total)
            left = room
        end = min(stop, start + left)
        _add_pairs(pairs, rows, start, end, lanes)
        left -= end - start
        start = end
    return left


@numba.njit(error_model="numpy", inline="always")
def _gather_pairs(pairs: Any, rows: Any, start: int, stop: int, room: int, lanes: Any, total: Any) -> None:
    """As `_gather`, for two tiles in one."""
    total[:] = 0
    _pass_pairs(pairs, rows, start, stop, room, room, lanes, total)
    _empty(lanes, total)


@compiled(types.void, _TILES, _ROWS, _PLACES, _PLACES, _PLACES, _ROWS, types.int64, _LONGS, _LONGS, _LONGS)
def area_sums(
    packed: Any, anchors: Any, starts: Any, below: Any, up_to: Any, rungs: Any, room: int, twice: Any, rare: Any, other: Any
) -> None:
    """Write, for every replicate, twice the numerator of the area and the two class totals.

    `packed` holds two tiles in one, counts below 16 in half a byte each, since what takes the time is fetching lines. `anchors` are the
    units of the rarer class and `rungs` those of the other, ascending by score; `starts` is where each distinct score of an anchor begins,
    and `below`, `up_to` how many rungs are below it and up to it. `room` rows of counts fit into a byte.
    """
    both = 2 * LANES
    lanes, spare = np.zeros(both, np.uint8), np.zeros(both, np.uint8)
    weight, tied, passed, drawn = np.zeros(both, np.int32), np.zeros(both, np.int32), np.zeros(both, np.int32), np.zeros(both, np.int32)
    summed = np.zeros(both, np.int64)
    for index in range(packed.shape[0]):
        pairs = packed[index]
        passed[:], drawn[:], summed[:] = 0, 0, 0
        rung, left = 0, room
        for step in range(below.shape[0]):
            left = _pass_pairs(pairs, rungs, rung, below[step], left, room, lanes, passed)
            rung = up_to[step]
            first, last = starts[step], starts[step + 1]
            if last == first + 1 and rung == below[step]:
                unit = anchors[first]
                for lane in range(LANES):
                    line = pairs[unit, lane]
                    one, two = np.int32(line & np.uint8(15)), np.int32(line >> np.uint8(4))
                    summed[lane] += np.int64(one) * np.int64(2 * (passed[lane] + np.int32(lanes[lane])))
                    summed[LANES + lane] += np.int64(two) * np.int64(2 * (passed[LANES + lane] + np.int32(lanes[LANES + lane])))
                    drawn[lane] += one
                    drawn[LANES + lane] += two
            else:
                _gather_pairs(pairs, anchors, first, last, room, spare, weight)
                _gather_pairs(pairs, rungs, below[step], rung, room, spare, tied)
                for lane in range(both):
                    summed[lane] += np.int64(weight[lane]) * np.int64(2 * (passed[lane] + np.int32(lanes[lane])) + tied[lane])
                    drawn[lane] += weight[lane]
                    passed[lane] += tied[lane]
        _pass_pairs(pairs, rungs, rung, rungs.shape[0], left, room, lanes, passed)
        _empty(lanes, passed)
        for lane in range(both):
            place = index * both + lane
            twice[place], rare[place], other[place] = summed[lane], drawn[lane], passed[lane]


@compiled(types.void, _TILES, _ROWS, _PLACES, _PLACES, _ROWS, types.int64, _REALS, _LONGS)
def precision_sums(tiles: Any, anchors: Any, starts: Any, up_to: Any, rungs: Any, room: int, gained: Any, positive: Any) -> None:
    """Write, for every replicate, the sum over thresholds of (positives at it) x (precision at it), and the number of positives.

    `anchors` are the units of positives and `rungs` those of negatives, descending by score; the rest is as in `area_sums`.
    """
    lanes, spare = np.zeros(LANES, np.uint8), np.zeros(LANES, np.uint8)
    weight, passed, reached = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32), np.zeros(LANES, np.int32)
    summed = np.zeros(LANES, np.float64)
    for index in range(tiles.shape[0]):
        tile = tiles[index]
        passed[:], reached[:], summed[:] = 0, 0, 0.0
        rung, left = 0, room
        for step in range(up_to.shape[0]):
            left = _pass(tile, rungs, rung, up_to[step], left, room, lanes, passed)
            rung = up_to[step]
            _gather(tile, anchors, starts[step], starts[step + 1], room, spare, weight)
            for lane in range(LANES):
                reached[lane] += weight[lane]
                product = np.int64(weight[lane]) * np.int64(reached[lane])
                every = reached[lane] + passed[lane] + np.int32(lanes[lane])
                summed[lane] += np.float64(product) / np.float64(max(every, np.int32(1)))
        _empty(lanes, passed)
        for lane in range(LANES):
            place = index * LANES + lane
            gained[place], positive[place] = summed[lane], reached[lane]


_EVEN_BYTES, _EVEN_PAIRS, _LOWER_HALF = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF), np.uint64(0x00000000FFFFFFFF)


@numba.njit
def _swap(low: Any, high: Any, shift: Any, mask: Any) -> Any:
    """Swap the parts of `low` above `mask` with the parts of `high` in it."""
    moved = ((low >> shift) ^ high) & mask
    return low ^ (moved << shift), high ^ moved


@numba.njit
def _turn(rows: Any, tile: Any) -> None:
    """Transpose counts from (LANES, units), eight units a word, to (units, LANES): 8 x 8 bytes at a time (Warren 2012, section 7-3)."""
    turned = tile.view(np.uint64)
    one, two, four = np.uint64(8), np.uint64(16), np.uint64(32)
    for word in range(rows.shape[1]):
        unit = 8 * word
        kept = min(8, tile.shape[0] - unit)
        for group in range(LANES // 8):
            lane = 8 * group
            a, b, c, d = rows[lane, word], rows[lane + 1, word], rows[lane + 2, word], rows[lane + 3, word]
            e, f, g, h = rows[lane + 4, word], rows[lane + 5, word], rows[lane + 6, word], rows[lane + 7, word]
            a, b = _swap(a, b, one, _EVEN_BYTES)
            c, d = _swap(c, d, one, _EVEN_BYTES)
            e, f = _swap(e, f, one, _EVEN_BYTES)
            g, h = _swap(g, h, one, _EVEN_BYTES)
            a, c = _swap(a, c, two, _EVEN_PAIRS)
            b, d = _swap(b, d, two, _EVEN_PAIRS)
            e, g = _swap(e, g, two, _EVEN_PAIRS)
            f, h = _swap(f, h, two, _EVEN_PAIRS)
            a, e = _swap(a, e, four, _LOWER_HALF)
            b, f = _swap(b, f, four, _LOWER_HALF)
            c, g = _swap(c, g, four, _LOWER_HALF)
            d, h = _swap(d, h, four, _LOWER_HALF)
            eight = (a, b, c, d, e, f, g, h)
            for step in range(kept):
                turned[unit + step, group] = eight[step]


@compiled(types.void, types.uint64[::1], types.int64, _TILES)
def draw(streams_: Any, units: int, tiles: Any) -> None:
    """Count how often each unit is drawn in each replicate: `streams.multiplicities`, laid out in tiles (tiles, units, LANES).

    `streams_` are the starts of the replicates' streams. Replicates are counted one after another, each in bytes that stay in the first
    cache, and turned 64 at a time.
    """
    words = (units + 7) // 8
    rows = np.zeros((LANES, words), np.uint64)
    counts = rows.view(np.uint8)
    drawn = np.empty(_BLOCK, np.uint32)
    limit = np.uint64(units)
    for index in range(tiles.shape[0]):
        rows[:] = np.uint64(0)
        for lane in range(min(LANES, streams_.shape[0] - index * LANES)):
            start = streams_[index * LANES + lane]
            for done in range(0, units, _BLOCK):
                size = min(_BLOCK, units - done)
                for step in range(size):
                    word = start + np.uint64(done + step + 1) * _GOLDEN
                    word = (word ^ (word >> np.uint64(30))) * _MIX_1
                    word = (word ^ (word >> np.uint64(27))) * _MIX_2
                    word ^= word >> np.uint64(31)
                    drawn[step] = np.uint32(((word >> np.uint64(32)) * limit) >> np.uint64(32))
                for step in range(size):
                    counts[lane, drawn[step]] += np.uint8(1)
        _turn(rows, tiles[index])
