"""What `--json` prints, field by field: `python -m orchestrator.json_page > docs/json.md`. A test holds it against what commands print.

A path names a field: `jobs[].state` is `state` of each item of the list `jobs`, `counts.<state>` any key of `counts`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from orchestrator.key_tables import table

_JOB = "which job it is: its id, 64 characters; `unresolved` where data or weights are not in reach"
_CHANGES = {
    "new[]": "jobs that were never submitted",
    "reused[]": "jobs that are done",
    "unfinished[]": "jobs that were submitted and are not done",
    "changed[]": "jobs that stand in place of another of the plan before",
    "gone[]": "jobs of the plan before that the sweep no longer has",
}
_LINE = {"job": _JOB, "stage": "train, pick or evaluate", "trial": "its name for people"}
_WAITING = {"reason": "the scheduler's own word", "why": "the same for people", "then": "what would help; empty where only time does"}

PLAN: Mapping[str, str] = {
    "sweep": "the sweep's name",
    "jobs": "how many jobs the plan has",
    "counts.<kind>": "how many are new, reused, unfinished, changed, gone",
    "stages.<stage>": "how many jobs of each stage",
    "phases[]": "the phases, in order",
    "notes[]": "what there is to say of the plan, one sentence each",
    "sample": "whether `--sample` cut it",
    "made_data": "whether its data are made, so that numbers say nothing about patients",
    "contamination[]": "what the sweep allows training to have seen; only where there is some",
    "contamination[].card": "the card that is scored",
    "contamination[].split": "its split",
    "contamination[].phase": "the phase that is scored",
    "contamination[].trained_in": "the phase that trained",
    "contamination[].trained_on": "the card that it trained on",
    "contamination[].why": "what the two share",
    "unresolved": "why ids are not known; empty where they are",
    **{
        key: about for start, about in _CHANGES.items() for key, about in [(start, about), *((f"{start}.{k}", v) for k, v in _LINE.items())]
    },
    "changed[].before": "the id of the job that it stands in place of",
    "changed[].why[]": "what differs, one line each",
    "cost.work_seconds": "work that is left, by what the same phase and stage took here; null without history",
    "cost.gpu_hours_by_history": "GPU-hours of it, by history",
    "cost.gpu_hours_by_limits": "GPU-hours at most, of what never ran here, by time limits",
    "gpu_hours": "GPU-hours that the sweep used; null without a scheduler",
    "gpu_hours_budget": "`limits: {gpu_hours: ...}`; null without one",
    "starts": "when it would start, where a scheduler keeps a queue; else null",
    "starts.starts[]": "allocations that ask for the same",
    "starts.starts[].asked": "what is asked for, in words",
    "starts.starts[].allocations": "how many",
    "starts.starts[].when": "when the first would start, local time; empty where the scheduler says none",
    "starts.starts[].note": "what the scheduler said instead",
    "starts.note": "why less is said than could be",
}
SUBMIT: Mapping[str, str] = {
    "sweep": "the sweep's name",
    "submitted": "attempts that were handed over or run",
    "counts.<state>": "how many jobs stand where at the end",
    "failed[]": "ids of jobs that failed; candidates that lost a pick are not among them",
    "halted": "whether a person stopped it",
    "exit_code": "what the command exits with",
}
STATUS: Mapping[str, str] = {
    "[].sweep": "the sweep's name",
    "[].total": "how many jobs it has",
    "[].done": "how many need nothing more",
    "[].counts.<state>": "how many stand where",
    "[].work_left_seconds": "work that is left, by what was done here; null without history",
    "[].groups[]": "each phase and stage",
    "[].groups[].phase": "its phase",
    "[].groups[].stage": "its stage",
    "[].groups[].total": "how many jobs it has",
    "[].groups[].done": "how many need nothing more",
    "[].groups[].lost": "candidates that diverged or collapsed",
    "[].groups[].counts.<state>": "how many stand where",
    "[].groups[].median_seconds": "what one took; null before the first has succeeded",
    "[].jobs[]": "every job",
    "[].jobs[].job": "its id, 64 characters",
    "[].jobs[].phase": "its phase",
    "[].jobs[].stage": "its stage",
    "[].jobs[].trial": "its name for people",
    "[].jobs[].state": "NEW, SUBMITTED, RUNNING, SUCCEEDED, FAILED, STOPPED, CANCELLED, INTERRUPTED or UNKNOWN",
    "[].jobs[].attempt": "the last attempt; 0 before the first",
    "[].jobs[].failure": "the kind of failure; null where there is none",
    "[].jobs[].message": "what happened and what to do; empty for a job in order",
    "[].jobs[].seconds": "how long the last attempt took or has taken; null before it started",
    "[].jobs[].epoch": "the epoch of its last checkpoint; null where none is told",
    "[].jobs[].reason": "why a scheduler lets it wait, in its own word",
    "[].waiting[]": "why jobs wait in a queue, the most frequent reason first",
    "[].waiting[].jobs": "how many wait for that reason",
    "[].waiting[].such_as": "the id of one of them",
    **{f"[].waiting[].{key}": about for key, about in _WAITING.items()},
    "[].brake": "what keeps the whole sweep from starting; empty where nothing does",
    "[].gpu_hours": "GPU-hours that it used; null without a scheduler",
    "[].gpu_hours_budget": "`limits: {gpu_hours: ...}`; null without one",
    "[].scheduler_silent": "why nothing is known beyond the files; empty where the scheduler answered, and where there is none",
    "[].efficiency": "with `--efficiency`, where a scheduler keeps accounts",
    "[].efficiency.rows[]": "each phase",
    "[].efficiency.rows[].phase": "its name",
    "[].efficiency.rows[].stages": "the stages that share its allocations",
    "[].efficiency.rows[].allocations": "how many allocations",
    "[].efficiency.rows[].runs": "how often one was started: a requeue is a further run",
    "[].efficiency.rows[].gpu_hours": "GPU-hours of all",
    "[].efficiency.rows[].lost_gpu_hours": "of runs that ended otherwise than well",
    "[].efficiency.rows[].lost_runs.<end>": "how many such runs, by the scheduler's word for the end",
    "[].efficiency.rows[].memory_asked_mb": "memory asked for, megabytes of a node; null where it is not known",
    "[].efficiency.rows[].memory_used_mb": "the most that was used; null where it is not known",
    "[].efficiency.rows[].hours_asked": "time limit in hours; null where it is not known",
    "[].efficiency.rows[].hours_used": "the longest run that ended well, in hours; null before the first",
    "[].efficiency.rows[].advice[]": "what to write next time, one sentence each",
    "[].efficiency.gpu_hours": "GPU-hours of all phases",
    "[].efficiency.note": "why less is said than could be",
}
EXPLAIN: Mapping[str, str] = {
    "job": "its id, 64 characters",
    "what": "its stage and its name for people",
    "sweep": "the sweep that it was planned for",
    "state": "where it stands, as in `status`",
    "attempt": "its last attempt",
    "failure": "the kind of failure; null where there is none",
    "why": "what happened, in words",
    "waits_for[]": "inputs that are not there yet",
    "waiting": "why it waits in a queue, or would not start; else null",
    **{f"waiting.{key}": about for key, about in _WAITING.items()},
    "waiting.brake": "what keeps its whole sweep from starting; only where something does",
    "scheduler_silent": "as in `status`",
    "where": "the scheduler's number for it, and its node",
    "failed_nodes[]": "nodes that failed under it",
    "folder": "where its files are",
    "log": "the file whose last lines tell why it has no result; null where none does",
    "last_lines[]": "those lines",
    "would_run_again[]": "what the sweep file asks for now that differs, one line each",
    "trainer": "its trainer, and the version",
    "trainer_package": "the installed package that the trainer comes from; empty for ours",
    "config.<key>": "its config, defaults included",
    "code": "the copy of the code that it runs; null where jobs run the code that is installed",
    "code_now": "the code that is installed",
}
SYNC: Mapping[str, str] = {
    "<sweep>.runs": "runs of the sweep in MLflow",
    "<sweep>.created": "how many of them are new",
    "<sweep>.updated": "how many were brought up to date",
}
DOCTOR: Mapping[str, str] = {
    "[].what": "what was looked at",
    "[].ok": "whether it is in order",
    "[].text": "what was found, or what to type",
}
DATA_LIST: Mapping[str, str] = {
    "[].card": "the card's name",
    "[].title": "the data set's name",
    "[].where": "where it is on this machine, or why it is not",
    "[].labels": "how many labels it has",
    "[].licence": "its licence",
}
DATA_VERIFY: Mapping[str, str] = {
    "verified": "what was typed",
    "errors": "how many findings are errors",
    "warnings": "how many are warnings",
    "findings[]": "everything that was found",
    "findings[].level": "ok, warning or error",
    "findings[].text": "what was found, in words",
    "same_image.bits": "bits of a fingerprint",
    "same_image.most_different_bits": "so many may differ in two of the same image",
    "same_image.least_rank_correlation": "and so far must their thumbnails agree",
    "copies[]": "each pair of sets that was compared for images that are the same",
    "copies[].first": "one set",
    "copies[].second": "the other",
    "copies[].cut": "whether there were more pairs than are looked for",
    "copies[].pairs[]": "images that are the same: both with their split and patient, `bits` and `correlation`",
}
DATA_DRAWS: Mapping[str, str] = {
    "[].file": "what the file of the draw is called",
    "[].card": "the card that it is drawn from",
    "[].phase": "the phase that learns from it; empty of a card",
    "[].draw": "what was asked for: the same in every arm",
    "[].sha256": "the digest of its image ids",
    "[].by": "what was drawn: patient, study or image",
    "[].n_units": "how many of those",
    "[].n_patients": "patients in it",
    "[].n_studies": "studies in it",
    "[].n_images": "images in it",
    "[].n_positive_units": "units with a finding",
    "[].n_pool_units": "units that it was drawn from",
}
CHECK: Mapping[str, str] = {
    "faults[]": "numbers that differ from the report, and names that it does not have",
    "faults[].file": "the text",
    "faults[].line": "the line in it",
    "faults[].column": "and the column",
    "faults[].says": "what the text says",
    "faults[].report": "what the report says; empty where it says nothing",
    "faults[].name": "the number's name in the report",
    "faults[].message": "the same for people",
    "named": "numbers that agree, found by name",
    "typed": "numbers that agree, found by what stands beside them",
    "unchecked": "numbers beside no name of the report",
    "files[]": "the texts that were read",
    "report": "the report that they were held against",
}
WEIGHTS_INSPECT: Mapping[str, str] = {
    "path": "the file",
    "file_bytes": "its size",
    "sha256": "its digest",
    "container": "how the file is packed",
    "kind": "the format, as a word",
    "title": "the format, for people",
    "written_by": "whose code wrote a file of MoCo; empty where its settings do not say",
    "arch[]": "the architectures with these names and shapes",
    "stated_arch": "the architecture that the file states; empty where it states none",
    "pool": "`avg` where it takes the mean of patches, which its architecture does not by itself",
    "epoch": "the epoch that the file states; null where it states none",
    "lr": "the learning rate when it was written; null where no optimizer is beside the weights",
    "head": "what sits on the backbone; null where nothing does",
    "head.name": "what the file calls it",
    "head.role": "projection or classifier; empty where the file does not say",
    "head.layers[]": "inputs and outputs of each layer",
    "head.mlp": "whether it has a hidden layer",
    "channels": "input channels",
    "tensors": "how many tensors there are",
    "parameters": "how many parameters there are",
    "backbone_parameters": "how many of them in the backbone",
    "parts.<part>": "how many tensors belong to what",
    "beside[]": "what else is in the file",
    "not_finite": "tensors with values that are not finite",
    "name": "what the file's name says; null for a name that is not known",
    "name.says": "the same for people",
    "name.arch": "the architecture by the name",
    "name.imagenet": "whether it started from ImageNet, by the name",
    "name.lr": "the learning rate by the name",
    "name.batch_size": "the batch size by the name",
    "name.epoch": "the epoch by the name",
    "name.mlp": "whether its head has a hidden layer, by the name",
    "disagreements[]": "where name and content differ",
    "made_from.<key>": "where a file that was converted here comes from",
}
WEIGHTS_CONVERT: Mapping[str, str] = {
    "source": "the file that was read",
    "source_sha256": "its digest",
    "source_kind": "its format",
    "to": "the format that was written",
    "out": "the file that was written",
    "sha256": "its digest",
    "file_bytes": "its size",
    "arch": "the architecture",
    "part": "which of several networks",
    "channels": "input channels",
    "used.<key>": "key of the file: key of what was written",
    "dropped.<part>[]": "keys that were dropped, by what they belong to",
    "left_behind[]": "entries beside the weights that are not carried over",
    "filled[]": "keys that the file lacks and that are written as zero",
    "adapted[]": "tensors that were changed, and how",
    "difference": "largest difference between features of the network read and of the one written, over the largest feature",
    "notes[]": "what there is to say besides",
}
#: Command -> what it prints with `--json`, and what there is to say besides.
COMMANDS: Mapping[str, Mapping[str, str]] = {
    "orchestrate plan": PLAN,
    "orchestrate submit": SUBMIT,
    "orchestrate status": STATUS,
    "orchestrate explain": EXPLAIN,
    "orchestrate sync": SYNC,
    "orchestrate doctor": DOCTOR,
    "orchestrate data list": DATA_LIST,
    "orchestrate data verify": DATA_VERIFY,
    "orchestrate data draws": DATA_DRAWS,
    "orchestrate weights inspect": WEIGHTS_INSPECT,
    "orchestrate weights convert": WEIGHTS_CONVERT,
    "orchestrate report --check": CHECK,
}
_HEAD = """# JSON for machines

Written from the code by `make docs`; a test holds it against what the commands print.

`--json` prints one JSON value to standard output and nothing else. Messages of what went wrong go to standard error, and exit codes are
[as ever](reference.md#exit-codes). A path names a field: `jobs[].state` is `state` of each item of the list `jobs`, and
`counts.<state>` any key of `counts`. New fields may come; none of these goes without a line in the changelog.

`orchestrate report SWEEP --json` prints the whole `report.json`, which says its own format in `schema`.
`orchestrate data verify CARD --json FILE` writes a file.
"""


def page() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for command, fields in COMMANDS.items():
        lines += [f"## `{command}`", "", *table(("field", "what it is"), [(f"`{path}`", about) for path, about in fields.items()]), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
