"""What a command prints for a person, or for the next program in the pipe."""

from __future__ import annotations

import io
import os
import sys


def show(text: str) -> None:
    """On a terminal of whatever encoding, and for a reader who may not want all of it (`| head`)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must go somewhere, or the interpreter complains when it ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
