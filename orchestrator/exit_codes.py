"""What `orchestrate` exits with."""

EXIT_DONE = 0
#: Some jobs failed, or were left.
EXIT_FAILED = 1
#: A person's mistake: the message says what to type.
EXIT_PERSON = 2
#: A fault of ours, with a traceback.
EXIT_OURS = 3
