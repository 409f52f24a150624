"""The one training loop: device, precision, accumulation, processes, divergence, cadence, exact resume.

A method says what a batch and a loss are; all else is here, once. Optional attributes of a method that the loop honours:

- `before_step(step)`: called once before the passes of a step (what must happen once a step, however many micro-batches it has);
- `accumulates = False`: the loss of a batch is not the weighted mean of those of its parts, so batches are never cut;
- `recipes(epoch, start)`: the batches of `batches`, where `trainers.devices.Drawn` stands for what costs time to make: several processes
  take these, and each makes its own share alone;
- `pictures(epoch)` and `captions`, both by name: see `trainers.pictures`; asked of the first process, by `pictures_every_epochs`;
- `validated(metrics)`: told what validation measured, in every process the same, before what was measured is kept;
- `exported`: what is handed on in place of `module` (a slow copy of it, whose state is in the method's `state_dict`);
- in what `loss` returns, `weight`: how many terms the mean is over (images by default; known labels for a masked loss), so that
  accumulated and shared batches give the gradient of the whole one.

`module.train()` is called before steps and `module.eval()` before validation: what is frozen keeps its mode in the module's own `train`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainers.api import LOOP_VERSION, Host, Outcome, Solver, Trainer, Validated
from trainers.devices import is_cuda_oom, part_of, pinned, place, size_of, to_device
from trainers.errors import Diverged, Error
from trainers.parts.batchnorm import RunningStatistics, group_batchnorm, live_batchnorms
from trainers.patience import is_over, told
from trainers.pictures import drawn
from trainers.precision import autocast
from trainers.prefetch import Prefetch
from trainers.processes import Processes, gradients_times
from trainers.seeding import prepare
from trainers.settings import Settings
from trainers.states import Progress, circumstances, collect, copied, read_state, refuse_nonfinite, restore, score_files, write_weights

__all__ = ["LOOP_VERSION", "Measure", "fit", "is_cuda_oom", "prepare"]

#: Turns validation predictions into metrics named `val/...`.
Measure = Callable[[Validated], Mapping[str, float]]


def fit(
    method: Trainer | Solver,
    config: Any,
    host: Host,
    *,
    device: torch.device,
    measure: Measure | None = None,
    monitor: Mapping[str, Any] | None = None,
    prefetch: bool = False,
) -> Outcome:
    """Train a method, from the host's newest resume file when there is one, and keep its checkpoints.

    `monitor` {metric, mode} says which checkpoints are worth keeping besides the last. Call `prepare` before the method is built.
    Returns an outcome that is not finished when the host asked to stop: the state is saved then. Raises Diverged, Collapsed, DiskFull,
    and Error when the resume file or the config does not fit this run.
    """
    settings = Settings.of(config)
    if isinstance(method, Solver):
        return _solve(method, settings, host, device, measure=measure, monitor=monitor)
    run = _Run(method, settings, host, device, measure=measure, monitor=monitor, prefetch=prefetch)
    while True:
        try:
            return run.train()
        except RuntimeError as error:
            if not is_cuda_oom(error):
                raise
            run.shrink(error)
        # Outside the handler: the traceback, which holds the failed pass's tensors, is gone by now.
        run.rewind()


def _solve(
    solver: Solver, settings: Settings, host: Host, device: torch.device, *, measure: Measure | None, monitor: Mapping[str, Any] | None
) -> Outcome:
    place(solver.module, device)
    metrics = dict(solver.solve())
    refuse_nonfinite(solver.module, 1)
    scores = solver.validate()
    if scores is not None and measure is not None:
        metrics |= measure(scores)
    host.log(1, 1, metrics)
    made_with = circumstances(settings.precision, device, 1)
    _keep(host, solver, scores, metrics, {"step": 1, "epoch": 1, "made_with": made_with, "retention": _retention(settings, monitor)})
    return Outcome(finished=True, step=1, epoch=1, metrics=metrics)


def _retention(settings: Settings, monitor: Mapping[str, Any] | None) -> dict[str, Any]:
    rule = {"metric": (monitor or {}).get("metric"), "mode": (monitor or {}).get("mode", "max"), "best": settings.keep_best}
    # On a grid of examples the last checkpoint is one among others.
    return {**rule, "last": False} if settings.save_every_examples else rule


def _keep(
    host: Host,
    method: Trainer | Solver,
    scores: Validated | None,
    metrics: Mapping[str, float],
    info: Mapping[str, Any],
    name: str | None = None,
) -> None:
    files = {"safetensors": partial(write_weights, getattr(method, "exported", method.module)), **score_files(scores)}
    host.keep(name or f"epoch-{info['epoch']:04d}", metrics, files, info)


class _Run:
    """One run of the loop over a trainer."""

    def __init__(
        self,
        trainer: Trainer,
        settings: Settings,
        host: Host,
        device: torch.device,
        *,
        measure: Measure | None,
        monitor: Mapping[str, Any] | None,
        prefetch: bool,
    ) -> None:
        self.trainer, self.settings, self.host, self.device = trainer, settings, host, device
        self.measure, self.prefetch = measure, prefetch
        self.retention = _retention(settings, monitor)
        self.processes = Processes()
        self.channels_last = place(trainer.module, device)
        if settings.bn_images:
            group_batchnorm(trainer.module, settings.bn_images)
        self._refuse_machine_batchnorm()
        self.optimizer = trainer.optimizer()
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.objective = self.processes.wrap(trainer)
        self.statistics = RunningStatistics(trainer.module) if self.processes.count > 1 else None
        self.made_with = circumstances(settings.precision, device, self.processes.count)
        self.progress = Progress(micro_batch=settings.micro_batch)
        self.metrics: Mapping[str, float] = {}
        self.may_cut = self._may_cut()
        #: Steps from one look at validation to the next, where these do not go by epoch.
        self.grid = settings.save_every_examples // settings.batch_size if settings.save_every_examples else 0
        #: The largest forward pass so far, and whether one is going on.
        self.largest_pass, self.in_step = 0, False
        self.saved: tuple[int, int] | None = None
        if self.processes.count > 1:
            # Dropout on another process's images is other dropout. Weights are broadcast from rank 0 by the wrapper.
            torch.manual_seed(torch.initial_seed() + self.processes.rank)
        self.beginning = self._begin()

    def _refuse_machine_batchnorm(self) -> None:
        self.trainer.module.train()
        if self.processes.count > 1 and not self.settings.bn_images and any(live_batchnorms(self.trainer.module)):
            raise Error(
                f"the model has BatchNorm in training, and {self.processes.count} processes would each normalise over their own share: "
                "set bn_images (images per BatchNorm group), so that the number of GPUs is not in the result, or ask for one GPU"
            )

    # --- states --------------------------------------------------------------------------------------------------------------------------

    def _begin(self) -> dict[str, Any] | None:
        """Resume when there is something to resume; else remember the beginning while a pass may still turn out too large."""
        # One process looks, all take what it found: on a shared disk another machine may see a file later than its writer.
        path = self.processes.of_first(self.host.latest_state() if self.processes.is_first else None)
        if path is not None:
            self._restore(read_state(path, self.made_with))
            self.saved = (self.progress.step, self.progress.epoch)
            return None
        return copied(self._collect()) if self.processes.count == 1 and self.may_cut else None

    def _collect(self) -> dict[str, Any]:
        return collect(self.trainer, self.optimizer, self.progress, self.made_with, self.processes)

    def _restore(self, state: Mapping[str, Any]) -> None:
        restore(state, self.trainer, self.optimizer, self.progress, self.processes)

    def _save(self) -> None:
        """Save a resume file, unless this very state is the last one saved."""
        place_in_run = (self.progress.step, self.progress.epoch)
        if self.saved == place_in_run:
            return
        state = self._collect()
        if self.processes.is_first:
            self.host.save_state(*place_in_run, lambda path: torch.save(state, path))
        self.saved, self.beginning = place_in_run, None

    def _may_cut(self) -> bool:
        """Tell whether a smaller micro-batch is the same experiment."""
        grouped = self.settings.bn_images > 0 or not any(live_batchnorms(self.trainer.module))
        return grouped and getattr(self.trainer, "accumulates", True)

    def shrink(self, error: RuntimeError) -> None:
        """Halve the micro-batch after the GPU's memory ran out. Raises the error again when that is not the same experiment."""
        unit = max(self.settings.bn_images, 1)
        units = -(-self.largest_pass // unit)
        # Several processes fail at different places, and one alone cannot go back: there the attempt ends.
        if units < 2 or self.processes.count > 1 or not self.may_cut or not self.in_step:
            raise error
        self.largest_pass = (units // 2) * unit

    def rewind(self) -> None:
        """Go back to the last good state with the smaller micro-batch."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        path = self.host.latest_state()
        state = read_state(path, self.made_with) if path is not None else self.beginning
        assert state is not None
        self._restore(state)
        self.progress.micro_batch = self.largest_pass
        self.saved, self.in_step = None, False

    # --- epochs and steps ----------------------------------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Run to the end, or to the step at which the host asks to stop."""
        while not is_over(self.progress, self.settings):
            if self._stop_asked() or not self._run_epoch():
                self._save()
                return self._outcome(finished=False)
            self._close_epoch()
        return self._outcome(finished=True)

    def _outcome(self, *, finished: bool) -> Outcome:
        return Outcome(finished=finished, step=self.progress.step, epoch=self.progress.epoch, metrics=dict(self.metrics))

    def _stop_asked(self) -> bool:
        asked = self.host.should_stop()
        if self.processes.count == 1:
            return asked
        return bool(self.processes.sum(torch.tensor([float(asked)], device=self.device)).item())

    def _run_epoch(self) -> bool:
        """Take the steps that are left of the open epoch; return False when asked to stop."""
        epoch, steps = self.progress.epoch, self.trainer.steps_per_epoch
        start = self.progress.step - epoch * steps
        if start >= steps:
            return True
        self.trainer.module.train()
        shares = self._shares(epoch, start)
        if self.prefetch:
            pin = self.device.type == "cuda"
            with Prefetch((pinned(share), total) if pin else (share, total) for share, total in shares) as ready:
                return self._steps(ready, steps - start)
        return self._steps(shares, steps - start)

    def _shares(self, epoch: int, start: int) -> Iterator[tuple[Any, int]]:
        """Give of every batch what this process takes of it, and how many samples the whole batch has."""
        if self.processes.count == 1:
            yield from ((batch, size_of(batch)) for batch in self.trainer.batches(epoch, start))
            return
        batches = getattr(self.trainer, "recipes", self.trainer.batches)
        for batch in batches(epoch, start):
            total = size_of(batch)
            yield part_of(batch, *self.processes.share(total, max(self.settings.bn_images, 1))), total

    def _steps(self, shares: Iterable[tuple[Any, int]], count: int) -> bool:
        taken, every = 0, self.settings.save_every_steps
        for share, total in itertools.islice(shares, count):
            if self.grid and self.progress.step and self.progress.step % self.grid == 0:
                self._keep_on_grid()
            self._step(share, total)
            taken += 1
            if self._stop_asked():
                return False
            if every and self.progress.step % every == 0:
                self._save()
        if taken < count:
            raise RuntimeError(f"batches({self.progress.epoch}, ...) ended {count - taken} batches short of steps_per_epoch")
        return True

    def _step(self, share: Any, total: int) -> None:
        step, self.in_step = self.progress.step, True
        factor = self.trainer.learning_rate_factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        if hasattr(self.trainer, "before_step"):
            self.trainer.before_step(step)  # pyright: ignore[reportAttributeAccessIssue]
        if self.statistics is not None:
            self.statistics.remember()
        self.optimizer.zero_grad(set_to_none=True)
        logged = self._gradients(share, total)
        if self.settings.grad_clip > 0:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            logged["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.grad_clip))
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logged.get(name, 0.0)):
                what = "loss" if name == "loss" else "norm of the gradients"
                lr = self.optimizer.param_groups[0]["lr"]
                raise Diverged(f"step {step}: the {what} is {logged[name]} (lr {lr:g}); lower lr, set grad_clip, or set precision: fp32")
        self.optimizer.step()
        self.trainer.after_step(step)
        if self.statistics is not None:
            self.statistics.combine()
        self.progress.step += 1
        self.in_step = False
        self._record(logged)

    def _gradients(self, share: Any, total: int) -> dict[str, float]:
        """Leave the gradient of the whole batch of `total` in the parameters, whatever it was cut into, and return what is logged."""
        mine = size_of(share)
        width = min(self.progress.micro_batch or mine, mine)
        whole = width == total
        self.largest_pass = max(self.largest_pass, width)
        sums: Tensor | None = None
        names: list[str] = []
        weighted = False
        for start in range(0, mine, width):
            stop = min(start + width, mine)
            part = to_device(share if width == mine else part_of(share, start, stop), self.device, self.channels_last)
            with contextlib.nullcontext() if stop == mine else self.processes.no_sync(self.objective):
                with autocast(self.settings.precision, self.device):
                    out = dict(self.objective(part))
                weighted = "weight" in out
                weight = torch.as_tensor(out.pop("weight", stop - start), dtype=torch.float32, device=self.device).detach()
                loss = out["loss"]
                # DistributedDataParallel takes the mean over processes; the shares here make it the sum.
                (loss if whole else loss * (weight * (self.processes.count / total))).backward()
            names = list(out)
            # float32 is the widest type that every device has; one process and one pass report the loss exactly.
            values = torch.stack([torch.as_tensor(out[name], device=self.device).detach().float() for name in names])
            row = torch.cat([values if whole else values * weight, weight.reshape(1)])
            sums = row if sums is None else sums + row
        assert sums is not None
        sums = self.processes.sum(sums)
        if whole:
            return dict(zip(names, sums[:-1].tolist(), strict=True))
        if weighted:
            gradients_times(self.optimizer, total / sums[-1].clamp_min(1e-12))
        return dict(zip(names, (sums[:-1] / sums[-1].clamp_min(1e-12)).tolist(), strict=True))

    # --- numbers and checkpoints ---------------------------------------------------------------------------------------------------------

    def _record(self, logged: Mapping[str, float]) -> None:
        progress = self.progress
        for name, value in logged.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value
        progress.counted += 1
        if self.processes.is_first and (progress.step % self.settings.log_every_steps == 0 or progress.step == 1):
            values = {f"train/{name}": value for name, value in logged.items()}
            self.host.log(progress.step, progress.epoch, values | {"train/lr": self.optimizer.param_groups[0]["lr"]})

    def _keep_on_grid(self) -> None:
        """Save, validate, log and keep before the next step (MoCo-CXR's `iters_per_eval`, which counts images)."""
        self._save()
        step, settings = self.progress.step, self.settings
        self.trainer.module.eval()
        scores = self.trainer.validate()
        self.trainer.module.train()
        metrics = dict(self.measure(scores)) if scores is not None and self.measure is not None else {}
        if self.processes.is_first:
            epoch = -(-step // self.trainer.steps_per_epoch)
            self.host.log(step, epoch, metrics)
            _keep(self.host, self.trainer, scores, metrics, self._about(epoch), f"examples-{step * settings.batch_size:010d}")

    def _about(self, epoch: int) -> dict[str, Any]:
        where = {"step": self.progress.step, "epoch": epoch, "micro_batch": self.progress.micro_batch}
        return {**where, "made_with": self.made_with, "retention": self.retention}

    def _grid_comes_round(self) -> bool:
        """Tell whether the run is long enough for a checkpoint on the grid; a shorter one keeps its last, or it would keep none."""
        return 0 < self.grid < self.settings.epochs * self.trainer.steps_per_epoch

    def _close_epoch(self) -> None:
        """Save, validate, log and keep: in this order, so that a kill in a long validation repeats only the validation."""
        progress, settings = self.progress, self.settings
        done = progress.epoch + 1
        due = done % settings.save_every_epochs == 0 or done == settings.epochs
        if due:
            self._save()
        due = (due and not self.grid) or (done == settings.epochs and not self._grid_comes_round())
        metrics = {f"epoch/{name}": value / progress.counted for name, value in progress.sums.items()}
        metrics |= self.trainer.after_epoch(progress.epoch)
        scores = None
        if due:
            self.trainer.module.eval()
            scores = self.trainer.validate()
            if scores is not None and self.measure is not None:
                metrics |= told(self.trainer, self.measure(scores), progress, settings, self.processes)
        progress.epoch, progress.sums, progress.counted = done, {}, 0
        self.metrics = metrics
        if not self.processes.is_first:
            return
        self._picture(done)
        self.host.log(progress.step, done, metrics)
        if due:
            _keep(self.host, self.trainer, scores, metrics, self._about(done))

    def _picture(self, done: int) -> None:
        """Keep the method's pictures, where it has any and it is time."""
        every, make = self.settings.pictures_every_epochs, getattr(self.trainer, "pictures", None)
        if every and make is not None and (done % every == 0 or is_over(self.progress, self.settings)):
            self.host.keep_pictures(done, drawn(self.trainer.module, partial(make, done)))
