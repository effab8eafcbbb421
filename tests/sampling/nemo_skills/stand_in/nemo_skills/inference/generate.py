"""A stand-in for nemo_skills.inference.generate: its file protocol and its exit codes, nothing else.

What it does was measured on the real one; tests/sampling/nemo_skills/test_run.py runs the same tests against the
real one where NEMO_SKILLS_PYTHON names an interpreter that has it.
"""

import json
import os
import re
import sys
import time
import urllib.request


def main() -> None:
    assert os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP"), "the real one would fetch a list of prices as it starts"
    given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if argument.startswith("++"))
    cfg = {key: re.sub(r"^'(.*)'$", r"\1", value, flags=re.S) for key, value in given.items()}
    if os.path.exists(cfg["output_file"]):
        print("No data to process, exiting.")
        return
    rows = read(cfg["input_file"])
    unfinished = cfg["output_file"] + "-async"
    done = set()
    if os.path.exists(unfinished):
        done = {row["_async_position"] for row in read(unfinished)}  # a cut line ends it, exit code 1
    with open(unfinished, "a", buffering=1, encoding="utf-8") as out:
        for position in reversed([p for p in range(len(rows)) if p not in done]):  # not the input's order
            out.write(
                json.dumps({**answer(cfg, rows[position]), **rows[position], "_async_position": position})
                + "\n"
            )
    finished = sorted(read(unfinished), key=lambda row: row["_async_position"])
    with open(cfg["output_file"], "w", encoding="utf-8") as out:
        for row in finished:
            row.pop("_async_position")
            out.write(json.dumps(row) + "\n")
    os.unlink(unfinished)


def read(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def answer(cfg: dict, row: dict) -> dict:
    chat = cfg["inference.endpoint_type"] == "chat"
    body = {
        "model": cfg["server.model"], "seed": int(cfg["inference.random_seed"]),
        "max_tokens": int(cfg["inference.tokens_to_generate"]), "temperature": float(cfg["inference.temperature"]),
        "messages" if chat else "prompt": row["messages"],
    }  # fmt: skip
    url = f"http://{cfg['server.host']}:{cfg['server.port']}/v1/{'chat/' if chat else ''}completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=float(cfg["inference.timeout"])) as reply:
        read = json.load(reply)
    choice, now = read["choices"][0], time.time()
    text = choice["message"]["content"] if chat else choice["text"]
    return {
        "generation": text, "num_generated_tokens": read["usage"]["completion_tokens"],
        "finish_reason": choice["finish_reason"], "serialized_output": [{"content": text, "role": "assistant"}],
        "generation_start_time": now, "generation_end_time": now, "generation_time": 0.0,
    }  # fmt: skip


if __name__ == "__main__":
    main()
