"""Conversion commands, argument by argument as the scripts' parsers name them."""

import argparse
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.nemo.conversion import average_checkpoints, hf_to_nemo, nemo_to_hf

HF, NEMO = Path("/models/base hf"), Path("/models/base-nemo")


def parsed(argv, flags, switches=(), many=()):
    """Parse as the script does (its required and known options), after python -m MODULE."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for flag in flags:
        parser.add_argument(flag, required=True)
    for flag in switches:
        parser.add_argument(flag, action="store_true")
    for flag in many:
        parser.add_argument(flag, nargs="+", type=int)
    return parser.parse_args(argv[3:])


def test_to_nemo():
    argv = hf_to_nemo("python", "qwen", HF, NEMO)
    assert argv[:3] == ["python", "-m", "nemo_skills.conversion.hf_to_nemo_qwen"]
    args = parsed(argv, ["--in-path", "--out-path", "--hf-model-name", "--precision", "--nemo-format"])
    assert (args.in_path, args.out_path, args.precision, args.nemo_format) == (
        str(HF),
        str(NEMO),
        "bf16",
        "zarr",
    )


def test_to_hugging_face():
    argv = nemo_to_hf("python", "llama", NEMO, Path("/out"), base=HF)
    assert argv[2] == "nemo_skills.conversion.nemo_to_hf_llama"
    args = parsed(argv, ["--in-path", "--out-path", "--hf-model-name", "--precision"], ["--cpu-only"])
    assert (args.in_path, args.out_path, args.hf_model_name, args.cpu_only) == (
        str(NEMO),
        "/out",
        str(HF),
        True,
    )


def test_a_packed_file_is_refused():
    with pytest.raises(UserError, match="unpacked"):
        nemo_to_hf("python", "qwen", Path("/run/megatron_gpt_sft.nemo"), Path("/out"), base=HF)


def test_an_unknown_family_is_refused():
    with pytest.raises(UserError, match="gemma"):
        hf_to_nemo("python", "gemma", HF, NEMO)


def test_averaging():
    argv = average_checkpoints(
        "python", Path("/run/checkpoints"), NEMO, "paper", [30, 40, 50], [10, 20, 30, 40, 50]
    )
    args = parsed(argv, ["--name_prefix", "--untarred_nemo_dir", "--checkpoint_dir"], many=["--steps"])
    assert args.steps == [30, 40, 50] and args.checkpoint_dir == "/run/checkpoints"


@pytest.mark.parametrize(
    ("steps", "why"),
    [([5, 10], "step 5 would take the checkpoints of .50"), ([10], "two or more"), ([10, 15], "two or more")],
)
def test_trap_steps_that_would_average_something_else(steps, why):
    with pytest.raises(UserError, match=why):
        average_checkpoints("python", Path("/c"), NEMO, "paper", steps, [5, 10, 50])
