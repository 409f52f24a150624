"""What holds for every arrangement of jobs in arrays, and how many arrays the worked sweeps become."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.spec import JobSpec, Resources, Stage
from orchestrator.backends.base import Need, Queued
from orchestrator.backends.slurm import groups, layout
from orchestrator.backends.slurm.layout import Layout, lay_out
from orchestrator.intents import Place
from tests.orchestrator.backends.slurm.submissions import queued, submissions
from tests.orchestrator.standin import chain, job
from tests.orchestrator.test_golden_plans import COUNTS, plan_of

MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def positions(made: Layout) -> dict[str, tuple[int, int, int, int]]:
    """Return part, element, lane and place in the lane of every job."""
    return {
        name: (number, index, lane, place)
        for number, part in enumerate(made.parts)
        for index, element in enumerate(part.elements)
        for lane, names in enumerate(element)
        for place, name in enumerate(names)
    }


def covers(need: Need, made: Layout, at: tuple[int, int, int, int], element: int) -> bool:
    """Tell whether an element that has such a need waits for the job that stands at a place."""
    if need.part != at[0]:
        return False
    return element == at[1] if need.kind == "aftercorr" else need.index in (None, at[1])


# --- what holds for all ------------------------------------------------------------------------------------------------------------------


@MANY
@given(jobs=submissions(), size=st.integers(1, 7), canary=st.sampled_from([0, 2, 4]))
def test_every_arrangement_is_sound(jobs: list[Queued], size: int, canary: int) -> None:
    check_all(jobs, lay_out(jobs, array_size=size, canary=canary), size)


def check_all(jobs: Sequence[Queued], made: Layout, size: int) -> None:
    at, known = positions(made), {one.spec.job_id: one for one in jobs}
    assert sorted(at) == sorted(known) and sum(len(part.jobs) for part in made.parts) == len(jobs), "every job exactly once"
    assert len(made.parts) == len(made.resources) == len(made.units)
    for number, part in enumerate(made.parts):
        assert 1 <= len(part.elements) <= size, "no index reaches the site's limit"
        assert all(need.part is None or need.part < number for need in part.needs), "parents first"
        assert len(set(part.needs)) == len(part.needs)
        for need in part.needs:
            check_need(need, made, number)
    for name, one in known.items():
        check_inputs(one, name, at, made)
        check_element(one, at[name], made)


def check_need(need: Need, made: Layout, number: int) -> None:
    assert need.kind in ("aftercorr", "afterok", "afterany")
    if need.part is None:
        assert need.native
        return
    parents = made.parts[need.part].elements
    if need.kind == "aftercorr":
        assert need.index is None
        assert 1 < len(parents) == len(made.parts[number].elements), "element i for element i, and as many"
    if need.index is not None:
        assert len(parents) > 1 and need.index < len(parents), "what is no array has no elements"
    if need.kind != "afterany":
        assert all(len(element) == 1 for element in parents), "an element of several lanes fails with each of them"


def check_inputs(one: Queued, name: str, at: Mapping[str, tuple[int, int, int, int]], made: Layout) -> None:
    part, element, lane, place = at[name]
    needs = made.parts[part].needs
    for item in one.spec.inputs:
        where = at.get(item.job)
        if where is None:
            continue
        if where[:3] == (part, element, lane):
            assert where[3] < place, "earlier in the same lane"
        else:
            assert any(covers(need, made, where, element) for need in needs), "every input that is submitted with it is waited for"
    for there in one.waits_for:
        assert any(need.native == there.native and need.index in (None, there.index) for need in needs)


def check_element(one: Queued, where: tuple[int, int, int, int], made: Layout) -> None:
    asked, lanes = made.resources[where[0]], made.parts[where[0]].elements[where[1]]
    assert len(lanes) <= max(1, one.resources.pack)
    assert asked.gpus >= one.resources.gpus and asked.cpus >= one.resources.cpus and asked.memory_mb >= one.resources.memory_mb
    if one.spec.stage is Stage.TRAIN:
        assert asked.time_minutes >= one.resources.time_minutes
        assert where[3] == 0, "a train job begins its lane"
    if not one.resources.fuse:
        assert len(lanes[where[2]]) == 1 or where[3] == 0


@MANY
@given(jobs=submissions(), size=st.integers(1, 7))
def test_what_shares_a_lane_is_one_chain_that_nothing_else_hangs_on(jobs: list[Queued], size: int) -> None:
    made, known = lay_out(jobs, array_size=size), {one.spec.job_id: one.spec for one in jobs}
    users: dict[str, set[str]] = {}
    for spec in known.values():
        for item in spec.inputs:
            users.setdefault(item.job, set()).add(spec.job_id)
    for part in made.parts:
        for names in (lane for element in part.elements for lane in element):
            for name in names[1:]:
                (upstream,) = {item.job for item in known[name].inputs}
                assert upstream in names and known[upstream].phase == known[name].phase
                assert users[upstream] <= set(names), "nobody waits for more than it needs"


@MANY
@given(jobs=submissions(), size=st.integers(1, 7), least=st.sampled_from([2, 3, 5]))
def test_canaries(jobs: list[Queued], size: int, least: int) -> None:
    made = lay_out(jobs, array_size=size, canary=least)
    rows: dict[object, list[tuple[int, int, object]]] = {}
    for number, units in enumerate(made.units):
        for unit in units:
            if unit.jobs[0].spec.stage is Stage.TRAIN and not unit.jobs[0].proven:
                rows.setdefault(unit.kind, []).append((number, unit.level, unit))
            assert not unit.is_canary or (unit.jobs[0].spec.stage is Stage.TRAIN and not unit.jobs[0].proven)
    for row in rows.values():
        canaries = [(number, level) for number, level, unit in row if unit.is_canary]  # type: ignore[attr-defined]
        assert len(canaries) == (1 if len(row) >= least else 0)
        for number, level in canaries:
            assert [len(made.parts[number].elements), len(made.parts[number].jobs)] == [1, len(made.units[number][0].jobs)], "it is alone"
            assert level == min(other for _, other, _ in row), "no other could start before it"
            others = {other for other, _, _ in row} - {number}
            for other in others:
                assert Need(kind="afterok", part=number) in made.parts[other].needs, "all others wait for it"


@MANY
@given(jobs=submissions(), size=st.integers(1, 7), canary=st.sampled_from([0, 2]))
def test_the_same_jobs_are_arranged_the_same(jobs: list[Queued], size: int, canary: int) -> None:
    assert lay_out(jobs, array_size=size, canary=canary).parts == lay_out(list(jobs), array_size=size, canary=canary).parts


# --- shapes that are known ---------------------------------------------------------------------------------------------------------------


def shape(made: Layout) -> list[tuple[int, Counter[str]]]:
    return [(len(part.elements), Counter(need.kind for need in part.needs)) for part in made.parts]


def test_chains_become_one_array() -> None:
    made = lay_out(queued(*(one for number in range(5) for one in chain(str(number)))), array_size=1000)
    assert shape(made) == [(5, Counter())]
    assert all(len(lane) == 3 for element in made.parts[0].elements for lane in element)


def test_children_of_their_own_follow_element_by_element_through_chunks() -> None:
    parents = [job(f"p{number}") for number in range(7)]
    children = [job(f"c{number}", (one,), phase="later") for number, one in enumerate(reversed(parents))]
    made = lay_out(queued(*parents, *children), array_size=3)
    assert [size for size, _ in shape(made)] == [3, 3, 1, 3, 3, 1]
    assert [part.needs for part in made.parts[3:]] == [
        (Need(kind="aftercorr", part=0),),
        (Need(kind="aftercorr", part=1),),
        (Need(kind="afterok", part=2),),
    ]


def test_several_children_each_follow_in_rows() -> None:
    """Thirty parents with three children each: more sets than are told apart, so there is a row of first, second and third children."""
    parents = [job(f"p{number}") for number in range(30)]
    children = [job(f"c{row}/{number}", (one,), phase="later") for number, one in enumerate(parents) for row in range(3)]
    made = lay_out(queued(*parents, *children), array_size=1000)
    assert shape(made) == [(30, Counter())] + [(30, Counter(aftercorr=1))] * 3


def test_rows_of_children_take_one_order_where_they_can_and_no_false_one() -> None:
    """Children of two phases each have a parent in both; one row has them crossed."""
    first, second = ([job(f"{name}{number}") if name == "p" else job(f"q{number}", phase="second") for number in range(4)] for name in "pq")
    crossed = [job(f"c{number}", (first[number], second[3 - number]), phase="crossed") for number in range(4)]
    straight = [job(f"d{number}", (second[number],), phase="straight") for number in range(4)]
    made = lay_out(queued(*first, *second, *crossed, *straight), array_size=1000)
    assert [Counter(need.kind for need in part.needs) for part in made.parts[2:]] == [Counter(aftercorr=2), Counter(aftercorr=1)]
    # What follows the straight row needs it in its own order, and there is no order left that suits both.
    after = [job(f"e{number}", (one,), phase="after") for number, one in enumerate(straight)]
    made = lay_out(queued(*first, *second, *crossed, *straight, *after), array_size=1000)
    found = {units[0].kind[0]: Counter(need.kind for need in part.needs) for part, units in zip(made.parts, made.units, strict=True)}
    assert found["crossed"] == Counter(aftercorr=1, afterany=1)
    assert found["straight"] == found["after"] == Counter(aftercorr=1)
    check_all(queued(*first, *second, *crossed, *straight, *after), made, 1000)


def test_children_of_few_parents_wait_for_their_own_element() -> None:
    parents = [job(f"p{number}") for number in range(3)]
    children = [job(f"c{number}", (parents[number % 3],), phase="later") for number in range(30)]
    made = lay_out(queued(*parents, *children), array_size=1000)
    assert [(len(part.elements), part.needs) for part in made.parts] == [
        (3, ()),
        *((10, (Need(kind="afterok", part=0, index=index),)) for index in range(3)),
    ]


def test_picks_over_a_tune_axis_follow_one_array_a_value() -> None:
    jobs = [tuned for point in range(9) for tuned in tune(f"t{point}", 3)]
    assert shape(lay_out(queued(*jobs), array_size=1000)) == [(9, Counter()), (9, Counter()), (9, Counter()), (9, Counter(aftercorr=3))]


def test_few_picks_over_many_candidates_do_not_cut_them_up() -> None:
    jobs = [tuned for point in range(2) for tuned in tune(f"t{point}", 20)]
    assert shape(lay_out(queued(*jobs), array_size=1000)) == [(40, Counter()), (1, Counter(afterok=20)), (1, Counter(afterok=20))]


def tune(name: str, values: int) -> Iterator[JobSpec]:
    trains = [job(f"{name}/{number}") for number in range(values)]
    yield from trains
    yield job(f"{name}/pick", tuple(trains), stage=Stage.PICK)


def test_one_pick_over_hundreds_waits_for_whole_arrays() -> None:
    made = lay_out(queued(*tune("t", 2500)), array_size=1000)
    assert made.parts[-1].needs == tuple(Need(kind="afterok", part=part) for part in range(3))


def test_elements_of_larger_arrays_are_listed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    trains = [job(str(number)) for number in range(40)]
    picks = [job(f"pick{number}", tuple(trains[number : number + 20]), stage=Stage.PICK) for number in range(3)]
    listed = lay_out(queued(*trains, *picks), array_size=1000)
    assert [Counter(need.kind for need in part.needs) for part in listed.parts[1:]] == [Counter(afterok=20)] * 3
    monkeypatch.setattr(layout, "LISTED_AT_MOST", 19)
    whole = lay_out(queued(*trains, *picks), array_size=1000)
    assert [part.needs for part in whole.parts[1:]] == [(Need(kind="afterany", part=0),)] * 3


def test_lanes_that_share_an_element_do_not_fall_together() -> None:
    packed = Resources(pack=2)
    parents = [job(f"p{number}", resources=packed) for number in range(4)]
    children = [job(f"c{number}", (parents[number // 2],), phase="later") for number in range(4)]
    made = lay_out(queued(*parents, *children), array_size=1000)
    assert [len(element) for element in made.parts[0].elements] == [2, 2]
    assert [part.needs for part in made.parts[1:]] == [(Need(kind="afterany", part=0, index=0),)] * 2


def test_what_is_in_the_queue_already_is_waited_for_in_the_same_way() -> None:
    waits = (Place(native="7", index=2), Place(native="8", index=None, is_shared=True))
    (one,) = queued(job("a"), waits_for=waits)
    (part,) = lay_out([one], array_size=1000).parts
    assert part.needs == (Need(kind="afterok", native="7", index=2), Need(kind="afterany", native="8"))
    others = [replace(one, waits_for=(Place(native="7", index=number),), spec=job(str(number))) for number in range(30)]
    (part,) = lay_out(others, array_size=1000).parts
    assert part.needs == (Need(kind="afterany", native="7"),), "too many to tell apart"


def test_an_evaluation_does_not_hold_back_what_follows_its_pick() -> None:
    train, pick, evaluate = chain("a")
    later = job("later", (pick,), phase="later")
    made = lay_out(queued(train, pick, evaluate, later), array_size=1000)
    assert [part.elements for part in made.parts] == [
        (((train.job_id, pick.job_id),),),
        (((evaluate.job_id,),),),
        (((later.job_id,),),),
    ]
    assert [part.needs for part in made.parts[1:]] == [(Need(kind="afterok", part=0),)] * 2


def test_the_canary_is_the_shortest_and_its_parents_do_not_wait_for_it() -> None:
    parents = [job(f"p{number}") for number in range(12)]
    children = [
        replace(job(f"c{number}", (one,), phase="later"), labels={"fraction": 1 - number / 24}) for number, one in enumerate(parents)
    ]
    made = lay_out(queued(*parents, *children), array_size=1000, canary=12)
    assert shape(made)[0] == (1, Counter()), "the parents' own canary"
    lonely = [part for part, units in zip(made.parts, made.units, strict=True) if units[0].is_canary]
    assert [part.jobs for part in lonely] == [(parents[0].job_id,), (children[-1].job_id,)]


def test_a_canary_is_among_those_that_start_first() -> None:
    """The shortest waits for another phase; the others need not."""
    parent = job("p")
    free = [replace(job(f"c{number}", phase="later"), labels={"fraction": 1.0}) for number in range(9)]
    short = replace(job("short", (parent,), phase="later"), labels={"fraction": 0.1})
    made = lay_out(queued(parent, *free, short), array_size=1000, canary=5)
    (canary,) = [units[0] for units in made.units if units[0].is_canary]
    assert canary.level == 0 and canary.jobs[0].spec.job_id == free[0].job_id


def test_a_proven_row_has_no_canary() -> None:
    jobs = queued(*(job(str(number)) for number in range(20)), proven=True)
    assert shape(lay_out(jobs, array_size=1000, canary=2)) == [(20, Counter())]


def test_more_kinds_of_waiting_than_are_told_apart_wait_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUPS_AT_MOST", 2)
    parents = [job(f"p{number}") for number in range(4)]
    children = [job(f"c{row}/{number}", (one,), phase="later") for number, one in enumerate(parents) for row in range(3)]
    assert shape(lay_out(queued(*parents, *children), array_size=1000)) == [(4, Counter()), (12, Counter(afterany=1))]


# --- the worked sweeps, and size ---------------------------------------------------------------------------------------------------------

#: Calls of sbatch for each worked sweep.
ARRAYS = {"moco_cxr": 15, "ark_transfer": 7, "unichest": 3, "ag_cnn": 11, "benchmark": 37, "presets": 12, "real_xrays": 2}


@pytest.mark.parametrize("name", COUNTS)
def test_the_worked_sweeps_become_few_arrays(name: str) -> None:
    plan = plan_of(name)
    made = lay_out(queued(*plan.jobs), array_size=1000, canary=10)
    assert len(made.parts) == ARRAYS[name]
    assert "afterany" not in {need.kind for part in made.parts for need in part.needs}, "nothing waits for more than it needs"
    assert sum(len(part.jobs) for part in made.parts) == len(plan.jobs)


def rows(count: int) -> list[JobSpec]:
    return [one for number in range(count // 3) for one in chain(str(number))]


def families(count: int) -> list[JobSpec]:
    parents = [job(f"p{number}") for number in range(count // 6)]
    return [*parents, *(job(f"c{row}/{number}", (one,), phase="later") for number, one in enumerate(parents) for row in range(5))]


def tunes(count: int) -> list[JobSpec]:
    return [one for point in range(count // 21) for one in tune(f"t{point}", 20)]


def mesh(count: int) -> list[JobSpec]:
    """Everything of a phase may wait for anything of the one before."""
    parents = [job(f"p{number}") for number in range(50)]
    chosen = ([parents[(number + step) % 50] for step in range(30)] for number in range(count))
    return [*parents, *(job(f"c{number}", tuple(these), phase="later") for number, these in enumerate(chosen))]


def calls(jobs: list[Queued]) -> int:
    """Count the calls of functions, Python's own among them, that an arrangement takes."""
    counted = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        lay_out(jobs, array_size=100, canary=10)
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize(("make", "arrays"), [(rows, 5), (families, 18), (tunes, 24), (mesh, 13)])
def test_ten_thousand_jobs_are_few_arrays_and_linear_work(make: Callable[[int], list[JobSpec]], arrays: int) -> None:
    assert len(lay_out(queued(*make(10_000)), array_size=1000, canary=10).parts) == arrays
    once, twice = (calls(queued(*make(count))) for count in (1500, 3000))
    assert twice < 2.2 * once
