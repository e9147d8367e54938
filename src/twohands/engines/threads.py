"""How many threads PyTorch computes with.

Its OpenMP threads spin while they wait for one another. On a machine with two cores, one of them busy with something else, a photo then takes ten
times as long; with one thread it takes no longer than on an idle machine's one core. The networks here are small: a second thread gains a third
at best, and what is run often is run by OpenVINO, whose threads do not spin."""

import os
import sys
from collections.abc import Mapping

import torch


def threads_wanted(environment: Mapping[str, str]) -> int | None:
    """1, or None (leave it) where the user has said how OpenMP's threads shall behave."""
    if environment.get("OMP_NUM_THREADS") or environment.get("MKL_NUM_THREADS"):
        return None
    return None if environment.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" else 1


def settle_threads(threads: int | None = None) -> int:
    """Sets PyTorch's threads for this process: `threads`, else what `threads_wanted` says. Returns how many there are."""
    wanted = threads if threads is not None else threads_wanted(os.environ)
    if wanted is not None and wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
