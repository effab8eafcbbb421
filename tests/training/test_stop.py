"""A signal in the middle of training: the step is ended, the state saved, and the result is the same."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from nemo_cot.errors import UNFINISHED, Unfinished
from nemo_cot.stopping import Stopped, raise_on_signals
from nemo_cot.training.local import trainer
from nemo_cot.training.local.checkpoint import latest_step
from tests.training.test_trainer import rows, run
from tests.training.tiny_models import save_tiny


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_saves_and_the_resumed_run_is_the_same_to_the_bit(tmp_path, monkeypatch, number):
    base, before = save_tiny(tmp_path / "base"), signal.getsignal(number)
    changes = {"max_steps": 6, "save_interval_steps": 100}
    whole = run(base, tmp_path / "whole", **changes)
    step = trainer.train_step

    def signalled(*arguments):
        if arguments[-1] == 2:
            os.kill(os.getpid(), number)
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Unfinished) as caught:
        patch.setattr(trainer, "train_step", signalled)
        run(base, tmp_path / "cut", **changes)
    assert caught.value.exit_code == UNFINISHED and "after step 3 of 6 is saved" in caught.value.what
    assert latest_step(tmp_path / "cut" / "scratch" / "checkpoints") == 3
    assert signal.getsignal(number) == before
    resumed = run(base, tmp_path / "cut", **changes)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [row["loss"] for row in rows(tmp_path / "whole")] == [
        row["loss"] for row in rows(tmp_path / "cut")
    ]


def test_at_the_last_step_it_finishes(tmp_path, monkeypatch):
    base, step = save_tiny(tmp_path / "base"), trainer.train_step

    def signalled(*arguments):
        if arguments[-1] == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(*arguments)

    monkeypatch.setattr(trainer, "train_step", signalled)
    run(base, tmp_path / "run", max_steps=2)
    assert len(rows(tmp_path / "run")) == 2


def test_elsewhere_a_signal_passes_through_handlers_of_errors_but_not_through_finally():
    before, ended = {n: signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGTERM)}, []
    raise_on_signals()
    try:
        with pytest.raises(Stopped, match="SIGUSR1"):
            try:
                os.kill(os.getpid(), signal.SIGUSR1)
            except Exception:
                ended.append("swallowed")
            finally:
                ended.append("finally")
        assert ended == ["finally"]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
