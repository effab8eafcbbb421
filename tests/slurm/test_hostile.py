"""Names, paths and values with spaces, quotes, $(), ;, newlines: each arrives as data, or is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nemo_cot.config.cluster import ContainerConfig, SlurmCluster
from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config, parse_override
from nemo_cot.launchers.slurm import render
from nemo_cot.launchers.slurm.jobs import ChainJob
from nemo_cot.launchers.slurm.record import write_json
from nemo_cot.launchers.slurm.render import job_arguments, render_script, sbatch_options
from nemo_cot.launchers.slurm.submit import submit_chain
from tests.slurm.conftest import Chain
from tests.slurm.hostile import hostile_strings
from tests.support import SECONDS, environment, one_error

STRINGS = hostile_strings()
JOB = ChainJob("problems", "problems", "cpu", ())
DUMP = "import json, os, sys; json.dump([sys.argv[1:], os.environ.get('HOSTILE')], open(os.environ['DUMP'], 'w'))"


@pytest.fixture(scope="module")
def config():
    return load_config(["cluster=slurm_minimal"])


def chain_in(folder: Path, config, overrides: tuple[str, ...] = ()) -> render.Chain:
    return render.Chain(config, folder / "run", folder / "code", folder, overrides, False)


def test_there_are_200():
    assert len(set(STRINGS)) == len(STRINGS) == 200 and all("\0" not in text for text in STRINGS)


def test_each_as_a_path_and_a_variable_goes_through_a_real_shell(config, tmp_path):
    """The rendered script is run by bash; in the place of the runner stands a program that writes what came."""
    arrived = 0
    for number, text in enumerate(STRINGS):
        folder = tmp_path / str(number) / text.replace("/", "_")
        runner = folder / "code" / "nemo_cot" / "launchers" / "slurm" / "job.py"
        runner.parent.mkdir(parents=True)
        runner.write_text(DUMP)
        cluster = replace(config.cluster, environment={"HOSTILE": text})
        script = folder / "job.sbatch"
        chain = chain_in(folder, replace(config, cluster=cluster), (text,))
        script.write_bytes(render_script(JOB, chain, "01-problems"))
        dump = tmp_path / f"{number}.json"
        done = subprocess.run(
            ["bash", str(script)],
            cwd=tmp_path,
            env=environment(DUMP=str(dump)),
            capture_output=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0 and not done.stderr, (text, done.stderr)
        assert json.loads(dump.read_text()) == [[str(folder / "run" / "slurm" / "01-problems.json")], text]
        # sbatch reads its lines up to the first command.
        head = script.read_text().partition("\nset -e\n")[0].split("\n")
        assert all(line.startswith("#") or not line for line in head), head
        assert sum(line.startswith("#SBATCH") for line in head) == 11, head
        arrived += 1
    assert arrived == 200
    assert list(tmp_path.rglob("PWNED")) == []


def test_each_as_an_override_reaches_the_recipe_as_it_is(config, tmp_path, monkeypatch):
    """All of them at once, by way of the JSON file and the real runner."""
    recipe = tmp_path / "code" / "nemo_cot" / "recipes" / "problems.py"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(DUMP)
    name = tmp_path / "arguments.json"
    write_json(name, job_arguments(JOB, chain_in(tmp_path, config, tuple(STRINGS))))
    dump = tmp_path / "dump.json"
    runner = Path(render.__file__).with_name("job.py")
    done = subprocess.run(
        [sys.executable, str(runner), str(name)], cwd=tmp_path, env=environment(DUMP=str(dump)), capture_output=True,
        text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(dump.read_text())[0] == [*STRINGS, "--only", "problems"]
    assert list(tmp_path.rglob("PWNED")) == []


@pytest.mark.parametrize(
    "field", ["account", "partition", "qos", "reservation", "gpu_type", "constraint", "log_dir"]
)
def test_each_on_a_sbatch_line_is_plain_or_refused(config, field):
    refused = 0
    for text in STRINGS:
        try:
            cluster = replace(config.cluster, **{field: text})
        except UserError as error:
            assert "\n" not in str(error) and field in str(error)
            refused += 1
            continue
        assert isinstance(cluster, SlurmCluster) and re.fullmatch(
            r"[A-Za-z0-9_./~(\[@+,=:*&|!)\]-]+", text
        ), text
    assert refused >= 190


def test_each_as_an_option_of_sbatch_is_plain_or_refused(config):
    taken = []
    for text in STRINGS:
        for argument in (text, f"--mail-user={text}"):
            try:
                replace(config.cluster, sbatch_arguments=[argument])
            except UserError as error:
                assert "\n" not in str(error) and "sbatch_arguments" in str(error)
            else:
                taken.append(argument)
    assert len(taken) <= 10 and all(re.fullmatch(r"--mail-user=[][A-Za-z0-9*=/~|&.,-]+", a) for a in taken), (
        taken
    )


@pytest.mark.parametrize("field", ["partition", "qos", "memory"])
def test_each_among_resources_is_plain_or_refused(config, field):
    for text in STRINGS:
        resources = replace(config.cluster.resources.cpu, **{field: text})
        try:
            cluster = replace(config.cluster, resources=replace(config.cluster.resources, cpu=resources))
        except UserError as error:
            assert "\n" not in str(error) and f"cluster.resources.cpu.{field}" in str(error)
            continue
        options = sbatch_options(JOB, chain_in(Path("/"), replace(config, cluster=cluster)))
        option = {"memory": "mem"}.get(field, field)
        assert f"--{option}={text}" in options and re.fullmatch(r"[A-Za-z0-9_.,@+:/-]+", text), text


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
def test_each_as_image_argument_mount_and_python_is_one_argument_or_refused(config, runtime, tmp_path):
    """Of srun or apptainer, by way of the JSON file of the job, which no shell reads."""
    arrived = 0
    for text in STRINGS:
        try:
            container = ContainerConfig(runtime, text, [f"/{text}:/data"], [text], [text])
            cluster = replace(config.cluster, container=container, python=text)
            arguments = job_arguments(JOB, chain_in(tmp_path, replace(config, cluster=cluster)))
        except UserError as error:
            assert "\n" not in str(error) and "cluster.container" in str(error)
            continue
        write_json(tmp_path / "job.json", arguments)
        command = json.loads((tmp_path / "job.json").read_text())["command"]
        recipe = str(tmp_path / "code" / "nemo_cot" / "recipes" / "problems.py")
        assert command[-4:] == [text, recipe, "--only", "problems"]
        before = command[:-4]
        if runtime == "pyxis":
            own = f"{tmp_path}:{tmp_path}"
            assert before[:3] == ["srun", "--nodes=1", "--ntasks=1"] and before[7:] == [text]
            assert before[3:5] == [f"--container-image={text}", f"--container-mounts={own},/{text}:/data"]
        else:
            assert before[:2] == ["apptainer", "exec"] and before[-2:] == [text, text]
            assert before[before.index("--pwd") - 1] == f"/{text}:/data"
        arrived += 1
    assert arrived >= 50


def test_each_as_the_image_of_one_kind_of_stage(config, tmp_path):
    container = ContainerConfig("pyxis", "image", [], [], [])
    for text in (text for text in STRINGS if not text.startswith("-")):
        resources = replace(config.cluster.resources, cpu=replace(config.cluster.resources.cpu, image=text))
        cluster = replace(config.cluster, container=container, resources=resources)
        command = job_arguments(JOB, chain_in(tmp_path, replace(config, cluster=cluster)))["command"]
        assert command[3] == f"--container-image={text}"


def test_each_as_a_value_comes_through_hydras_parser():
    """Quoted as our own overrides are; a dollar with a brace is the config language's own."""
    texts = [text.replace("${", "$ {") for text in STRINGS]
    quoted = ",".join(map(hydra_quoted, texts))
    assert load_config(["cluster=slurm_minimal", f"cluster.setup=[{quoted}]"]).cluster.setup == texts


def test_each_as_an_override_as_it_stands_is_one_value_or_one_error():
    """By Hydra's own parser; every tenth is composed as well."""
    refused = 0
    for number, text in enumerate(STRINGS):
        override = f"report.title={text}"
        try:
            parsed = parse_override(override)
            assert parsed.key_or_group == "report.title"
            if number % 10 == 0:
                load_config([override])
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 100 <= refused < 200


def test_each_as_the_name_of_a_run_is_plain_or_refused(config):
    refused = 0
    for text in STRINGS:
        try:
            replace(config, name=text)
        except UserError:
            refused += 1
        else:
            assert re.fullmatch(r"[A-Za-z0-9_.-]+", text), text
    assert refused >= 195


def test_paths_and_values_on_a_real_cluster(fresh: Chain, tiny_model):
    """One chain whose run directory, start directory and title hold what hurts most."""
    nasty = "a b'c\"d $(touch PWNED) `touch PWNED`; é\n#SBATCH --output=PWNED\n #x"
    title = "".join(text for text in STRINGS if "${" not in text)  # that is the config language's own
    cwd = fresh.cwd / f"start {nasty}"
    shutil.copytree(tiny_model, cwd / "my model")
    fresh.cwd, fresh.run = cwd, cwd / f"runs {nasty}" / "tiny"
    fresh.overrides += [
        "model.path=my model", f"runs_dir={hydra_quoted(f'runs {nasty}')}", f"report.title={hydra_quoted(title)}",
        "launcher.stages=[problems,convert,report]",
    ]  # fmt: skip
    fresh.submit()
    assert set(fresh.wait_end().values()) == {"COMPLETED"}, fresh.told()
    manifest = json.loads((fresh.run / "report" / "manifest.json").read_text())
    assert manifest["config"]["report"]["title"] == title
    assert yaml.safe_load((fresh.run / "config.yaml").read_text())["report"]["title"] == title
    assert "[problems] runs" in fresh.log("problems"), "and its log lies where it belongs"
    assert list(fresh.cwd.parent.rglob("PWNED")) == []
    assert "completed" in fresh.call("status").stdout


@pytest.mark.parametrize("name", ["per%cent", "back\\slash"])
def test_what_slurm_takes_for_a_pattern_is_refused(fresh: Chain, name):
    refused = fresh.call("submit", "cluster=slurm_minimal", f"runs_dir={hydra_quoted(name)}", check=False)
    one_error(refused, "percent sign or a backslash", "runs_dir")
    assert not (fresh.cwd / name).exists()


def test_a_config_file_by_its_path_is_not_submitted(tmp_path):
    """It is not copied, and may be another one when the jobs start."""
    profile = tmp_path / "mine.yaml"
    profile.write_text("defaults:\n  - slurm_minimal\n  - _self_\n")
    for cluster in (profile, f"'{profile}'"):
        with pytest.raises(UserError, match=r"NEMO_COT_CONFIG_DIR=DIR.*cluster=mine"):
            submit_chain(["experiment=quickstart", f"cluster={cluster}", f"runs_dir={tmp_path}", "--dry-run"])
