"""A made run root: a plan and, for each evaluate job, the files that the stages would have written, with areas that are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.paths import RunPaths
from jobs.spec import Input, JobSpec, Scalar, Stage, job_id
from orchestrator.model import AxisInfo, AxisKind, Contrast, Plan, ReportSpec

LABELS = ("cardiomegaly", "consolidation", "edema", "lung_lesion", "pleural_effusion", "pneumothorax")
PREVALENCE = (0.28, 0.22, 0.25, 0.12, 0.35, 0.15)


def spec_of(
    stage: Stage, phase: str, labels: Mapping[str, Scalar], *, seed: int = 0, inputs: tuple[Input, ...] = (), **config: Any
) -> JobSpec:
    """Make a job whose id depends on what tells it apart."""
    identity = {"stage": str(stage), "phase": phase, "labels": dict(labels), "seed": seed, "inputs": [item.job for item in inputs]}
    words = ",".join(f"{key}={value}" for key, value in labels.items())
    return JobSpec(
        job_id=job_id(identity),
        stage=stage,
        trainer="classification",
        trainer_version=1,
        loop_version=1,
        config=config,
        data={"sources": [{"card": str(labels.get("target", "phantom"))}]},
        seed=seed,
        inputs=inputs,
        sweep="made",
        phase=phase,
        trial=f"made/{phase}/{words}",
        labels=dict(labels),
    )


@dataclass
class Made:
    """A plan under construction and the run root that its results go to."""

    root: Path
    patients: int = 240
    images_per_patient: int = 2
    seed: int = 0
    labels: tuple[str, ...] = LABELS
    prevalence: tuple[float, ...] = PREVALENCE
    #: Patients of the labelled pool and of the validation split, as jobs record them; None where they do not.
    pool: int | None = None
    #: Units that each further draw of a size has more.
    uneven: int = 0
    validated: int | None = None
    jobs: list[JobSpec] = field(default_factory=list)
    axes: list[AxisInfo] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = RunPaths(self.root)
        rng = np.random.default_rng(self.seed)
        count = self.patients * self.images_per_patient
        self.patient = np.repeat([f"patient{index:05d}" for index in range(self.patients)], self.images_per_patient)
        self.image = np.array([f"{who}/study1/view{index % self.images_per_patient}.png" for index, who in enumerate(self.patient)])
        self.study = np.array([f"{who}/study1" for who in self.patient])
        of_patient = rng.random((self.patients, len(self.labels))) < self.prevalence
        self.truth = np.repeat(of_patient, self.images_per_patient, axis=0).astype(np.int8)
        self.hardness = np.repeat(rng.standard_normal((self.patients, len(self.labels))), self.images_per_patient, axis=0)
        self.noise = rng.standard_normal((count, len(self.labels)))

    def axis(self, name: str, kind: AxisKind, values: Sequence[Scalar], phase: str = "finetune") -> None:
        """Declare an axis of the plan."""
        self.axes.append(AxisInfo(name=name, kind=kind, phase=phase, values=tuple(values)))

    def scores(self, separation: float, key: str, draw_key: str, draw_sd: float) -> np.ndarray:
        """Simulate logits: a signal, how hard a patient is for everybody, and what an arm and a draw get wrong on their own."""
        arm = np.random.default_rng(_number(key))
        draw = np.random.default_rng(_number(draw_key))
        signal = separation * (1 + draw_sd * draw.standard_normal(len(self.labels))) * self.truth
        own = 0.35 * arm.standard_normal(self.truth.shape) + 0.35 * draw.standard_normal(self.truth.shape)
        return (signal + 0.6 * self.hardness + 0.6 * self.noise + own).astype(np.float32)

    def evaluation(
        self,
        phase: str,
        labels: Mapping[str, Scalar],
        *,
        separation: float = 1.0,
        draw_sd: float = 0.05,
        present: bool = True,
        shuffle: int | None = None,
        pretraining: Mapping[str, Scalar] | None = None,
        pretraining_seed: int = 11,
        tuned: Mapping[str, Sequence[Scalar]] | None = None,
        scope: str = "draw",
        metric: str | None = None,
        value: float = 0.81,
    ) -> JobSpec:
        """Add train, pick and evaluate jobs of one point, and their files when `present`."""
        parents: tuple[Input, ...] = ()
        if pretraining is not None:
            upstream = spec_of(Stage.TRAIN, "pretrain", pretraining, seed=pretraining_seed)
            self._add(upstream)
            parents = (Input(role="init", job=upstream.job_id, take="last"),)
        own = {key: value for key, value in labels.items() if key != "target"}
        points = [{}] if not tuned else [dict(zip(tuned, values, strict=True)) for values in zip(*tuned.values(), strict=True)]
        trains = [spec_of(Stage.TRAIN, phase, {**own, **point}, seed=int(_number(str(own)) % 1000), inputs=parents) for point in points]
        for one in trains:
            self._add(one)
        candidates = [{"runs": {"": one.job_id}, "overrides": {}, "inputs": {}} for one in trains]
        rule: dict[str, Any] = {} if metric is None else {"metric": metric, "mode": "max"}
        pick = spec_of(
            Stage.PICK,
            phase,
            own,
            inputs=tuple(Input(role="candidate", job=one.job_id, take="result") for one in trains),
            candidates=candidates,
            scope=scope,
            **rule,
        )
        self._add(pick)
        evaluate = spec_of(
            Stage.EVALUATE,
            phase,
            labels,
            inputs=(Input(role="pick", job=pick.job_id, run=""),),
            split="test",
            score_per="image",
            cluster="patient",
        )
        self._add(evaluate)
        if present:
            winner = trains[-1]
            self._write_train(winner, labels)
            self._write(
                pick,
                {
                    "choice": {
                        "candidate": len(trains) - 1,
                        "runs": {"": {"job": winner.job_id, "checkpoints": ["epoch-7"], "epoch": 7, "value": value}},
                    }
                },
            )
            arm_key = f"{phase}{sorted((k, str(v)) for k, v in labels.items() if k not in ('draw', 'seed'))}"
            score = self.scores(separation, arm_key, f"{arm_key}{labels.get('draw', labels.get('seed'))}", draw_sd)
            self.predict(evaluate, score, shuffle=shuffle, train_job=winner.job_id)
        return evaluate

    def predict(
        self, evaluate: JobSpec, score: np.ndarray, *, shuffle: int | None = None, rows: np.ndarray | None = None, **result: Any
    ) -> None:
        """Write predictions and the result of an evaluate job, by the contract of the stage."""
        rows = np.arange(len(self.image)) if rows is None else rows
        columns = {
            "image": np.tile(self.image[rows], len(self.labels)),
            "patient": np.tile(self.patient[rows], len(self.labels)),
            "study": np.tile(self.study[rows], len(self.labels)),
            "label": np.repeat(self.labels, len(rows)),
            "truth": self.truth[rows].T.ravel(),
            "score": score[rows].T.ravel(),
        }
        order = np.arange(len(columns["truth"])) if shuffle is None else np.random.default_rng(shuffle).permutation(len(columns["truth"]))
        table = pa.table(
            {name: pa.array(values[order].tolist() if values.dtype.kind == "U" else values[order]) for name, values in columns.items()}
        )
        folder = self.run.job(evaluate.job_id).folder
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, self.run.job(evaluate.job_id).predictions)
        self.result(evaluate, rows, **result)

    def result(self, evaluate: JobSpec, rows: np.ndarray, **result: Any) -> None:
        """Write the result of an evaluate job that scored some rows."""
        self._write(
            evaluate,
            {
                "card": str(evaluate.labels.get("target", "phantom")),
                "split": "test",
                "labels": list(self.labels),
                "units": {"score_per": "image", "views": "first", "cluster": "patient"},
                "n_units": len(rows),
                "n_patients": len(set(self.patient[rows])),
                "test_digest": hashlib.sha256("\n".join(sorted(self.image[rows])).encode()).hexdigest(),
                "checkpoints": ["epoch-7"],
                **result,
            },
        )

    def fill(self, plan: Plan, separation: Callable[[JobSpec], float]) -> None:
        """Write what the stages of any plan would have left: draws by their description, the last candidate picked, made predictions."""
        for spec in plan.jobs:
            if spec.stage is Stage.TRAIN:
                draw = spec.data.get("draw")
                facts = None if draw is None else {"sha256": _digest(json.dumps(draw, sort_keys=True)), "n_patients": 40, "n_images": 80}
                self._write(spec, {"data": [{"card": "x", "splits": {"train": {"patients": 40, "images": 80}}, "draw": facts}]})
            elif spec.stage is Stage.PICK:
                winner = spec.config["candidates"][-1]
                runs = {key: {"job": job, "checkpoints": ["epoch-7"], "epoch": 7, "value": 0.8} for key, job in winner["runs"].items()}
                choice = {"candidate": len(spec.config["candidates"]) - 1, "overrides": winner["overrides"], "inputs": {}, "runs": runs}
                self._write(spec, {"choice": choice})
            else:
                replicate = {name: value for name, value in spec.labels.items() if name.rpartition(".")[2] in ("draw", "seed", "fold")}
                arm = {name: value for name, value in spec.labels.items() if name not in replicate}
                self.predict(spec, self.scores(separation(spec), f"{spec.phase}{arm}", f"{spec.phase}{spec.labels}", 0.15))

    def plan(self, **report: Any) -> Plan:
        """Return the plan with what was added so far."""
        unique = {job.job_id: job for job in self.jobs}
        options = {"contrasts": (Contrast(baseline={"after": "none"}),), "resamples": 400, **report}
        return Plan(
            sweep="made", about="Made.", jobs=tuple(unique.values()), axes=tuple(self.axes), report=ReportSpec(**options), made_data=True
        )

    def _add(self, spec: JobSpec) -> None:
        self.jobs.append(spec)

    def _write_train(self, spec: JobSpec, labels: Mapping[str, Scalar]) -> None:
        share = labels.get("fraction", 1.0)
        size = int(labels["count"] or 0) if "count" in labels else int(8000 * float(share or 0))
        opened: dict[str, Any] = {"card": "phantom", "splits": {"train": {"patients": size, "images": size * 2}}, "draw": None}
        if "draw" in labels:
            size += self.uneven * int(labels["draw"] or 0)
            drawn = f"{size}" if labels.get("fraction") == 1.0 else f"{size}-{labels['draw']}"
            digest = hashlib.sha256(drawn.encode()).hexdigest()
            opened["draw"] = {"sha256": digest, "by": "patient", "n_patients": size, "n_images": size * 2}
            if self.pool is not None:
                opened["draw"] |= {"n_units": size, "n_pool_units": self.pool}
        if self.validated is not None:
            opened["splits"]["val"] = {"patients": self.validated, "images": 2 * self.validated}
        self._write(spec, {"data": [opened]})

    def _write(self, spec: JobSpec, content: Mapping[str, Any]) -> None:
        path = self.run.job(spec.job_id).result
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"job_id": spec.job_id, "stage": str(spec.stage), **content}), encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(text: str) -> int:
    return int(_digest(text)[:12], 16)


def quickstart(
    root: Path, *, shuffle: int | None = None, gaps: int = 0, patients: int = 240, draws: int = 5, draw_sd: float = 0.05
) -> tuple[Made, Plan]:
    """Make a study like the quickstart: pretrained, on scrambled images, not at all, and the floor; two sizes, matched draws."""
    made = Made(root, patients=patients)
    made.axis("images", AxisKind.COMPARE, ("real", "scrambled"), phase="pretrain")
    made.axis("lr", AxisKind.TUNE, (1e-4, 1e-3, 1e-2), phase="pretrain")
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none", "floor"))
    made.axis("count", AxisKind.REPLICATE, (64, 256))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(draws)))
    levels = {("pretrain", "real"): (1.45, 1.75), ("pretrain", "scrambled"): (1.2, 1.55), ("none", None): (0.7, 1.15)}
    dropped = 0
    for (after, images), separations in levels.items():
        for count, separation in zip((64, 256), separations, strict=True):
            for draw in range(draws):
                labels: dict[str, Scalar] = {
                    "after": after,
                    **({"images": images} if images else {}),
                    "count": count,
                    "draw": draw,
                    "target": "phantom",
                }
                present = not (images == "scrambled" and count == 256 and draw >= draws - gaps)
                dropped += not present
                made.evaluation(
                    "finetune",
                    labels,
                    separation=separation,
                    draw_sd=draw_sd,
                    present=present,
                    shuffle=shuffle,
                    pretraining={"images": images} if images else None,
                    tuned={"lr": (1e-4, 1e-3, 1e-2)} if images else None,
                )
    for count, separation in ((64, 0.45), (256, 0.6)):
        for draw in range(draws):
            labels = {"after": "floor", "count": count, "draw": draw, "target": "phantom"}
            made.evaluation("floor", labels, separation=separation, shuffle=shuffle)
    return made, made.plan(contrasts=(Contrast(baseline={"after": "none"}), Contrast(baseline={"images": "scrambled"})))


#: Findings of a card with many.
MANY = (
    "atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "emphysema", "fibrosis",
    "hernia", "infiltration", "mass", "nodule", "pleural_thickening", "pneumonia", "pneumothorax",
)  # fmt: skip


def many_arms(root: Path, *, patients: int = 160, draws: int = 4) -> tuple[Made, Plan]:
    """Make a large study: seven arms, four sizes, fourteen findings of which one is rare, gaps, and one run a cell at all labels."""
    made = Made(root, patients=patients, labels=MANY, prevalence=(0.2,) * 7 + (0.03,) + (0.25,) * 6)
    starts = ("moco_cxr", "simmim_in1k_patch32", "ark_plus", "imagenet", "random")
    made.axis("init", AxisKind.COMPARE, starts)
    made.axis("freeze", AxisKind.COMPARE, ("backbone", "nothing"))
    made.axis("fraction", AxisKind.REPLICATE, (0.01, 0.1, 0.3, 1.0))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(draws)))
    for rank, init in enumerate(starts):
        for freeze in ("backbone", "nothing") if init in ("moco_cxr", "random") else ("nothing",):
            for step, fraction in enumerate((0.01, 0.1, 0.3, 1.0)):
                for draw in range(draws if fraction < 1 else 1):
                    labels: dict[str, Scalar] = {
                        "init": init, "freeze": freeze, "fraction": fraction, "draw": draw, "target": "phantom",
                    }  # fmt: skip
                    present = (init, fraction, draw) not in {("ark_plus", 0.1, 1), ("imagenet", 0.01, 0), ("imagenet", 0.01, 1)}
                    level = 0.5 + 0.3 * step + 0.18 * (4 - rank) * (3 - step) / 3
                    made.evaluation("finetune", labels, separation=level, draw_sd=0.25, present=present)
    return made, made.plan(contrasts=(Contrast(baseline={"init": "random"}),), resamples=200)


def leave_pair_out(root: Path, *, gaps: int = 0) -> tuple[Made, Plan]:
    """Make a study like the one on real images: a positive and a negative patient a fold, two arms, the floor, no verdict."""
    made = Made(root, patients=15, images_per_patient=1, labels=("pneumonia",), prevalence=(0.5,))
    made.truth[:, 0] = np.arange(15) < 7
    made.axis("init", AxisKind.COMPARE, ("imagenet", "random"))
    made.axis("after", AxisKind.COMPARE, ("none", "floor"))
    made.axis("fold", AxisKind.REPLICATE, tuple(range(56)))
    pairs = [(i, j) for i in range(7) for j in range(7, 15)]
    arms: list[tuple[str, dict[str, Scalar], float]] = [
        ("probe", {"init": "imagenet"}, 2.2),
        ("probe", {"init": "random"}, 0.6),
        ("floor", {"after": "floor"}, 1.6),
    ]
    for phase, own, separation in arms:
        base = made.scores(separation, f"{phase}{own}", "", 0.0)
        for fold, rows in enumerate(pairs):
            labels: dict[str, Scalar] = {**own, "fold": fold, "target": "xrays"}
            evaluate = made.evaluation(phase, labels, present=False)
            if fold < 56 - gaps:
                # Every fold is another model, on another scale.
                made.predict(evaluate, base * (1 + fold) + fold, rows=np.array(rows))
    return made, made.plan(contrasts=(Contrast(baseline={"init": "random"}),), verdict=False, notes=("Fifteen images show nothing.",))


def shuffled(plan: Plan, seed: int) -> Plan:
    """Return the plan with its jobs in another order."""
    order = np.random.default_rng(seed).permutation(len(plan.jobs))
    return replace(plan, jobs=tuple(plan.jobs[index] for index in order))
