"""Jobs on Slurm, through submitit: arrays that run on when the client has gone. The only import of submitit is in this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.backends.slurm.backend import Slurm
    from orchestrator.model import ClusterConfig


def make(cluster: ClusterConfig) -> Slurm:
    """Make the backend for a cluster config."""
    # A node imports this package to reach its supervisor, and needs nothing else of it.
    from orchestrator.backends.slurm.backend import Slurm

    return Slurm(cluster)
