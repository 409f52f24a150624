"""Mirror files into MLflow, one way and idempotent. Only this file and `tracking_store.py` import mlflow.

Experiment = sweep; one run per train job (a trial), flat, with every grouping key on the run itself. The run of a winner also carries
what its pick saw and its test metrics. One more run, tagged `orch.kind=sweep`, holds the report.

What a run should hold is an `Entry`, a function of the files. A run whose tag `orch.digest` is the entry's is left alone. Otherwise what
is missing is sent; a run that says something else than the files (a label was renamed, a winner is scored with other settings) is
replaced, because params and metric points cannot be taken back. A run whose job the plan no longer has is deleted the way the UI deletes,
and comes back with its job. So the mirror after a sync is the same as one that is built from nothing, and several run roots may share one.
Runs without `orch.kind`, and tags that people set, are theirs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from jobs.paths import RunPaths
from orchestrator.ledger import JobStatus
from orchestrator.mirror import rows
from orchestrator.mirror.curves import experiment_note, report_entry
from orchestrator.mirror.entries import SWEEP, Entry, Input, Model, Point, content_digest
from orchestrator.mirror.found import DIGEST, JOB, KIND, Found, found_in_file, found_of, without_twins
from orchestrator.mirror.linked_rows import SOURCE_KIND, new_model_id, tags_of
from orchestrator.mirror.sent import (
    CONTEXT,
    PICTURES,
    POINTS,
    contradicts,
    file_tags,
    fresh_pictures,
    is_about_files,
    sent_files,
    sent_inputs,
    sent_points,
    shown_tables,
)
from orchestrator.mirror.stores import (
    is_server,
    sqlite_file,
)
from orchestrator.mirror.trials import trial_entries
from orchestrator.mirror.views import is_ours, saved_views
from orchestrator.model import Plan
from orchestrator.tracking_store import answering, experiment_of, in_parts, reach_server, surely

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel, Run

RUNS_A_PAGE = 1000
#: Tags of ours that a run may lose again (a failure, once the job has succeeded).
_PASSING = ("failure", "failure_message", "picked", "checkpoint", "parent_jobs", "draw_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a sync did. `runs` counts the trials and the report that are in MLflow now; a second sync has 0 in everything else."""

    experiment: str
    runs: int
    created: int = 0
    updated: int = 0
    #: Runs that said something else than the files, made anew.
    replaced: int = 0
    #: Runs whose job the plan no longer has.
    removed: int = 0
    #: Metric points sent.
    metrics: int = 0


# --- the store ---------------------------------------------------------------------------------------------------------------------------


def experiment_name(plan: Plan) -> str:
    """Return the name of a plan's experiment; a sample run never lands among real ones."""
    return f"{plan.sweep} (sample)" if plan.sample else plan.sweep


def prepare(run: RunPaths, experiment: str, *, uri: str = "") -> str:
    """Create database and experiment, once, and return the experiment's id.

    MLflow's own first use is not safe with several processes (a cold race leaves a half-migrated database), so it happens here, in
    the client, under a lock, before anything is submitted. Raises TrackingError with what to type.
    """
    with answering(run, uri) as client:
        return experiment_of(client, run, experiment, uri).experiment_id


# --- files -> MLflow ---------------------------------------------------------------------------------------------------------------------


def sync(plan: Plan, run: RunPaths, *, uri: str = "", code: str = "", statuses: Mapping[str, JobStatus] | None = None) -> Synced:
    """Bring the mirror up to what the files say; run twice, it changes nothing.

    `code` is the version of the code for the tag `git_sha` of runs that are new. `statuses` is what a caller who asked the scheduler knows
    of the train jobs; without it the files are asked. Raises TrackingError when the store cannot be used.
    """
    with answering(run, uri) as client:
        experiment = experiment_of(client, run, experiment_name(plan), uri)
        mirror = _Mirror(client, experiment)
        trials, last = 0, 0
        for entry in trial_entries(plan, run, code=code, statuses=statuses):
            mirror.put(entry)
            trials, last = trials + 1, max(last, entry.ended or entry.started)
        report = report_entry(plan, run, time=last)
        if report is not None:
            mirror.put(report)
        mirror.settle(chain(trial_entries(plan, run, code=code, statuses=statuses), [] if report is None else [report]))
        mirror.remove_others(job.job_id for job in plan.jobs)
        _describe(client, experiment, plan, () if report is None else report.points)
        return Synced(experiment=experiment.experiment_id, runs=trials + (report is not None), **mirror.counts)


def _describe(client: MlflowClient, experiment: Experiment, plan: Plan, curves: Sequence[Point]) -> None:
    """Give an experiment its note and its views; a view that somebody changed stays as it is."""
    tags = {"mlflow.note.content": experiment_note(plan), "orch.sweep": plan.sweep, "mlflow.experimentKind": "custom_model_development"}
    views = {key: value for key, value in saved_views(plan, curves).items() if is_ours(experiment.tags.get(key))}
    for key, value in (tags | views).items():
        if experiment.tags.get(key) != value:
            surely(client, partial(client.set_experiment_tag, experiment.experiment_id, key, value))


class _Mirror:
    """The runs of one experiment."""

    def __init__(self, client: MlflowClient, experiment: Experiment) -> None:
        self._client = client
        self._experiment: str = experiment.experiment_id
        self._artifacts: str = experiment.artifact_location
        #: A sqlite store whose tables are known: most of a run is written into it as rows.
        self._file = file if (file := sqlite_file(client.tracking_uri)) is not None and rows.are_known(file) else None
        self._known, self._spare = surely(client, self._find)
        #: The digest of each entry that a run was sent here.
        self._sent: dict[str, str] = {}
        self._in_doubt = False
        self.counts = {"created": 0, "updated": 0, "replaced": 0, "removed": 0, "metrics": 0}

    def _find(self) -> tuple[dict[str, Found], list[Found]]:
        """Return our runs by key, and those that stand for a key a second time."""
        database = sqlite_file(self._client.tracking_uri)
        found = None if database is None else found_in_file(database, self._experiment)
        return without_twins(found_of(self._search()) if found is None else found)

    def _search(self, question: str = "") -> Iterator[Run]:
        """Yield every run of the experiment that answers to a question in MLflow's words, those that are deleted too."""
        from mlflow.entities import ViewType

        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], question, ViewType.ALL, RUNS_A_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def put(self, entry: Entry) -> None:
        """Make the run of an entry say what the entry says."""
        is_new = entry.key not in self._known
        done = surely(self._client, partial(self._put, entry), partial(self._look_for, entry.key))
        if done:
            self.counts["created" if is_new else done] += 1

    def _put(self, entry: Entry) -> str:
        """Do what is left to do for an entry, and return what was done, as `counts` names it."""
        found = self._known.get(entry.key)
        if found is None:
            self._create(entry, {})
            return "created"
        if found.digest == entry.digest() and not found.is_deleted:
            return ""
        return self._amend(found, entry)

    def _look_for(self, key: str) -> None:
        """Ask the server for the runs of a key: whoever made one, and whether or not that was answered."""
        self._in_doubt = True
        reach_server(self._client.tracking_uri)
        self._known.pop(key, None)
        self._known |= without_twins(found_of(self._search(f"tags.{JOB} = '{key}'")))[0]

    def _amend(self, found: Found, entry: Entry) -> str:
        known: Run = found.run or self._client.get_run(found.identity)
        if contradicts(known, entry):
            self._replace(known, entry)
            return "replaced"
        if found.is_deleted:
            self._client.restore_run(found.identity)
        self._fill(found.identity, entry, known)
        return "updated"

    def settle(self, entries: Iterable[Entry]) -> None:
        """Look again at a server where something was made, and nothing kept others from making it too, or an answer was missing.

        Of several runs for one job, everybody who looks chooses the same one to stay. It need not be the one that was filled here, and
        whoever made it may be gone: it is filled here too. `entries` are asked for only where some are.
        """
        if not (is_server(self._client.tracking_uri) and (self._in_doubt or self.counts["created"] or self.counts["replaced"])):
            return
        self._known, self._spare = surely(self._client, self._find)
        behind = {key for key, digest in self._sent.items() if key not in self._known or self._known[key].digest != digest}
        for entry in entries if behind else ():
            if entry.key in behind:
                self.put(entry)

    def remove_others(self, planned: Iterable[str]) -> None:
        """Delete, as the UI does, runs whose job is not planned any more, and runs that stand for a job a second time.

        A run of a planned job without files stays: they may lie in another run root.
        """
        wanted = {*planned, SWEEP}
        for one in [*self._spare, *(found for key, found in self._known.items() if key not in wanted)]:
            if not one.is_deleted:
                surely(self._client, partial(self._put_away, one.identity))
                self.counts["removed"] += 1

    def _put_away(self, identity: str) -> None:
        """Delete a run as the UI does, and its models, which would be listed still.

        A model cannot be brought back: should the run come back, its empty digest says that something is missing.
        """
        models = self._models_of(identity)
        if models:
            self._client.set_tag(identity, DIGEST, "")
        for one in models:
            self._client.delete_logged_model(one.model_id)
        self._client.delete_run(identity)

    def _create(self, entry: Entry, inherited: Mapping[str, str]) -> None:
        kind = "sweep" if entry.key == SWEEP else "trial"
        tags = {**entry.first_tags, **inherited, **entry.tags, KIND: kind, JOB: entry.key}
        made = self._client.create_run(self._experiment, start_time=entry.started, tags=tags, run_name=entry.name)
        self._fill(made.info.run_id, entry, made, is_new=True)

    def _replace(self, known: Run, entry: Entry) -> None:
        """Delete a run that says something else, and make it anew with the tags that people gave it."""
        if not _is_deleted(known):
            self._put_away(known.info.run_id)
        ours = {DIGEST, POINTS, PICTURES, "mlflow.runName", *_PASSING}
        self._create(entry, {key: value for key, value in known.data.tags.items() if key not in ours and not is_about_files(key)})

    def _fill(self, identity: str, entry: Entry, known: Run, *, is_new: bool = False) -> None:
        """Send what a run does not have yet; the tags that say so go last, so that a kill in between only repeats."""
        params, metrics, tags = known.data.params, known.data.metrics, known.data.tags
        for key in _PASSING:
            if key in tags and key not in entry.tags:
                self._client.delete_tag(identity, key)
        sent, _ = sent_points(tags)
        artifacts = {path: content_digest(content) for path, content in entry.artifacts.items()}
        had = sent_files(tags)
        self._upload(known, {path: entry.artifacts[path] for path, digest in artifacts.items() if had.get(path) != digest})
        self._upload(known, fresh_pictures(entry, tags))
        finals = [Point(key, 0, value, entry.ended or 0) for key, value in entry.finals.items()]
        points = [*entry.points[sent:], *(point for point in finals if point.key not in metrics)]
        self.counts["metrics"] += len(points)
        model, new_model = self._put_model(identity, entry, known, is_new=is_new)
        tables = [path for path in artifacts if path.startswith("tables/")]
        wanted = {
            **entry.tags,
            "mlflow.runName": entry.name,
            **({"mlflow.loggedArtifacts": shown_tables(tables)} if tables else {}),
            POINTS: f"{len(entry.points)} {entry.points_digest(len(entry.points))}",
            **file_tags(artifacts, tags),
            **({PICTURES: f"{len(entry.pictures)} {entry.pictures_digest(len(entry.pictures))}"} if entry.pictures else {}),
            DIGEST: entry.digest(),
        }
        self._write(
            identity,
            rows.Batch(
                status=entry.status,
                ended=entry.ended,
                points=points,
                params={key: value for key, value in entry.params.items() if key not in params},
                tags={key: value for key, value in wanted.items() if tags.get(key) != value},
                inputs=[one for one in entry.inputs if one.key not in sent_inputs(known)],
                new_model=new_model,
                artifacts=self._artifacts,
                model=model,
                # All of them: what the run has already, the model may lack. A store keeps none of them twice.
                of_model=finals if model else (),
                scored=entry.model.scored if entry.model else {},
            ),
        )
        self._sent[entry.key] = wanted[DIGEST]

    def _write(self, identity: str, batch: rows.Batch) -> None:
        """Give a run what it does not have yet; tags come last."""
        if self._file is not None:
            rows.write(self._file, self._experiment, identity, batch)
            return
        self._log_inputs(identity, batch.inputs)
        if batch.ended is None:
            self._client.update_run(identity, status=batch.status)
        else:
            self._client.set_terminated(identity, status=batch.status, end_time=batch.ended)
        for metrics, params, tags in in_parts(batch):
            self._client.log_batch(identity, metrics=metrics, params=params, tags=tags)

    def _put_model(self, identity: str, entry: Entry, known: Run, *, is_new: bool) -> tuple[str, Model | None]:
        """Let a run have the model of its entry and no other of ours.

        Returns the id of the model, empty for none, and the model where it is still to be written, as rows.
        """
        from mlflow.entities import LoggedModelOutput
        from mlflow.entities.logged_model_status import LoggedModelStatus

        wanted = entry.model
        found = None if is_new else self._only_model(identity, wanted)
        if wanted is None:
            return "", None
        if found is None and self._file is not None:
            return new_model_id(), wanted
        if found is None:
            tags, params = tags_of(wanted), dict(wanted.params)
            found = self._client.create_logged_model(self._experiment, wanted.name, identity, tags, params, wanted.kind)
            if is_server(self._client.tracking_uri):
                # Made twice when its answer was lost, or by another client.
                found = self._only_model(identity, wanted) or found
        if found.model_id not in {one.model_id for one in (known.outputs.model_outputs if known.outputs else ())}:
            self._client.log_outputs(identity, [LoggedModelOutput(found.model_id, wanted.step)])
        if found.status != LoggedModelStatus.READY:
            self._client.finalize_logged_model(found.model_id, LoggedModelStatus.READY)
        return found.model_id, None

    def _only_model(self, identity: str, wanted: Model | None) -> LoggedModel | None:
        """Return the model that a run has of its entry's, and delete its others of ours; everybody who looks chooses the same one."""
        found = None
        for one in sorted(self._models_of(identity), key=lambda each: each.model_id):
            if found is None and wanted is not None and one.tags.get(DIGEST) == wanted.digest():
                found = one
            else:
                self._client.delete_logged_model(one.model_id)
        return found

    def _models_of(self, identity: str) -> list[LoggedModel]:
        """Return the models that a sync has given a run."""
        found = self._client.search_logged_models([self._experiment], f"source_run_id = '{identity}'")
        return [one for one in found if one.tags.get(KIND) == "model"]

    def _log_inputs(self, identity: str, inputs: Sequence[Input]) -> None:
        """Give a run data sets. Each is one row of the experiment, and another client of the same server may have written it meanwhile."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        listed = [
            DatasetInput(
                Dataset(one.name, one.digest, SOURCE_KIND, one.source, one.schema or None, one.profile),
                [InputTag(CONTEXT, one.context), InputTag(KIND, "data")],
            )
            for one in inputs
        ]
        # A refusal says that one of them is there since; what is there is not written again.
        for refused in range(len(listed) + 1 if listed else 0):
            try:
                self._client.log_inputs(identity, datasets=listed)
                return
            except MlflowException:
                if refused == len(listed) or _is_deleted(self._client.get_run(identity)):
                    raise

    def _upload(self, known: Run, files: Mapping[str, bytes]) -> None:
        """Put files where a run keeps its artifacts, without a detour where that is a folder here."""
        if not files:
            return
        if (kept := str(known.info.artifact_uri)).startswith("file:"):
            _write_files(Path(url2pathname(urlsplit(kept).path)), files)
            return
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            _write_files(Path(folder), files)
            self._client.log_artifacts(known.info.run_id, folder)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _is_deleted(one: Run) -> bool:
    return one.info.lifecycle_stage == "deleted"
