"""What `orchestrate` exits with."""

from __future__ import annotations

from collections.abc import Mapping

EXIT_DONE = 0
#: Some jobs failed, or were left.
EXIT_FAILED = 1
#: A person's mistake: the message says what to type.
EXIT_PERSON = 2
#: A fault of ours, with a traceback.
EXIT_OURS = 3

#: Every code, in words.
MEANINGS: Mapping[int, str] = {
    EXIT_DONE: "What was asked for is done.",
    EXIT_FAILED: "Some jobs failed, or were left; `orchestrate status` lists them, and the same command again goes on.",
    EXIT_PERSON: "Something must be put right first: the message says where, what is wrong and what to type. What was done is kept.",
    EXIT_OURS: "A fault of the program, with a traceback.",
}
