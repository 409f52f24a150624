"""What a scheduler says of a job: live, ended how, or nothing that can be believed."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.spec import FailureKind, State

#: The word for what a scheduler says nothing of though it was given it. Not one of a scheduler's own.
NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One element of a scheduler's queue or records, as it concerns each of its jobs.

    `state` is SUBMITTED (queued, held, requeued), RUNNING, SUCCEEDED (it ended with exit code 0), FAILED, CANCELLED, or UNKNOWN (it was
    asked, and the answer says nothing that can be relied on).
    """

    state: State
    #: How the scheduler ended it, where it did.
    failure: FailureKind | None = None
    #: The scheduler's own word for where it stands.
    word: str = ""
    #: Why it waits, or on which node it runs or ran.
    reason: str = ""
    node: str = ""
    #: What the scheduler calls it.
    native: str = ""
    #: How its process ended, as a shell says it (128 and the signal), where the scheduler tells.
    exit_code: int | None = None

    @property
    def is_live(self) -> bool:
        """Tell whether the scheduler still answers for it."""
        return self.state in (State.SUBMITTED, State.RUNNING)

    @property
    def is_missing(self) -> bool:
        """Tell whether the scheduler does not know it, and was not asked often enough to be believed."""
        return self.state is State.UNKNOWN and self.word == NOT_FOUND

    def is_of(self, native: str) -> bool:
        """Tell whether it is an element of that submission: an answer may be older than the submission that has the job by now."""
        return self.native.partition("_")[0] in ("", native)
