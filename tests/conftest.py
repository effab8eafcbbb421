"""Fixtures that all tests share."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

# In a shell's background job Ctrl-C is ignored, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tiny models are fastest on one thread; processes that the tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


with suppress(ImportError):  # the environment of make contract has no Hypothesis
    from hypothesis import HealthCheck, settings

    # No property fails for the machine's load (deadline, too_slow) or for new random examples (derandomize, database).
    settings.register_profile(
        "fixed", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
    )
    settings.register_profile("search", settings.get_profile("fixed"), derandomize=False)
    settings.load_profile("fixed")


def _surroundings() -> dict[str, object]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    handlers = {s.name: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    return {**environment, **handlers, "directory": Path.cwd()}


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind():
    """Which files share a process, and in what order, differs from run to run: what one leaves changed fails another,
    but only at times.
    """
    before = _surroundings()
    yield
    after = _surroundings()  # what is only there now is not looked at: torch adds variables of its own
    assert {name: after.get(name) for name in before} == before
    assert asyncio._get_running_loop() is None


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: a random Llama of about 30,000 weights with a byte-level tokenizer."""
    from tests.tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def packed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of the tiny experiment, done up to the packs. Copy it before changing anything."""
    from tests.support import RECIPES, run_stages, tiny_experiment

    overrides = tiny_experiment(tiny_model, tmp_path_factory.mktemp("packed"))
    return run_stages(overrides, *RECIPES[: RECIPES.index("train")]).path


@pytest.fixture
def large_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the checkpoints of a 32B model, as preflight asks for it."""
    from nemo_cot.preflight import rules

    monkeypatch.setattr(rules.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**50))
