"""What is wrong with a study as a whole, before it starts: its disk, its images, what its table could not compare."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nemo_cot.config import Config
from nemo_cot.config.overrides import hydra_value
from nemo_cot.errors import UserError, nearest
from nemo_cot.evaluation.sets import HeldOut, held_out_sets, on_set
from nemo_cot.evaluation.subjects import subject_names
from nemo_cot.experiment.groups import choices
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.study import Chosen, Study, StudyRun
from nemo_cot.io.paths import num_bytes_below, user_path
from nemo_cot.preflight import Finding
from nemo_cot.preflight.rules import fits_disk
from nemo_cot.stages.manifest import flatten
from nemo_cot.stages.publish import SCRATCH
from nemo_cot.training.backend import backend_of

if TYPE_CHECKING:
    from nemo_cot.experiment.sharing import StudyPlan


def check_measured(study: Study, run: StudyRun, cfg: Config) -> None:
    """Raise UserError where a run does not have the model, or a held-out set, that the study compares."""
    if study.baseline and run.subject not in (there := subject_names(cfg)):
        raise UserError(
            f"compares {run.subject}, which this run does not evaluate (evaluate.subjects: {', '.join(there)})",
            where=f"study {study.name}",
            fix=nearest(run.subject, there, f"give the run subject: {there[0]}, or add it to evaluate.subjects"),
        )
    for name in filter(None, study.sets):
        if name not in cfg.evaluate.sets:
            there = ", ".join(cfg.evaluate.sets) or "none"
            raise UserError(
                f"is measured on the set {name}, which this run does not have (it has {there})",
                where=f"study {study.name}, measures",
                fix=f"set evaluate.sets.{name}.problems=FILE in the study's overrides, or leave it out of measures",
            )


def study_findings(plan: StudyPlan, chosen: Chosen) -> Iterator[tuple[str, Finding]]:
    """What is found, each with whom it is about: a run, a variant, or the study."""
    yield from _images(plan)
    first = {p.run.variant: p for p in reversed(plan.runs)}
    variants = {p.run.variant: first[p.run.variant] for p in plan.chosen}
    if base := first.get(chosen.study.baseline):
        for variant, planned in variants.items():
            ours, theirs = ({one.name: one for one in held_out_sets(p.cfg)} for p in (base, planned))
            pairs = [(ours[name], theirs[name]) for name in chosen.study.sets]
            yield from ((variant, finding) for finding in _comparable(pairs, chosen.study.baseline))
    known = {base.scores: chosen.study.baseline} if base else {}
    for variant, planned in variants.items():
        other = known.setdefault(planned.scores, variant)
        if other != variant and None not in planned.scores:
            what = f"its {planned.run.subject} model comes out of the very same stages as that of {other}"
            yield variant, Finding("study_variants", "warning", what, "correct its overrides, or leave it out")
    yield from (("study", Finding("study_disk", *found)) for found in _disk(plan, chosen))


def _images(plan: StudyPlan) -> Iterator[tuple[str, Finding]]:
    """An error where another run trains in the same image with a backend that needs another one."""
    images: dict[str, tuple[str, str]] = {}
    for planned, cfg in ((p, p.cfg) for p in plan.chosen):
        cluster, target = cfg.cluster.slurm, backend_of(cfg.train).image
        if cluster is None or cluster.container.runtime == "none" or "train" not in cfg.launcher.stages:
            continue
        image = cluster.resources.train.image or cluster.container.image
        other, first = images.setdefault(image, (target, planned.name)) if image and target else (target, "")
        if other != target:
            what = f"train={cfg.train.backend} needs the image {target}; {image} trains run {first}, which needs {other}"
            fix = "name both images by the trainer: 'cluster.container.image=/images/${train.backend}.sqsh'"
            yield f"run {planned.name}", Finding("study_images", "error", what, fix)


def _comparable(pairs: Sequence[tuple[HeldOut, HeldOut]], baseline: str) -> Iterator[Finding]:
    """Of each set of the baseline and a variant's: whether the problems are the same, where that is known before they are
    made; and of the first set with another number of samples, which further ones have too unless they say otherwise.
    """
    for ours, theirs in pairs:
        one, other = ours.cfg.problems.heldout, theirs.cfg.problems.heldout
        before, after = ({f"{theirs.key}.{key}": v for key, v in flatten(decides).items()} for decides in (one, other))
        if differing := [key for key in before | after if _differs(key, before.get(key), after.get(key))]:
            shown = ", ".join(f"{key} {after.get(key)}, there {before.get(key)}" for key in differing[:2])
            fix = " ".join(f"{key}={'null' if (v := before.get(key)) is None else hydra_value(v)}" for key in differing)
            fix = choices(theirs.key, [one["source"]]) if one["source"] != other["source"] else fix
            what = f"other {on_set('held-out problems', theirs.name)} than the baseline {baseline} ({shown}): no table compares them"
            yield Finding("study_problems", "error", what, f"set {fix}")
    counts = {theirs.name: [one.cfg.evaluate.samples_per_problem for one in (ours, theirs)] for ours, theirs in pairs}
    for name, (mine, its) in [found for found in counts.items() if len(set(found[1])) > 1][:1]:
        what = f"{on_set(f'{its} samples per problem', name)}, the baseline {baseline} has {mine}: pass@k and maj@k of all take the "
        key = f"evaluate.sets.{name}" if name else "evaluate"
        yield Finding("study_samples", "warning", f"{what}first {min(mine, its)}", f"set {key}.samples_per_problem={mine}")


def _differs(key: str, before: Any, after: Any) -> bool:
    """Of files their content, where both are there."""
    if before == after or not key.endswith(".heldout_path") or not before or not after:
        return before != after
    files = (user_path(before), user_path(after))
    return all(path.is_file() for path in files) and not filecmp.cmp(*files, shallow=False)


def _disk(plan: StudyPlan, chosen: Chosen) -> Iterator[tuple[str, str, str]]:
    """What the runs still write, each shared stage once; a training's own checkpoints go before the next one starts, but on
    a cluster, where all may train at once.
    """
    makers, needed, scratch, unknown = plan.makers(), 0, [], []
    for planned in plan.chosen:
        own = [name for name, key in planned.keys.items() if planned.open(name) and makers[key] is planned]
        disk = planned.training.disk if planned.training else None
        unknown += [planned.name] if disk is None and "train" in own else []
        for name in own if disk else ():
            there = sum(map(num_bytes_below, run_directory(planned.cfg).partials(name)))
            needed += max(0, disk.get(name, 0) - there)
            scratch += [disk.get(SCRATCH, 0)] if name == "train" else []
    at_once = len(scratch) if any(p.cfg.cluster.slurm for p in plan.chosen) else chosen.jobs
    needed += sum(sorted(scratch)[-at_once:])
    who = f"the runs{f' (without {len(unknown)} whose model is not there yet)' if unknown else ''} need"
    if plan.chosen:
        yield from fits_disk(who, needed, user_path(chosen.study.runs_dir), plan.chosen[0].cfg)
