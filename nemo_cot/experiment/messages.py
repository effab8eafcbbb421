"""One line out of Hydra's and OmegaConf's several: what is wrong, at which key or in which file, and what to do."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import yaml
from omegaconf import OmegaConf

from nemo_cot.errors import UserError, nearest
from nemo_cot.experiment import groups
from nemo_cot.experiment.groups import EXTRA_CONF, KINDS, PLACES
from nemo_cot.experiment.typed import not_filled_in, wanted_type


def explain(error: Exception, overrides: Sequence[str] = ()) -> UserError:
    """The UserError for an error of composing; ``overrides`` as typed."""
    given = {key: value.strip("'\"") for key, _, value in (text.partition("=") for text in overrides)}
    if isinstance(error, RecursionError):
        return _names_itself(given)
    if isinstance(error, yaml.YAMLError):
        return _not_yaml(error)
    if isinstance(error, UnicodeDecodeError):
        return _not_utf8(error)
    text = str(error)
    if absent := re.search(r"(?:Could not find|Cannot find primary config) '([^']+)'", text):
        return unknown_option(absent[1], given)
    if absent := re.search(r"Could not override '(?:\w+@)?([^']+)'", text):
        return _key_out_of_place(absent[1].replace("/", "."))
    if needed := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return must_be_given(needed[1])
    place = re.search(r"[Ii]n '([^']+)'", text)
    file = groups.file_of(place[1]) if place else None
    if file and OmegaConf.is_list(OmegaConf.load(file)):
        return UserError("holds a list, where keys are needed", where=str(file), fix="write it as KEY: VALUE")
    full_key = re.search(r"full_key: (\S+)", text)
    if unknown := re.search(r"[Kk]ey '([^']+)' (?:is )?not in", text):
        key = full_key[1] if full_key else unknown[1]
        if not file or key != "experiment":
            return _key_out_of_place(key)
        what = "its keys would lie below `experiment`, which is no key"
        return UserError(what, where=str(file), fix="begin the file with the line: # @package _global_")
    cause = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    if error.__cause__ is not None and str(error.__cause__).strip():
        cause = str(error.__cause__).strip().splitlines()[0]
        full_key = full_key or re.search(r"full_key: (\S+)", str(error.__cause__))
    if named := re.search(r"invalid literal for int\(\) with base 10: '(\w+)'", cause):
        key = next((k for k in given if f".{named[1]}" in f".{k}"), "config")
        entries = key.partition(f".{named[1]}")[0]
        fix = f"give the list whole, '{entries}=[...]', or one entry by its number: {entries}.0..."
        return UserError("a list, whose entries have no names, stands here", where=entries, fix=fix)
    cause = re.sub(r"^\w+ raised while resolving interpolation: ", "", cause)
    where = full_key[1] if full_key else str(file or "config")
    if cause == "Cannot merge DictConfig with ListConfig":
        return UserError("a list stands where keys are needed", where=where, fix=f"set its keys, as in {where}.KEY=VALUE")
    found = not_filled_in(error, cause, where) if groups.holds_text(where) else None
    found = found or wanted_type(cause, where, given.get(where))
    return found or UserError(cause, where=where, fix="correct this value")


def unknown_key(key: str) -> UserError:
    """Name the nearest key: a sibling, or those with the same last part elsewhere, or anything alike."""
    parent, _, last = key.rpartition(".")
    known = sorted(groups.settable(key))
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    same_part = [k for k in known if k.rpartition(".")[2] == last]
    near = [k for k in same_part if k.partition(".")[0] == key.partition(".")[0]]
    near = near or difflib.get_close_matches(key, same_part, n=1, cutoff=0.85)
    near = near or [siblings[part] for part in difflib.get_close_matches(last, siblings, n=1)]
    near = near or same_part or difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if near:
        several = "one of " if len(near) > 1 else ""
        return UserError("unknown key", where=key, fix=f"did you mean {several}{', '.join(near)}?")
    there = ", ".join(sorted(siblings)) if parent and siblings else "those that `nemo-cot show` prints"
    return UserError("unknown key", where=key, fix=f"the keys there are: {there}")


def hydras_own(override: str) -> UserError:
    """A key of Hydra itself: its folder of a job is our run directory."""
    key, _, value = override.partition("=")
    folder = re.fullmatch(r"(?:(.*)/)?([\w.-]+)/?", value) if key.endswith(".dir") else None
    place = f"runs_dir={folder[1] or '.'} name={folder[2]}" if folder else "runs_dir=DIR name=NAME"
    fix = f"a run lies in runs_dir/name: {place}; `nemo-cot submit` starts jobs"
    return UserError("is Hydra's own key, which is not used here", where=key, fix=fix)


def comes_with_the_choice(key: str, value: object) -> UserError:
    """A key of :data:`groups.BY_CHOICE` that was set by hand: name what to choose."""
    plain = groups.without_entry(key)
    place = groups.BY_CHOICE[key] if plain == key else key.rpartition(".")[0]
    named = {str(value)} & groups.variants_of(place).keys() or None
    return UserError(
        f"comes with the choice of {place}; {value!r} by itself would be ignored",
        where=key,
        fix=f"choose {groups.choices(place, named)}",
    )


def unknown_option(name: str, given: Mapping[str, str]) -> UserError:
    """A choice that a config group does not have, such as experiment/quikstart."""
    known = sorted(key for key in groups.known_keys() if groups.is_group(key))
    group = max((key for key in known if name.startswith(f"{key}/")), key=len, default=None)
    if group is None:
        fix = f"the config groups there are: {', '.join(known)}"
        return UserError("is in no config group", where=name, fix=fix)
    option = name.removeprefix(f"{group}/")
    place = next((key for key in given if groups.group_of(key) == group != key), group)
    options = list(dict.fromkeys(path.stem for path in groups.files_of(group)))
    hint = nearest(option, options, f"choose one of {', '.join(options)}.", before=f"{place}=")
    folder = os.environ.get(EXTRA_CONF) or "DIR"
    own = f"A file of your own: {place}=PATH/NAME.yaml, or {EXTRA_CONF}={folder} with {group}/NAME.yaml in it"
    return UserError(f"there is no {option!r}", where=place, fix=f"{hint} {own}")


def must_be_given(*keys: str) -> UserError:
    """All of them at once: one per command would take as many commands."""
    problems = any("problems" in key for key in keys)
    kind = "; problems are JSON lines with the keys problem and expected_answer, or tables of options" if problems else ""
    what = "this value must be given" if len(keys) == 1 else "these values must be given"
    return UserError(what, where=", ".join(keys), fix=f"add {' '.join(f'{key}=VALUE' for key in keys)}{kind}")


def _key_out_of_place(key: str) -> UserError:
    """A key that the composed config does not have: unknown, or another option's of its group."""
    entry, plain = ".".join(key.split(".")[:3]), groups.without_entry(key)
    if key.startswith("evaluate.models."):
        fix = "write it into an experiment file, as conf/experiment/paper_baselines.yaml does"
        return UserError("there is no such model", where=entry, fix=fix)
    if plain not in groups.known_keys():
        return unknown_key(key)
    place = next((p for p in (*PLACES, *KINDS) if plain.startswith(f"{p}.")), plain.partition(".")[0])
    if plain.startswith(f"{groups.SETS}.") and place not in KINDS:
        fix = f"choose its problems first: {entry}.problems=FILE, a file of conf/problems"
        return UserError("there is no such set", where=entry, fix=fix)
    chosen = _choices_with(place, plain).replace(f"{groups.SETS}.", f"{entry}.")
    parent, _, own = place.partition(".")
    if own and chosen:  # an engine of the teacher: it, too, is a key that not every teacher has
        outer = _choices_with(parent, place)
        chosen += f" (with {outer})" if outer else ""
    fix = f"choose {chosen}, or leave {key} out" if chosen else f"leave {key} out"
    shown = place.replace(f"{groups.SETS}.", f"{entry}.")
    return UserError(f"the chosen {shown} has no such key", where=key, fix=fix)


def _choices_with(place: str, key: str) -> str:
    """place=A or place=B: what has ``key`` in its own schema."""
    variants = groups.variants_of(place)
    having = [name for name, node in variants.items() if key in groups.schema_keys(node, f"{place}.")]
    return groups.choices(place, having)


def _not_yaml(error: yaml.YAMLError) -> UserError:
    """With the file and line, where the parser names them."""
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else getattr(error, "name", "config")
    cause = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return UserError(f"not YAML: {cause}", where=where, fix="correct the file")


def _not_utf8(error: UnicodeDecodeError) -> UserError:
    """The decoder knows what it was given, and not out of which file that came."""
    given = bytes(error.object)
    files = (path for folder in groups.folders() for path in folder.rglob("*.yaml"))
    file = next((path for path in files if given in groups.content(path)), None)
    line = (
        groups.content(file)[: groups.content(file).find(given) + error.start].count(b"\n") + 1 if file else 0
    )
    return UserError(
        f"is not UTF-8 (byte 0x{given[error.start]:02x})",
        where=f"{file}, line {line}" if file else "config",
        fix="save the file as UTF-8",
    )


def _names_itself(given: Mapping[str, str]) -> UserError:
    starts = (f"{groups.group_of(place)}/{option}" for place, option in given.items())
    circle = next(filter(None, map(_circle, starts)), ())
    return UserError(
        "its defaults lead back to itself",
        where=str(groups.file_of(circle[0])) if circle else "a file of conf",
        fix=f"break the circle {' -> '.join((*circle, *circle[:1]))}",
    )


def _circle(option: str, behind: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The options (GROUP/NAME) that lead from one to the next and back, on the way from ``option``; None without."""
    if option in behind:
        return behind[behind.index(option) :]
    found = (_circle(further, (*behind, option)) for further in _defaults(option))
    return next(filter(None, found), None)


def _defaults(option: str) -> Iterator[str]:
    """What the defaults list of ``option`` names."""
    file, group = groups.file_of(option), option.rpartition("/")[0]
    content = yaml.safe_load(groups.content(file)) if file else None
    for entry in content.get("defaults") or () if isinstance(content, dict) else ():
        for key, name in entry.items() if isinstance(entry, dict) else [("", entry)]:
            key, name = re.sub(r"^(override|optional) |@.*", "", str(key)), str(name)
            path = f"{key}/{name}".lstrip("/") if key.startswith("/") else f"{group}/{key}/{name}"
            yield name[1:] if name.startswith("/") else re.sub("/+", "/", path)
