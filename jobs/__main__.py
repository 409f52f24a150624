"""`python -m jobs run <job.json>`: the one command that a scheduler starts."""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.main import EXIT_USAGE, run

USAGE = "usage: python -m jobs run JOB_JSON [ATTEMPT]"


def main(arguments: list[str]) -> int:
    """Run one job and return the exit code of `jobs.main.run`."""
    if len(arguments) not in (2, 3) or arguments[0] != "run":
        sys.stderr.write(USAGE + "\n")
        return EXIT_USAGE
    return run(Path(arguments[1]), attempt=int(arguments[2]) if len(arguments) == 3 else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
