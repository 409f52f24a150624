"""Versions of what trainers share, torch-free, so that a plan can put them into ids."""

from __future__ import annotations

#: Version of the loop's arithmetic (`trainers.loop`), part of every train job's id: bumped when the same job would give other weights.
LOOP_VERSION = 1
