"""Read a run directory for the report. Missing parts are left out and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nemo_cot.errors import UserError
from nemo_cot.evaluation.graded_runs import GradedSample, graded_files, scored_sets
from nemo_cot.evaluation.scores import Scores, read_scores
from nemo_cot.evaluation.sets import on_set
from nemo_cot.io.json_file import read_json
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.io.paths import CHAIN_FILE
from nemo_cot.records import PackingFigures, StageEnd, StepMetrics, TraceLoss
from nemo_cot.report.results import ChangedKey
from nemo_cot.report.texts import TextSet, text_name
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import MANIFEST, Artifact, Manifest, read_manifest
from nemo_cot.stages.rundir import CHUNKS, OLD, PARTIAL, stage_of
from nemo_cot.traces.candidates import SelectionRow
from nemo_cot.traces.structure.profile import Structure

T = TypeVar("T")


@dataclass
class Evaluated:
    """A run on one held-out set: its scores, and the graded samples by subject."""

    scores: Scores | None = None
    samples: dict[str, Sequence[Any]] = field(default_factory=dict)


@dataclass
class Findings(Evaluated):
    """What a run has; None or empty if a stage has not run. ``scores`` and ``samples`` are on its own held-out problems;
    ``sets``: those on the further ones. ``damaged``: what is wrong with a manifest, by stage; ``expected``: the stages
    of the chain. ``texts``: where the viewer's texts come from; ``flagged``: rows that a filter of contamination put
    aside to be looked at.
    """

    name: str = ""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    sets: dict[str, Evaluated] = field(default_factory=dict)
    expected: Sequence[str] = ()
    damaged: dict[str, str] = field(default_factory=dict)
    chain: list[StageEnd] = field(default_factory=list)
    steps: list[StepMetrics] = field(default_factory=list)
    trace_losses: list[TraceLoss] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    packing: PackingFigures | None = None
    selection: list[SelectionRow] = field(default_factory=list)
    structures: list[Structure] = field(default_factory=list)
    flagged: int = 0
    traces: Sequence[Any] = field(default_factory=list)
    texts: list[TextSet] = field(default_factory=list)
    command: str = ""
    changed: list[ChangedKey] = field(default_factory=list)

    @property
    def failed(self) -> list[StageEnd]:
        """Stages of the last chain that did not end well."""
        return [entry for entry in self.chain if entry.outcome != "ok"]

    @property
    def stale(self) -> list[str]:
        """Stages whose inputs were made again since, or are stale themselves: results of an earlier run."""
        return stale_stages(self.manifests)

    @property
    def missing(self) -> list[str]:
        """Stages of the chain without a result."""
        return [s for s in self.expected if s not in self.manifests and s not in self.damaged]


def stale_stages(manifests: dict[str, Manifest]) -> list[str]:
    """Compare the inputs of each stage with the present outputs that they were read from, in the chain's
    order.
    """
    stale: list[str] = []
    for stage, manifest in manifests.items():
        for maker, name, artifact in _read_from(manifest):
            made = manifests[maker].outputs.get(name) if maker in manifests else None
            changed = made is not None and made.sha256 != artifact.sha256
            if (changed or maker in stale) and stage not in stale:
                stale.append(stage)
    return stale


def _read_from(manifest: Manifest) -> Iterator[tuple[str, str, Artifact]]:
    """(stage, output, what was read of it), for inputs in the run directory, so not for chunks of another
    run.
    """
    for artifact in manifest.inputs.values():
        folder, _, name = artifact.path.rpartition("/")
        if not folder.startswith("/"):
            yield stage_of(folder), name, artifact


def read_manifests(run: RunDirectory) -> dict[str, Manifest]:
    """Every finished stage of ``run``, each after those that it read. Of chunks only those that were merged.

    Damaged manifests are left out: :func:`damaged_manifests` names them.
    """
    found = {
        name: m for name, m in _manifests(run).items() if isinstance(m, Manifest) and m.stage != "report"
    }
    ordered: dict[str, Manifest] = {}

    def add(name: str) -> None:
        manifest = found.get(name) or _manifest(run, name)
        if name in ordered or not isinstance(manifest, Manifest):
            return
        for maker, _, artifact in _read_from(manifest):
            if maker in found or ("/chunk-" in maker and not artifact.path.startswith("/")):
                add(maker)
        ordered[name] = manifest

    for name in sorted(found):
        add(name)
    return ordered


def damaged_manifests(run: RunDirectory) -> dict[str, str]:
    """By stage, what is wrong with an unreadable manifest, and the fix."""
    return {name: str(m) for name, m in _manifests(run).items() if isinstance(m, UserError)}


def _manifest(run: RunDirectory, stage: str) -> Manifest | UserError | None:
    try:
        return read_manifest(run.stage(stage))
    except UserError as error:
        return error


def _manifests(run: RunDirectory) -> dict[str, Manifest | UserError | None]:
    """By stage: a folder of the run with a manifest, or one below folders that have none (evaluate/base)."""
    folders: list[str] = []
    for depth in ("*", "*/*", "*/*/*"):  # runs/NAME, evaluate/base, evaluate/SET/base
        found = (path.parent.relative_to(run.path).as_posix() for path in sorted(run.path.glob(f"{depth}/{MANIFEST}")))
        folders += [folder for folder in found if not any(folder.startswith(f"{above}/") for above in folders)]
    own = [f for f in folders if PARTIAL not in f and OLD not in f and CHUNKS not in f]
    return {name: _manifest(run, name) for name in map(stage_of, own)}


def input_files(run: RunDirectory) -> dict[str, Path]:
    """The existing files that a report is made from, by label."""
    stages = (*read_manifests(run), *damaged_manifests(run))
    files = {f"{stage}/manifest": run.stage(stage) / MANIFEST for stage in stages}
    files["chain"] = run.path / CHAIN_FILE
    return {label: path for label, path in files.items() if path.exists()}


def collect(
    run: RunDirectory,
    name: str,
    *,
    expected: Sequence[str] = (),
    command: str = "",
    changed: Sequence[ChangedKey] = (),
) -> Findings:
    """Read every finished stage of ``run``; ``expected`` are those that its chain has. ``command`` reproduces
    it; ``changed``: what of its config differs from the defaults. Texts are not read yet.
    """
    chain, curate = run.path / CHAIN_FILE, run.stage("curate")
    own = _evaluated(run, "")
    chosen = run.stage("transform" if "transform" in expected else "curate") / "traces.jsonl"
    selection, flagged = curate / "selection.jsonl", curate / "flagged.jsonl"
    return Findings(
        name=name,
        manifests=read_manifests(run),
        expected=expected,
        damaged=damaged_manifests(run),
        chain=read_json(chain, list[StageEnd], fix=f"remove {chain}; the next run writes it again") or [],
        scores=own.scores,
        samples=own.samples,
        sets={name: _evaluated(run, name) for name in scored_sets(run)},
        steps=_rows(run.stage("train") / "metrics.jsonl", StepMetrics),
        trace_losses=_rows(run.stage("train") / "trace_losses.jsonl", TraceLoss),
        dropped=_figures(run, "curate", "dropped.json", dict[str, int]) or {},
        packing=_figures(run, "pack", "packing.json", PackingFigures),
        selection=_rows(selection, SelectionRow),
        structures=[
            found
            for stage in ("curate", "evaluate/scores")
            if (found := _figures(run, stage, "structure.json", Structure)) is not None
        ],
        flagged=len(_rows(flagged, dict)),
        traces=_rows(chosen, GradedSample),
        texts=_texts(run, chosen),
        command=command,
        changed=list(changed),
    )


def _evaluated(run: RunDirectory, name: str) -> Evaluated:
    """On the set ``name``."""
    scores = read_scores(run, name)
    graded = graded_files(run, name) if scores else {}
    return Evaluated(scores, {subject: _rows(path, GradedSample) for subject, path in graded.items()})


def _texts(run: RunDirectory, chosen: Path) -> list[TextSet]:
    """On each held-out set the trained model first, then the others; the chosen traces; the pool."""
    named = [
        (text_name(subject, name), on_set(subject, name), path)
        for name in ("", *scored_sets(run))
        for subject, path in sorted(graded_files(run, name).items(), key=lambda item: item[0] != "trained")
    ]
    pool = run.stage("grade") / "graded.jsonl"
    named += [("chosen", "chosen: trained on", chosen), ("pool", "pool", pool)]
    return [TextSet.of_file(name, label, path) for name, label, path in named if path.exists()]


def _figures(run: RunDirectory, stage: str, name: str, value_type: type[T]) -> T | None:
    folder = run.stage(stage)
    return read_json(folder / name, value_type, fix=f"remove {folder} and run the chain again")


def _rows(path: Path, row_type: type[T]) -> list[T]:
    return read_jsonl(path, row_type, allow_empty=True) if path.exists() else []
