"""From a command line and a study to the jobs of a sweep, each composed and checked."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from silvertune import composition, identity, progress_bar, splits
from silvertune.errors import UserError, check_whole_number, either, in_one_line
from silvertune.items import views_of
from silvertune.reports import labels_browser
from silvertune.runner import Parts
from silvertune.study.composing import Composer
from silvertune.study.job import Job, names_of_parts, run_name

LARGEST_SEED = 2**32 - 1
"""The generators of NumPy and scikit-learn take none beyond."""


class _Composed(NamedTuple):
    """A job before its parts are built."""

    overrides: list[str]
    config: dict[str, Any]
    names: dict[str, str]
    identity: str

    @property
    def name(self) -> str:
        return run_name(self.config, self.names)


def expand(arguments: Sequence[str], config: DictConfig, loader: ConfigLoader) -> list[Job]:
    """Make the jobs of a sweep: arms x seeds x sweep overrides, in the study's order.

    Each job is composed, its parts are built, and its data are split, once.

    Args:
        arguments: The command line's overrides.
        config: The configuration that they compose, without sweeps.
        loader: Hydra's config loader, which composes each job.

    Returns:
        The jobs, each under a name of its own.

    Raises:
        UserError: A job could not run, or two jobs have one name.
    """
    parser = OverridesParser.create(config_loader=loader)
    # `+seed=1` and `++seed=1` are `seed=1`: that key is there.
    overrides = parser.parse_overrides([re.sub(r"^\++seed=", "seed=", text) for text in arguments])
    keys = {override.get_key_element(): override.input_line for override in overrides}
    if {"seed", "study.seeds"} <= set(keys):
        raise UserError(f"{keys['study.seeds']}: {keys['seed']} says which seeds already; give one of the two")
    for override in overrides:
        if override.is_sweep_override() and not any(True for _ in override.sweep_string_iterator()):
            raise UserError(f"{override.input_line}: has no value in it; want at least one")
    # An arm without a student is the same whatever student the others have.
    composed = {(job.name, job.identity): job for job in _composed(overrides, config, loader, parser)}
    names = [name for name, _ in composed]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two jobs are called {duplicates[0]!r}: what the sweep varies must show in the arm's name")
    checked: set[str] = set()
    return [
        Job(*job, parts=_built(job.config, checked)) for job in progress_bar.over(composed.values(), "checking jobs")
    ]


def _composed(
    overrides: list[Override], config: DictConfig, loader: ConfigLoader, parser: OverridesParser
) -> Iterator[_Composed]:
    composer = loader if isinstance(loader, Composer) else Composer(loader)
    points = BasicSweeper.split_arguments(overrides, None)[0]
    swept_keys = {override.get_key_element() for override in overrides if override.is_sweep_override()}
    seeds = [] if any(override.get_key_element() == "seed" for override in overrides) else _seeds(config)
    overrides_by_job = [
        (arm, _joined(arm, fixed, point), seeds_of_point)
        for (arm, fixed), (point, seeds_of_point) in itertools.product(
            _arms(config, parser).items(), _without_seed(points)
        )
    ]
    _refuse_unused(points, [texts for _, texts, _ in overrides_by_job])
    for arm, texts, seeds_of_point in progress_bar.over(overrides_by_job, "composing jobs"):
        # In a study the arm is the arm and the rest of the sweep a variant of it; ad hoc, filter=... names the arm.
        variant = ", ".join(text for text in texts if text.split("=")[0] in swept_keys and _is_variant(text, arm))
        texts += [f"variant={_quoted(variant)}"] if variant else []
        texts += [f"arm={_quoted(arm)}"] if arm else []
        cfg = _compose(composer, config, texts)
        choices, sources = cfg.hydra.runtime.choices, cfg.hydra.runtime.config_sources
        for seed in seeds_of_point or seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise UserError(f"seed={seed}: want a whole number from 0 to {LARGEST_SEED}")
            with open_dict(cfg):
                cfg.seed = seed
            resolved = composition.plain(cfg, sources)
            names = names_of_parts(resolved, choices)
            yield _Composed([*texts, f"seed={seed}"], resolved, names, identity.of(resolved))


def _built(config: Mapping[str, Any], checked: set[str]) -> Parts:
    """The parts of a job, on data that can be split as it says. What jobs have in common is checked once."""
    parts = composition.build(config, checked)
    labels_browser.Settings.of(config["tracking"], views_of(parts.data.items))  # a misspelt view would be shown
    split = repr((parts.data.digest, parts.evaluation, parts.task, parts.seed))
    if split not in checked:
        splits.split(parts.data, parts.evaluation, parts.task, parts.seed)
        checked.add(split)
    return parts


def _arms(config: DictConfig, parser: OverridesParser) -> dict[str, list[Override]]:
    """Arm -> what it fixes; one nameless arm that fixes nothing where the study has none."""
    study = config.study
    arms: dict[str, list[Override]] = {}
    for name, texts in study.arms.items():
        try:
            arms[str(name)] = parser.parse_overrides([str(text) for text in texts])
        except HydraException as error:
            raise UserError(f"study.arms.{name}={list(texts)}: {str(error).splitlines()[0]}") from None
        if sweeps := [override.input_line for override in arms[str(name)] if override.is_sweep_override()]:
            raise UserError(f"study.arms.{name}: {sweeps[0]!r} is a sweep; an arm is one way to get labels")
    if unknown := [name for name in study.references if study.arms and name not in study.arms]:
        raise UserError(f"study.references: {unknown[0]!r} is no arm of the study; want {either(list(arms))}")
    if unknown := [name for name in study.only if name not in arms]:
        raise UserError(f"study.only: {unknown[0]!r} is no arm of the study; want {either(list(arms)) or 'none'}")
    return {name: fixed for name, fixed in arms.items() if not study.only or name in study.only} or {"": []}


def _seeds(config: DictConfig) -> list[int]:
    check_whole_number("study.seeds", config.study.seeds, 1)
    if config.study.seeds == 1 and not config.study.arms:
        return [int(config.seed)]
    return list(range(config.study.seeds))


def _without_seed(points: Iterable[Sequence[str]]) -> list[tuple[list[str], list[int]]]:
    """The points of a sweep that differ in more than the seed, each with its seeds: they are composed once."""
    grouped: dict[tuple[str, ...], list[int]] = {}
    for point in points:
        rest = tuple(text for text in point if not text.startswith("seed="))
        seeds = [text.removeprefix("seed=") for text in point if text.startswith("seed=")]
        if wrong := [text for text in seeds if not text.lstrip("-").isdigit()]:
            raise UserError(f"seed={wrong[0]}: want a whole number")
        grouped.setdefault(rest, []).extend(int(text) for text in seeds)
    return [(list(rest), seeds) for rest, seeds in grouped.items()]


def _joined(arm: str, fixed: Sequence[Override], point: Sequence[str]) -> list[str]:
    """The overrides of one job. Overriding a part that the arm fixes is an error: its name would lie.

    A job with `model=none` has no student, so the student that others have and its settings do not touch it.
    """
    arm_has_none = any(override.input_line == "model=none" for override in fixed)
    point_has_none = "model=none" in point
    kept = []
    for text in point:
        key = _key(text)
        if key.split(".")[0] == "model" and (arm_has_none or (point_has_none and text != "model=none")):
            continue
        for override in fixed:
            fixed_key = _key(str(override.input_line))
            if f"{key}.".startswith(f"{fixed_key}.") or f"{fixed_key}.".startswith(f"{key}."):
                raise UserError(
                    f"{text}: arm {arm!r} of the study fixes {override.input_line}, and its name would lie; "
                    f"define another arm in a study of your own, or leave {key} alone"
                )
        kept.append(text)
    return kept + [str(override.input_line) for override in fixed]


def _refuse_unused(points: Iterable[Sequence[str]], texts_by_job: Iterable[Sequence[str]]) -> None:
    """An override of the student that no job has would be lost silently."""
    used = {text for texts in texts_by_job for text in texts}
    for text in itertools.chain.from_iterable(points):
        if text not in used and _key(text).split(".")[0] == "model":
            raise UserError(f"{text}: no run of this sweep has a student (model=none), so it would change nothing")


def _key(text: str) -> str:
    """What an override is about: `labeler` of `labeler=expert`; it contains `labeler.path`."""
    group, _, package = text.lstrip("+~").split("=")[0].partition("@")
    return package or group


def _is_variant(text: str, arm: str) -> bool:
    key = text.split("=")[0]
    names_arm = ("labeler", "filter", "fallback", "aggregation") if not arm else ()
    return key not in ("model", *names_arm)


def _compose(composer: Composer, config: DictConfig, texts: Sequence[str]) -> DictConfig:
    try:
        return composer.compose(config, texts)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{' '.join(texts)}: {in_one_line(error)}") from None


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def with_settings(job: Job, settings: Mapping[str, str]) -> list[str]:
    """The job's overrides with further `key=value`s of the sweeper's."""
    return [*job.overrides, *(f"{key}={_quoted(value)}" for key, value in settings.items())]
