"""The rows of the bench `moco`: ratios of medians, and no aim for a CPU that has no bfloat16."""

from __future__ import annotations

from pathlib import Path

from tests.bench.bench_moco import CONTESTANTS, contest_rows, has_bfloat16, leaks

SECONDS = dict(zip(CONTESTANTS, (2.0, 5.0, 6.0, 4.0, 2.5, 2.2, 1.6), strict=True))
TIMES = {name: [seconds, 9 * seconds, seconds] for name, seconds in SECONDS.items()}


def test_rates_are_of_medians_and_set_against_ours() -> None:
    rows = contest_rows(TIMES, native=True)
    assert [row.against.split(" ")[0] for row in rows] == ["2.50", "3.00", "1.25", "1.10", "1.25", "1.50", "1.25"]
    assert [row.against.partition("; ")[2] for row in rows] == ["aim 2.4", "aim 2.4", "aim 1.1", "aim 1.1", "", "", ""]
    assert rows[0].ours == "8.0 pairs a second (ours bf16)" and rows[0].beside == "3.2 pairs a second (published fp32)"


def test_a_cpu_without_bfloat16_has_no_aim_against_fp32(tmp_path: Path) -> None:
    assert [row.against.partition("; ")[2] for row in contest_rows(TIMES, native=False)][:3] == [
        "no aim, this CPU has no bfloat16",
        "no aim, this CPU has no bfloat16",
        "aim 1.1",
    ]
    listing = tmp_path / "cpuinfo"
    listing.write_text("flags : avx2 avx512f\n", encoding="utf-8")
    assert not has_bfloat16(listing)
    listing.write_text("flags : avx512f avx512_bf16\n", encoding="utf-8")
    assert has_bfloat16(listing) and not has_bfloat16(tmp_path / "absent")


def test_what_is_given_away_stands_from_all_to_chance() -> None:
    shares = [float(row.ours.split(" ")[0]) for row in leaks()]
    assert len(shares) == 6 and max(shares) == shares[0] > 99 and min(shares) == shares[-1] < 3
