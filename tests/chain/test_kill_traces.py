"""kill -9 in refine, curate and transform at many moments: the same sha256 after the resume, no reply asked
for twice.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.forks import Forks
from tests.scripted_server import Script, scripted
from tests.support import digests, tiny_experiment

MOMENTS = {
    name: int(os.environ.get("KILLS", "2")) * n
    for name, n in {"refine": 2, "curate": 1, "transform": 1}.items()
}
"""Kills of each recipe, spread over its calls that change the disk; KILLS=5 makes 20."""


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[Script]:
    with scripted(
        say=lambda body: (
            body["prompt"].partition("solve it:\n\n")[2].partition("\n\nExplain")[0].replace("Good", "Right")
        ),
        delay=0.02,
    ) as one:
        yield one


@pytest.fixture(scope="module")
def whole(forks, server, tiny_model, tmp_path_factory) -> tuple[Path, list[str], dict[str, list[str]]]:
    """A run that nobody disturbed, its overrides, and the calls of each recipe."""
    overrides = [
        *tiny_experiment(tiny_model, tmp_path_factory.mktemp("whole")),
        "refine.passes=[{prompt:paraphrase},{prompt:paraphrase,seed:3}]", "refine.engine=openai",
        f"refine.engine.server.base_url={server.base_url}", "refine.engine.server.model_name=scripted",
        "refine.engine.server.neutral=true",
        "refine.engine.max_concurrent_requests=2", "refine.changed=keep", "curate.verdicts=[right,wrong]", "curate.min_tokens=1",
        "transform.steps=[{name:shuffle,dose:1,split:paragraph},{name:digits,dose:0.5}]", "pack.capacity_tokens=2000",
    ]  # fmt: skip
    calls = {}
    for name in ("convert", "problems", "generate", "refine", "grade", "curate", "transform"):
        ended = forks.run(name, overrides)
        assert ended.code == 0, ended.output
        calls[name] = ended.calls
    run = Path(next(o for o in overrides if o.startswith("runs_dir=")).partition("=")[2]) / "tiny"
    return run, overrides, calls


@pytest.mark.parametrize("recipe", MOMENTS)
def test_killed_and_resumed(recipe, whole, forks, server, tmp_path):
    run, overrides, calls = whole
    expected = digests(run / recipe)
    count = len(calls[recipe])
    assert count >= MOMENTS[recipe]
    later = {
        "refine": ("refine", "grade", "curate", "transform"),
        "curate": ("curate", "transform"),
        "transform": ("transform",),
    }
    moments = {round(n * (count - 1) / (MOMENTS[recipe] - 1)) for n in range(MOMENTS[recipe])}
    amid_a_pass = [n for n, call in enumerate(calls[recipe]) if call.startswith("fsync received")]
    assert bool(amid_a_pass) == (recipe == "refine")
    for moment in sorted({*moments, *amid_a_pass[:1]}):
        there = tmp_path / str(moment)
        shutil.copytree(
            run, there / "tiny", ignore=lambda folder, _: later[recipe] if folder == str(run) else ()
        )
        chain, before = [*overrides, f"runs_dir={there}"], len(server.bodies)
        assert forks.run(recipe, chain, kill_at=moment).code == -signal.SIGKILL
        again = forks.run(recipe, chain)
        assert again.code == 0, again.output
        assert digests(there / "tiny" / recipe) == expected, (
            f"killed at call {moment}: {calls[recipe][moment]}"
        )
        if recipe == "refine":
            asked = len(server.bodies) - before
            lost = 64 if calls[recipe][moment].startswith("fsync received") else 2
            assert 48 <= asked <= 48 + lost, "replies that were there were asked for again"
            done = [
                stage for stage in ("refine/1", "refine/2") if f"[{stage}-paraphrase] done" in again.output
            ]
            assert asked - 48 <= 24, f"{done}: a whole pass was drawn twice"
