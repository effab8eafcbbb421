"""What stands beside a trained model's weights, so that others use it as it was trained: where an answer ends, and
the chat template. No torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nemo_cot.config.model import ModelConfig
from nemo_cot.errors import UserError
from nemo_cot.io.atomic import write_bytes, write_text
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.models.convert import copy_tokenizer
from nemo_cot.models.format import student_tokenizer
from nemo_cot.text import PromptFormat

_KEPT = ("bos_token_id", "pad_token_id")
"""Of the base's generation_config.json: what is no sampling value."""
_TEMPLATE = """\
{{%- set system = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' -%}}
{{{{- {head} -}}}}
{{%- for message in messages -%}}
{{%- if message['role'] == 'user' -%}}
{{{{- {ask} + (system if loop.index0 < 2 and (system or loop.first) else '') + message['content'] + {asked} -}}}}
{{%- elif message['role'] == 'assistant' -%}}
{{{{- {answer} + message['content'] + {answered} -}}}}
{{%- elif not loop.first or message['role'] != 'system' -%}}
{{{{- raise_exception('the model was trained on the roles user and assistant') -}}}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{- {answer} -}}}}
{{%- endif -%}}
"""


def finish_export(folder: Path, base: Path, model: ModelConfig) -> None:
    """Put beside the weights in ``folder`` the tokenizer of ``base``, a generation_config.json that ends an answer
    at model.end_of_turn and the eos, with no sampling value of the base's, and a chat template that renders
    model.prompt for one question. Raises UserError for a tokenizer without those tokens.
    """
    copy_tokenizer(base, folder)
    tokenizer = student_tokenizer(model, folder)
    theirs = _read(base / "generation_config.json")
    generation = {"eos_token_id": tokenizer.stop_ids} | {key: theirs[key] for key in _KEPT if key in theirs}
    if generation.get("pad_token_id") is None:
        generation["pad_token_id"] = tokenizer.end_of_turn_id if tokenizer.eos_id is None else tokenizer.eos_id
    _write(folder / "generation_config.json", generation)
    settings = _read(folder / "tokenizer_config.json")
    bos = settings.get("bos_token")
    template = chat_template(tokenizer.form, bos=(bos.get("content") if isinstance(bos, dict) else bos) or "")
    write_text(folder / "chat_template.jinja", template)
    if settings:  # where transformers before 4.43 looks, and what the base may have had
        _write(folder / "tokenizer_config.json", {**settings, "chat_template": template})


def chat_template(form: PromptFormat, *, bos: str) -> str:
    """A Jinja template: one user message, with add_generation_prompt, gives ``form.prompt``, character by character.

    Further turns repeat it without what opens a conversation: ``bos``, and a system message in the prompt. Each
    answer ends in the end-of-turn token. A system message, which the model was not trained on, goes before the
    first question.
    """
    before, after = form.prompt.split("{problem}")
    start = _behind_turn(before, before.rfind(form.end_of_turn), form.end_of_turn)
    start = start or (len(bos) if before.startswith(bos) else 0)
    place = after.find(form.end_of_turn)
    end = _behind_turn(after, place, form.end_of_turn) or len(after)
    blanks = after[place + len(form.end_of_turn) : end] if place >= 0 else ""
    parts = {
        "head": before[:start], "ask": before[start:], "asked": after[:end], "answer": after[end:],
        "answered": form.end_of_turn + blanks,
    }  # fmt: skip
    # A string of JSON is one of Jinja, where characters beyond ASCII stand for themselves.
    return _TEMPLATE.format(**{name: json.dumps(text, ensure_ascii=False) for name, text in parts.items()})


def _behind_turn(text: str, place: int, end_of_turn: str) -> int:
    """Where the blanks end that follow the end-of-turn token at ``place``; 0 without one."""
    rest = text[place + len(end_of_turn) :]
    return len(text) - len(rest.lstrip()) if place >= 0 else 0


def _read(path: Path) -> dict[str, Any]:
    """A JSON object of the base model's; empty without such a file."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except DAMAGED as error:
        raise UserError(f"damaged ({error})", where=str(path), fix="copy or convert the model again") from None
    return value if isinstance(value, dict) else {}


def _write(path: Path, value: dict[str, Any]) -> None:
    write_bytes(path, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")
