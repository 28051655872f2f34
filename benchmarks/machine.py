"""The line that every benchmark prints first: date and machine."""

from __future__ import annotations

import datetime
import os
import platform


def describe_machine() -> str:
    """Date, cores, memory, processor and library version."""
    import torch

    import newsfactor

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{datetime.date.today()}, {cores} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, newsfactor {newsfactor.__version__}"
    )
