"""Searches of a plan: which train jobs compete under a scheduler that stops what loses, and by which rule.

A contest is a pick whose config holds `search`: its candidates compete among themselves and with nobody else, so that no arm is stopped
for being harder than another. The rule (scheduler, metric, mode, grace) is in the pick's id; it is not in those of the train jobs, which
are the same facts with a search and without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.spec import JobSpec, Json, Stage
from orchestrator.model import Search

#: Config key of a pick that holds the rule of the search that it chooses from.
SEARCH = "search"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """The train jobs among which one pick chooses, and the rule by which the losers are stopped."""

    pick: str
    phase: str
    #: As the pick's config holds it: scheduler, metric, mode, grace.
    rule: Mapping[str, Json]
    #: Train job -> epochs that it runs when nothing stops it.
    epochs: Mapping[str, int]


def rule_of(search: Search) -> dict[str, Json]:
    """Return what a pick's config says of a search."""
    return {"scheduler": search.scheduler, "metric": search.metric, "mode": search.mode, "grace": search.grace}


def rule_words(rule: Mapping[str, Json]) -> str:
    """Return a rule for people: `asha on val/auroc_macro`."""
    return f"{rule['scheduler']} on {rule['metric']}"


def search_notes(phase: str, search: Search, jobs: Iterable[JobSpec]) -> tuple[str, ...]:
    """Say what a search does to the jobs of its phase, on every backend."""
    said = (
        f"{phase}: {search.samples} samples an arm; on Ray Tune {rule_words(rule_of(search))} stops what loses, and which those are "
        "depends on who is faster; every other backend runs all samples in full"
    )
    longest = max((epochs_of(job) for job in jobs if job.stage is Stage.TRAIN), default=0)
    if longest > search.grace:
        return (said,)
    return said, f"{phase}: every trial gets {search.grace} epochs (search.grace) and none has more than {longest}, so nothing is stopped"


def epochs_of(job: JobSpec) -> int:
    """Return how many epochs a train job runs when nothing stops it; one for a method that is fitted at once."""
    epochs = job.config.get("epochs", 1)
    return epochs if isinstance(epochs, int) else 1


def contests_of(jobs: Iterable[JobSpec]) -> dict[str, Contest]:
    """Return the contest of each train job that takes part in one."""
    listed = list(jobs)
    picks = [job for job in listed if job.stage is Stage.PICK and SEARCH in job.config]
    if not picks:
        return {}
    by_id = {job.job_id: job for job in listed}
    found: dict[str, Contest] = {}
    for pick in picks:
        members = [job for candidate in pick.config["candidates"] for job in candidate["runs"].values()]
        contest = Contest(
            pick=pick.job_id,
            phase=pick.phase,
            rule=pick.config[SEARCH],
            epochs={job: epochs_of(by_id[job]) for job in members if job in by_id},
        )
        found |= dict.fromkeys(contest.epochs, contest)
    return found
