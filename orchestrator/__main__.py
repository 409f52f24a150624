"""`python -m orchestrator` is `orchestrate`."""

import sys

if __name__ == "__main__":
    # Before anything is imported that an older Python cannot read.
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.stderr.write(f"Python 3.11 or newer is needed, this is {sys.version_info[0]}.{sys.version_info[1]}: type `make setup`\n")
        sys.exit(2)
    from orchestrator.cli import main

    main()
