"""Submissions made at random: what is left of plans of several phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from jobs.spec import JobSpec, Resources, Stage
from orchestrator.backends.base import Queued
from orchestrator.intents import Place
from tests.orchestrator.standin import job


def queued(*jobs: JobSpec, **how: object) -> list[Queued]:
    return [Queued(spec=one, attempt=1, resources=one.resources, **how) for one in jobs]  # type: ignore[arg-type]


@st.composite
def submissions(draw: st.DrawFn) -> list[Queued]:
    """Return what is left of a plan of several phases: rows, tune axes, shared parents, packed rows, and parts that are in a queue."""
    jobs: list[Queued] = []
    before: list[Queued] = []
    for phase in range(draw(st.integers(1, 3))):
        before = draw(phases(f"phase{phase}", before))
        jobs += before
    # Some are done already, and some wait for what an earlier submission has in the queue.
    gone = draw(st.sets(st.sampled_from([one.spec.job_id for one in jobs]), max_size=len(jobs) // 2)) if draw(st.booleans()) else set()
    return [elsewhere(draw, one, gone) for one in jobs if one.spec.job_id not in gone]


def elsewhere(draw: st.DrawFn, one: Queued, gone: set[str]) -> Queued:
    waited = [item.job for item in one.spec.inputs if item.job in gone]
    if not waited or draw(st.booleans()):
        return one
    return replace(one, waits_for=tuple(Place(native=str(900 + int(name[:4], 16) % 3), index=int(name[:6], 16) % 7) for name in waited))


@st.composite
def phases(draw: st.DrawFn, name: str, before: Sequence[Queued]) -> list[Queued]:
    points, tuned = draw(st.integers(1, 6)), draw(st.sampled_from([1, 1, 2, 4]))
    asked = Resources(
        gpus=1, cpus=2, time_minutes=10, fuse=draw(st.sampled_from([True, True, False])), pack=draw(st.sampled_from([1, 1, 1, 3]))
    )
    evaluations, proven = draw(st.integers(0, 2)), draw(st.booleans())
    ends = [one for one in before if one.spec.stage is not Stage.EVALUATE]
    fan = draw(st.sampled_from(["one", "each", "some"]))
    jobs: list[JobSpec] = []
    for point in range(points):
        if not ends:
            parents: tuple[JobSpec, ...] = ()
        elif fan == "some":
            parents = tuple(one.spec for one in draw(st.lists(st.sampled_from(ends), max_size=3, unique_by=lambda one: one.spec.job_id)))
        else:
            parents = (ends[-1 if fan == "one" else point % len(ends)].spec,)
        trains = [job(f"{name}/{point}/{tune}", parents, phase=name, resources=asked) for tune in range(tuned)]
        trains = [replace(one, labels={"fraction": (points - point) / points}) for one in trains]
        pick = job(f"{name}/{point}/pick", tuple(trains), stage=Stage.PICK, phase=name, resources=replace(asked, gpus=0, time_minutes=5))
        jobs += trains
        if draw(st.sampled_from([True, True, True, False])):
            jobs.append(pick)
            jobs += [
                job(f"{name}/{point}/evaluate{number}", (pick,), stage=Stage.EVALUATE, phase=name, resources=asked)
                for number in range(evaluations)
            ]
    return queued(*jobs, proven=proven)
