"""Models' files that plan names before the stages would stop at them, and that stop the chain where they do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from tests.models.headers import write_weights
from tests.models.test_check import Q_PROJ
from tests.support import nemo_cot, one_error, recipe, tiny_experiment


def errors(*overrides: str) -> list[tuple[str, str]]:
    """What preflight refuses about models' files: rule and text."""
    cfg = load_config(overrides)
    found = preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds)
    rules = ("inputs_hold", "model_weights")
    return [(f.rule, f.what) for f in found if f.rule in rules and f.level == "error" and f.fix]


def test_plan_names_what_the_stages_would_stop_at(tiny_model, tmp_path):
    base = ["model=hf_directory", f"model.path={tiny_model}"]
    served = ["train=nemo_aligner", "evaluate.engine=nemo_skills"]
    assert errors(*base) == errors(*base, *served) == []
    # An architecture that a server knows, and we do not.
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "gemma2"}))
    ((rule, what),) = errors(*base[:1], f"model.path={other}")
    assert rule == "model_weights" and "'gemma2'" in what and str(other) in what
    assert errors(*base[:1], f"model.path={other}", *served) == []
    assert errors(*base[:1], f"model.path={other}", "train=nemo_aligner"), "the embedded engine samples it"
    teacher = ["teacher=model", f"teacher.path={other}", "teacher.end_of_turn='<|im_end|>'"]
    assert [rule for rule, _ in errors(*base, *teacher)] == ["model_weights"]
    # A token that is none, of the student, of the teacher, and of one whose server writes the prompt.
    ((rule, what),) = errors(*base, "model.end_of_turn='<|eot_id|>'")
    assert rule == "model_weights" and what.startswith("model.end_of_turn: ") and "'<|eot_id|>'" in what
    teacher = ["teacher=model", f"teacher.path={tiny_model}", "teacher.end_of_turn='<|eot_id|>'"]
    ((rule, what),) = errors(*base, *teacher)
    assert rule == "model_weights" and what.startswith("teacher.end_of_turn: ")
    chat = ["teacher.engine=nemo_skills", "teacher.engine.endpoint=chat"]
    assert errors(*base, *teacher, *chat), "its number is sent, so that no other token ends an answer"
    assert errors(*base, *teacher, *chat, "teacher.engine.dialect=openai") == []
    # What no engine could load is said once.
    broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    write_weights(broken / "model.safetensors", {Q_PROJ: (32, 32)})
    for key in ("model.path", "teacher.path"):
        paths = {"model.path": tiny_model, "teacher.path": tiny_model, key: broken}
        given = ["model=hf_directory", "teacher=model", *(f"{k}={v}" for k, v in paths.items())]
        ((rule, what),) = errors(*given, *served)
        assert rule == "inputs_hold" and what.startswith(f"{key}={broken}: ") and "missing" in what


def test_weights_that_lack_a_tensor_stop_the_chain_before_its_first_stage(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    tensors = load_file(model / "model.safetensors")
    del tensors[Q_PROJ]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    done = nemo_cot("run", *tiny_experiment(model, tmp_path / "runs"))
    one_error(done, f"missing {Q_PROJ}", str(model))
    assert not list((tmp_path / "runs").rglob("manifest.json"))


def test_a_trained_model_that_is_damaged_is_not_evaluated(packed, tiny_model, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(packed, runs / "tiny")
    given = tiny_experiment(tiny_model, runs)
    assert recipe("train", *given).returncode == 0
    weights = runs / "tiny" / "train" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = recipe("evaluate", *given)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "damaged weights" in done.stderr and f"{weights}" in done.stderr and "recipes/train.py" in done.stderr
    assert not (runs / "tiny" / "evaluate").exists(), "nothing was sampled before"
