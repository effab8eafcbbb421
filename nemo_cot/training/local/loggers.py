"""TensorBoard, Weights & Biases and MLflow, behind train.loggers: each yields a function that logs a row."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.config import LoggersConfig
from nemo_cot.errors import UserError, one_line
from nemo_cot.io.atomic import write_bytes
from nemo_cot.records import StepMetrics

Log = Callable[[int, dict[str, float]], object]
"""Logs the metrics, by name, of one step."""
LOGGERS = {"tensorboard": "local", "wandb": "loggers", "mlflow": "loggers"}
"""The keys of train.loggers, which are the modules that they import -> the extra that installs them."""


@contextlib.contextmanager
def open_loggers(folder: Path, config: LoggersConfig) -> Iterator[Callable[[StepMetrics], None]]:
    """Yield a function that logs one row of metrics with every logger that is chosen.

    A training that is resumed goes on in the same record. Raises UserError for a package that is not
    installed, and where a logger cannot start; one that fails later is given up with a line, and training
    goes on.
    """
    with contextlib.ExitStack() as stack:
        logs = {}
        for name in LOGGERS:
            if getattr(config, name):
                logs[name] = stack.enter_context(_started(name, folder, config))

        def log(row: StepMetrics) -> None:
            values = msgspec.structs.asdict(row)
            step = values.pop("step")
            for name in list(logs):
                try:
                    logs[name](step, {f"train/{key}": value for key, value in values.items()})
                except Exception as error:  # of whatever library: a lost connection, a full disk
                    del logs[name]
                    print(f"warning: {name} is given up: {one_line(str(error))}", file=sys.stderr, flush=True)

        yield log


@contextlib.contextmanager
def _started(name: str, folder: Path, config: LoggersConfig) -> Iterator[Log]:
    opened = _OPEN[name](folder, config)
    where = f"train.loggers.{name}=true"
    try:
        log = opened.__enter__()
    except ImportError:
        fix = f"pip install -e '.[{LOGGERS[name]}]' in the clone, or train.loggers.{name}=false"
        raise UserError(f"the package {name} is not installed", where=where, fix=fix) from None
    except Exception as error:
        fix = f"correct train.loggers or the logger's own variables, or train.loggers.{name}=false"
        raise UserError(f"cannot start: {one_line(str(error))}", where=where, fix=fix) from None
    try:
        yield log
    finally:
        with contextlib.suppress(Exception):  # the results are whole without it
            opened.__exit__(None, None, None)


@contextlib.contextmanager
def _tensorboard(folder: Path, config: LoggersConfig) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        yield lambda step, values: [writer.add_scalar(key, value, step) for key, value in values.items()]


@contextlib.contextmanager
def _wandb(folder: Path, config: LoggersConfig) -> Iterator[Log]:
    wandb: Any = importlib.import_module("wandb")
    run = wandb.init(
        project=config.project,
        name=folder.parent.name,
        id=_kept(folder, "wandb_id"),
        resume="allow",
        dir=str(folder),
    )
    try:
        yield lambda step, values: run.log(values, step=step)
    finally:
        run.finish()


@contextlib.contextmanager
def _mlflow(folder: Path, config: LoggersConfig) -> Iterator[Log]:
    os.environ |= config.environment()
    mlflow: Any = importlib.import_module("mlflow")
    client = mlflow.MlflowClient(config.mlflow_uri or (folder / "mlflow").resolve().as_uri())
    found = client.get_experiment_by_name(config.project)
    experiment = found.experiment_id if found else client.create_experiment(config.project)
    key = _kept(folder, "mlflow_id")
    known = client.search_runs([experiment], filter_string=f"tags.nemo_cot = '{key}'", max_results=1)
    run = (
        known[0]
        if known
        else client.create_run(experiment, tags={"nemo_cot": key}, run_name=folder.parent.name)
    )
    try:
        yield lambda step, values: [
            client.log_metric(run.info.run_id, k, v, step=step) for k, v in values.items()
        ]
    finally:
        client.set_terminated(run.info.run_id)


_OPEN = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def _kept(folder: Path, name: str) -> str:
    """An id of this training, the same after a resume."""
    path = folder / "scratch" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, uuid.uuid4().hex[:16].encode())
    return path.read_text()
