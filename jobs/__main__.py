"""`python -m jobs run <job.json>`: the one command that a scheduler starts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from jobs.company import Company
from jobs.main import run


def main(arguments: list[str]) -> int:
    """Run one job and return the exit code of `jobs.main.run`. A command that cannot be raises SystemExit with `EXIT_USAGE`."""
    parser = argparse.ArgumentParser(prog="python -m jobs", allow_abbrev=False)
    command = parser.add_subparsers(required=True, metavar="run").add_parser("run", help="run the job of a job.json", allow_abbrev=False)
    command.add_argument("job_file", type=Path, metavar="JOB_JSON")
    command.add_argument("--attempt", type=int, help="the number that a submission recorded; the next free one by default")
    company = command.add_argument_group("one of several processes, all four together")
    company.add_argument("--rank", type=int, help="which process of the job, from 0; the first alone writes")
    company.add_argument("--world", type=int, help="how many processes the job has")
    company.add_argument("--local-rank", type=int, help="which process of its node, from 0")
    company.add_argument("--meeting", metavar="KEY", help="a name that all processes of this start share, and no other start of this job")
    found = parser.parse_args(arguments)
    named = [found.rank, found.world, found.local_rank, found.meeting]
    if all(value is None for value in named):
        return run(found.job_file, attempt=found.attempt)
    if any(value is None for value in named):
        command.error("--rank, --world, --local-rank and --meeting go together")
    try:
        together = Company(rank=found.rank, world=found.world, local_rank=found.local_rank, key=found.meeting)
    except ValueError as error:
        command.error(str(error))
    code = run(found.job_file, attempt=found.attempt, company=together)
    sys.stdout.flush()
    sys.stderr.flush()
    # A process group of GPUs that broke may wait for the others for ever when the interpreter takes it down.
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
