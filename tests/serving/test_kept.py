"""A server stays up between the stages that ask for the same one, and no longer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_cot.errors import Fault
from nemo_cot.serving.server import servers_kept, serving
from tests.serving.test_server import SCRIPTED, config
from tests.support import ROOT, one_error, recipe_here, run_stages, tiny_experiment, wait_for

SERVER = ROOT / "tests" / "scripted_server.py"
ASKED = {"config": config(command=SCRIPTED), "model": Path("m"), "seeded": True}


def up(server) -> bool:
    return server.process.exit_code() is None


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    with servers_kept(tmp_path / "servers" / "refine"):
        yield tmp_path


def asked(folder: Path, **changes: object):
    values = {**ASKED, **changes}
    return serving(values.pop("config"), values.pop("model"), folder, **values)


def test_the_next_stage_has_the_server_that_is_up(room, capsys):
    (room / "a").mkdir()
    with asked(room / "a") as one:
        assert one.process.log == room / "servers" / "refine" / "logs" / "server.log"
    (room / "a").rename(room / "published")
    with asked(room / "b") as other:
        assert other is one and up(one)
    assert "listening" in one.process.last_lines() and not (room / "b").exists()
    assert capsys.readouterr().out.count("server: waiting") == 1


@pytest.mark.parametrize("change", [
    {"model": Path("other")}, {"seeded": False}, {"config": config(command=[*SCRIPTED, "0.01"])},
    {"config": config(command=[*SCRIPTED, "0"], max_model_len=7)},
], ids=["model", "seeded", "command", "context"])  # fmt: skip
def test_another_is_started_only_when_the_first_is_gone(room, change):
    """Two of them would not fit the GPUs."""
    with asked(room) as one:
        pass
    with asked(room, **change) as other:
        assert other is not one and not up(one) and up(other)
    with asked(room, **change) as again:
        assert again is other


def test_one_that_died_is_replaced(room):
    with asked(room) as one:
        one.process.stop()
        with pytest.raises(Fault, match="the server ended"):
            one.check()
    with asked(room) as other:
        assert other is not one and up(other)


def test_it_ends_with_the_stages_however_they_end(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with servers_kept(tmp_path / "servers"):
            with asked(tmp_path) as one:
                pass
            assert up(one)
            raise KeyboardInterrupt
    assert not up(one)
    with asked(tmp_path) as alone:
        pass
    wait_for(lambda: not up(alone))


def test_one_that_does_not_come_up_leaves_nothing_behind(room):
    bad = config(command=["false"])
    for _ in range(2):
        with pytest.raises(Fault):
            with asked(room, config=bad):
                pytest.fail("came up")
    with asked(room) as one:
        assert up(one)
    with pytest.raises(Fault), asked(room, config=bad):
        pytest.fail("came up")
    assert not up(one)
    with asked(room) as other:
        assert up(other) and other is not one


PROBLEMS = "evaluate.sets.four.problems"
FOUR = [f"{PROBLEMS}=chain_sum", f"{PROBLEMS}.terms=4", f"{PROBLEMS}.num_heldout=2", f"{PROBLEMS}.num_train=3"]


def test_stages_of_one_process_share_it_and_stay_valid(tiny_model, tmp_path):
    """The server writes into its log for as long as it is up, which must be no output of a stage."""
    command = ",".join([sys.executable, str(SERVER), "'{port}'", "'{model}'"])
    overrides = [
        *tiny_experiment(tiny_model, tmp_path), *FOUR, "evaluate.engine=openai", "evaluate.subjects=[base]",
        f"evaluate.engine.server.command=[{command}]",
    ]  # fmt: skip
    run = run_stages(overrides, "convert", "problems")
    both = ["--only", "evaluate/base", "--only", "evaluate/four/base"]
    done = recipe_here("evaluate", *overrides, *both)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("server: waiting") == done.stdout.count("server: still that at") == 1
    assert (run.path / "servers/evaluate/base/logs/server.log").exists() and not (run.stage("evaluate/base") / "logs").exists()
    again = recipe_here("evaluate", *overrides, *both)
    assert again.stdout.count("done, skipped") == 2 and "server" not in again.stdout
    alone = recipe_here("evaluate", *overrides, "evaluate.seed=5", "--only", "evaluate/four/base")
    assert "server: waiting" in alone.stdout and (run.stage("evaluate/four/base") / "logs/server.log").exists()
    one_error(recipe_here("evaluate", *overrides, *both, "--only"), "needs the name of a stage")
    one_error(recipe_here("evaluate", *overrides, *both, "--only", "evaluate/none"), "no stage 'evaluate/none'")
