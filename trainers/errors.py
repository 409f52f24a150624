"""What can go wrong on the node, as a tree.

Error                       a sentence for a person: what, where, what to type
├── DataError               a missing root, an unreadable image, a column that is not there
│   └── SplitClosed         a split was asked for that the stage may not open
├── WeightsError            weights that do not fit, or cannot be had without a network
├── Diverged                the loss is not finite; a tune point that diverges loses, it is not retried
├── Collapsed               a method's own guard says that it learnt nothing
├── DiskFull                a write failed for want of space; what was written before is intact
└── GroupBroken             processes that train one model lost each other; the cause is with another of them
"""

from __future__ import annotations


class Error(Exception):
    """A fault with a message for a person: no traceback is shown for it."""

    exit_code = 2
    #: The name of a `jobs.spec.FailureKind`.
    failure = "ERROR"


class DataError(Error):
    """The data on disk is not what its card says."""

    failure = "BAD_DATA"


class SplitClosed(DataError):
    """A split was asked for that this stage may not open, or not yet."""


class WeightsError(Error):
    """Weights are missing, or do not fit the model they are for."""


class Diverged(Error):
    """The loss became NaN or infinite."""

    failure = "DIVERGED"


class Collapsed(Error):
    """The method's guard found that the representation collapsed."""

    failure = "COLLAPSED"


class DiskFull(Error):
    """A file could not be written for want of space or quota."""

    failure = "DISK_FULL"


class GroupBroken(Error):
    """The processes that train one model together lost each other."""
