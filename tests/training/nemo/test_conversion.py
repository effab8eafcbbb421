"""Conversion commands, argument by argument as the scripts' parsers name them."""

import argparse
import json
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.training.nemo_aligner.conversion import converters, family_of, hf_to_nemo, nemo_to_hf
from nemo_cot.training.nemo_rl.conversion import megatron_lora_to_hf, megatron_to_hf

HF, NEMO = Path("/models/base hf"), Path("/models/base-nemo")


def parsed(argv, flags, switches=()):
    """Parse as the script does (its required and known options), after python -m MODULE."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for flag in flags:
        parser.add_argument(flag, required=True)
    for flag in switches:
        parser.add_argument(flag, action="store_true")
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


def hf(folder, **fields):
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "rope_theta": 1e6, **fields}))
    return folder


def test_the_converter_follows_from_the_model(tmp_path):
    assert family_of(hf(tmp_path)) == "qwen"
    assert family_of(hf(tmp_path, model_type="mistral")) == "llama"
    assert converters("llama")[1] == "nemo_skills.conversion.nemo_to_hf_llama"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model_type": "gemma"}, "no converter for 'gemma'"),
        ({"tie_word_embeddings": True}, "embeddings are tied"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "left out"),
    ],
)
def test_trap_a_model_that_would_be_converted_wrongly(fields, why, tmp_path):
    with pytest.raises(UserError, match=why):
        family_of(hf(tmp_path, **fields))


def test_nemo_rl_converts_a_step():
    argv = megatron_to_hf(Path("/c/step_50"), Path("/c/step_50/policy/weights/iter_0000000"), HF, base=HF)
    assert argv[:6] == [
        "uv",
        "run",
        "--extra",
        "mcore",
        "python",
        "examples/converters/convert_megatron_to_hf.py",
    ]
    flags = ["--config", "--hf-model-name", "--megatron-ckpt-path", "--hf-ckpt-path"]
    args = parsed(argv[3:], flags)
    assert args.config == "/c/step_50/config.yaml" and args.megatron_ckpt_path.endswith("iter_0000000")
    merged = megatron_lora_to_hf(Path("/w"), Path("/b"), Path("/out"), base=HF)
    args = parsed(merged[3:], ["--base-ckpt", "--adapter-ckpt", "--hf-model-name", "--hf-ckpt-path"])
    assert (args.base_ckpt, args.adapter_ckpt, args.hf_ckpt_path) == ("/b", "/w", "/out")
