"""Do NeMo-RL's own classes make of our rows the tokens that we packed? A script for its environment.

    uv run python -P rl_check.py CONFIG.yaml EXPECTED.jsonl

Exits with 0 when they do, else with 1 and a line that says where not. It imports nothing of this
package: NeMo-RL's environment need not hold what that needs. Each line of EXPECTED has a row's
number, its token ids, and how many of them are the prompt's.
"""

import json
import sys


def main(config_path, expected_path):
    """Load the training rows as NeMo-RL's examples/run_sft.py does, and compare those in EXPECTED."""
    from nemo_rl.algorithms.utils import get_tokenizer
    from nemo_rl.utils.config import load_config
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(load_config(config_path), resolve=True)
    rows = training_rows(config["data"], get_tokenizer(config["policy"]["tokenizer"]))
    wanted = config["sft"]["max_num_steps"] * config["policy"]["train_global_batch_size"]
    if len(rows) != wanted:
        sys.exit(f"error: {len(rows)} training rows, not {wanted}. Fix: run the stage again")
    with open(expected_path) as handle:
        expected = [json.loads(line) for line in handle]
    for want in expected:
        if problem := difference(rows[want["row"]], want):
            sys.exit(
                f"error: row {want['row']} ({want['trace']}): {problem}. Fix: train with another backend, "
                "or a tokenizer that both read alike"
            )
    print(f"NeMo-RL trains on our tokens: {len(expected)} distinct rows of {len(rows)} compared")


def training_rows(data, tokenizer):
    """NeMo-RL's data set of the training file."""
    from functools import partial

    from nemo_rl.data.datasets import (
        AllTaskProcessedDataset,
        load_response_dataset,
        update_single_dataset_config,
    )

    update_single_dataset_config(data["train"], data["default"])
    loaded = load_response_dataset(data["train"])
    options = {key: data[key] for key in ("add_bos", "add_eos", "add_generation_prompt")}
    processors = {loaded.task_name: (loaded.task_spec, partial(loaded.processor, **options))}
    return AllTaskProcessedDataset(
        loaded.dataset, tokenizer, None, processors, max_seq_length=data["max_input_seq_length"]
    )


def difference(row, want):
    """What is wrong with a processed row, or None. Trained are the tokens of the assistant's messages."""
    from nemo_rl.data.llm_message_utils import add_loss_mask_to_message_log

    if row["loss_multiplier"] != 1.0:
        return f"blanked: its {row['length']} tokens are too many for data.max_input_seq_length"
    log = row["message_log"]
    add_loss_mask_to_message_log([log], roles_to_train_on=["assistant"])
    ids = [int(token) for message in log for token in message["token_ids"]]
    mask = [int(bit) for message in log for bit in message["token_loss_mask"]]
    if ids != want["input_ids"]:
        place = next((i for i, (a, b) in enumerate(zip(ids, want["input_ids"])) if a != b), None)
        return f"{len(ids)} tokens, ours {len(want['input_ids'])}; the first that differs is {place}"
    trained = len(ids) - want["num_prompt_tokens"]
    if mask != [0] * want["num_prompt_tokens"] + [1] * trained:
        return f"trains {sum(mask)} tokens, ours {trained}"
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
