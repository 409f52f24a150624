"""What the operating system refuses, as a sentence for the person who can put it right."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

_ROOM = "free some space, or set `run_root` in the cluster config to another disk, then type the same command again: what was done is kept"
_RIGHTS = "correct its permissions, or name another place in the cluster config, then type the same command again"
_PLACE = "correct that path, in the cluster config or in what was typed"

#: Error numbers that are about a person's disk, rights or paths, and what to do. A file that is not there is not among them: whoever
#: reads one says so, and where nobody does it is a fault of ours.
_ADVICE: Mapping[int, str] = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: _PLACE,
    errno.EISDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.ENAMETOOLONG: _PLACE,
    errno.ELOOP: _PLACE,
    errno.EIO: "the disk or the network file system fails: look at it, then type the same command again",
    errno.ESTALE: "the network file system was mounted anew: type the same command again",
}


def in_words(error: OSError) -> str | None:
    """Return the sentence for what a person can put right; None for a fault of ours."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return None
    place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file"
    return f"{place}: {(error.strerror or 'cannot be used').lower()}; {advice}"
