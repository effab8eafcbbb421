"""A log of inspect_ai, read back by inspect_ai's own reader."""

import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.scores import score
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.report.inspect_log import write_inspect_log
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import msgspec, write_manifest
from tests.report.made import HOSTILE, evaluation, graded
from tests.report.test_report import manifest
from tests.support import nemo_cot_here, one_error


@pytest.fixture
def run(tmp_path):
    found = RunDirectory(tmp_path / "made").create()
    folder, rows = found.stage("evaluate/scores"), graded()
    rows["trained"][0].generation = HOSTILE
    rows["trained"][1].finish_reason = "length"
    folder.mkdir(parents=True)
    for name, group in rows.items():
        write_jsonl(folder / f"{name}.jsonl", group)
        found.stage(f"evaluate/{name}").mkdir()
        write_manifest(
            found.stage(f"evaluate/{name}"),
            manifest(f"evaluate/{name}", {}, {"g": "s"}, sampling={"top_p": 0.95}),
        )
    write_bytes(folder / "metrics.json", msgspec.json.encode(score(rows, evaluation())))
    return found


@pytest.mark.parametrize("suffix", [".eval", ".json"])
def test_inspect_ais_reader_reads_what_was_written(run, tmp_path, suffix):
    log = pytest.importorskip("inspect_ai.log", reason="no inspect_ai (pip install 'nemo-cot[inspect]')")
    path = tmp_path / f"log{suffix}"
    assert write_inspect_log(run, "trained", path) == 4
    found = log.read_eval_log(str(path))
    assert (
        found.status == "success" and found.eval.model == "nemo-cot/trained" and found.eval.config.epochs == 2
    )
    assert found.eval.dataset.samples == 2 and found.eval.model_args == {"sampling": {"top_p": 0.95}}
    by_id = {(sample.id, sample.epoch): sample for sample in found.samples}
    assert {key: sample.scores["nemo_cot"].value for key, sample in by_id.items()} == {
        ("a", 1): "C", ("a", 2): "C", ("b", 1): "I", ("b", 2): "C",
    }  # fmt: skip
    assert by_id["a", 1].output.completion == HOSTILE and by_id["a", 1].input == "What is a?"
    assert [by_id["a", epoch].output.stop_reason for epoch in (1, 2)] == ["stop", "max_tokens"]
    assert found.results.scores[0].metrics["lenient"].value == 0.75
    base = tmp_path / f"base{suffix}"
    write_inspect_log(run, "base", base)
    assert log.read_eval_log_sample(str(base), id="b", epoch=2).scores["nemo_cot"].value == "N", (
        "undecided is neither"
    )


def test_what_cannot_be_written_is_refused(run, tmp_path):
    for subject, name, part in (
        ("trained", "log.txt", "neither"),
        ("other", "log.eval", "choose among base, trained"),
        ("trained", "made", "neither"),
    ):
        with pytest.raises(UserError) as caught:
            write_inspect_log(run, subject, tmp_path / name)
        assert part in f"{caught.value} {caught.value.fix}"
    (tmp_path / "there.eval").touch()
    with pytest.raises(UserError, match="exists"):
        write_inspect_log(run, "trained", tmp_path / "there.eval")


def test_the_verb(run, tmp_path):
    pytest.importorskip("inspect_ai.log", reason="no inspect_ai (pip install 'nemo-cot[inspect]')")
    path = tmp_path / "log.eval"
    done = nemo_cot_here("export", "made", "--inspect", path, f"runs_dir={tmp_path}")
    assert done.returncode == 0 and "inspect view" in done.stdout, done.stderr
    assert path.stat().st_size > 1000
    one_error(nemo_cot_here("export", "made", "--inspect", path, f"runs_dir={tmp_path}"), "exists already")
    one_error(
        nemo_cot_here(
            "export", "made", "--inspect", tmp_path / "x.eval", "--subject", "x", f"runs_dir={tmp_path}"
        ),
        "no scores",
    )
