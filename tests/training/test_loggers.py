"""What train.loggers writes, read back by the libraries themselves."""

from __future__ import annotations

import glob
import json
import os

import pytest

from nemo_cot.config import LoggersConfig
from nemo_cot.errors import UserError
from nemo_cot.training.local import loggers
from nemo_cot.training.local.loggers import open_loggers
from tests.training.test_trainer import cut_short, rows, run
from tests.training.tiny_models import save_tiny

STEPS = 4


def config(*names: str) -> LoggersConfig:
    return LoggersConfig(*(name in names for name in ("tensorboard", "wandb", "mlflow")), "tiny", None)


def scalars(folder, name: str) -> dict[int, float]:
    """Step -> value of a metric in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = EventAccumulator(str(folder / "tensorboard"))
    files.Reload()
    return {event.step: event.value for event in files.Scalars(f"train/{name}")}


def test_tensorboard_holds_every_step_s_metrics_also_after_a_kill(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    base, folder = save_tiny(tmp_path / "base"), tmp_path / "run"
    changes = {"max_steps": STEPS, "loggers": config("tensorboard")}
    cut_short(monkeypatch, base, folder, 3, **changes)
    run(base, folder, **changes)
    wanted = rows(folder)
    for name in ("loss", "lr", "grad_norm"):
        found = scalars(folder, name)
        assert found == {row["step"]: pytest.approx(row[name], rel=1e-5) for row in wanted}
    assert len(wanted) == STEPS


def test_mlflow_gets_one_run_of_a_training_in_two_attempts(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    base, folder = save_tiny(tmp_path / "base"), tmp_path / "run"
    changes = {"max_steps": STEPS, "loggers": config("mlflow")}
    cut_short(monkeypatch, base, folder, 3, **changes)
    run(base, folder, **changes)
    client = mlflow.MlflowClient((folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("tiny")
    (found,) = client.search_runs([experiment.experiment_id])
    history = {m.step: m.value for m in client.get_metric_history(found.info.run_id, "train/loss")}
    assert history == {row["step"]: row["loss"] for row in rows(folder)} and len(history) == STEPS


def test_wandb_writes_files_where_there_is_no_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    base, folder = save_tiny(tmp_path / "base"), tmp_path / "run"
    run(base, folder, max_steps=2, loggers=config("wandb"))
    (found,) = glob.glob(str(folder / "wandb" / "offline-run-*" / "*.wandb"))
    assert os.path.getsize(found) > 0


def test_no_logger_writes_nothing(tmp_path):
    base = save_tiny(tmp_path / "base")
    run(base, tmp_path / "run", max_steps=1, loggers=config())
    assert not [
        path for path in (tmp_path / "run").iterdir() if path.name in ("tensorboard", "wandb", "mlflow")
    ]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(name, tmp_path, monkeypatch):
    import builtins
    import importlib

    def refuse(wanted, *arguments, **named):
        if wanted.partition(".")[0] == name or (
            name == "tensorboard" and wanted == "torch.utils.tensorboard"
        ):
            raise ImportError(wanted)
        return imported(wanted, *arguments, **named)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(UserError, match=f"{name} is not installed") as caught:
        with open_loggers(tmp_path, config(name)):
            pass
    assert caught.value.where == f"train.loggers.{name}=true" and "pip install" in caught.value.fix


def test_a_logger_that_fails_midway_is_given_up_and_training_goes_on(tmp_path, monkeypatch, capsys):
    import contextlib

    @contextlib.contextmanager
    def breaks(folder, _):
        def log(step, values):
            if step == 2:
                raise OSError("no\nconnection")
            (folder / f"step-{step}").write_text(json.dumps(values))

        yield log

    monkeypatch.setitem(loggers._OPEN, "mlflow", breaks)
    base, folder = save_tiny(tmp_path / "base"), tmp_path / "run"
    run(base, folder, max_steps=STEPS, loggers=config("mlflow"))
    assert len(rows(folder)) == STEPS and [path.name for path in folder.glob("step-*")] == ["step-1"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "given up" in line]
    assert line.startswith("warning: mlflow is given up: no") and "connection" in line
