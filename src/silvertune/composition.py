"""From a composed configuration to bound parts: the one place where configs become objects.

Every part is a callable named by `_target_`. The run fills the parameters that have a name of the table in
`silvertune.part_inputs`; the part's yaml sets the others. Three keys of a yaml are read here and not passed on:
`_gold_: true` says that the part sees gold, `_people_: true` that people make its labels (they are counted),
`_simulated_: true` that its labels are simulated. Everything is checked before anything is labelled.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from silvertune import fallback_budget, identity, import_path, part_inputs, votes
from silvertune.backends import checks
from silvertune.datasets import class_names
from silvertune.errors import UserError, check_type, check_whole_number, either, in_one_line, under_key
from silvertune.evaluation import predictions
from silvertune.evidence import computed, evidence, rehearsal
from silvertune.filters import named
from silvertune.interfaces import Backend, Labeler
from silvertune.items import Data
from silvertune.labelers.source import LabelSource
from silvertune.runner import Parts
from silvertune.schema import Config, Evaluation, Task
from silvertune.schema import Evidence as EvidenceSettings

NOT_REHEARSED = (*identity.NOT_IN_IDENTITY, "seed", "model", "backend", "evaluation")
"""Keys of the configuration that are nothing to aggregations and filters which look at no votes."""

KEYS = ("_target_", "_partial_", "_gold_", "_people_", "_simulated_")
"""What may stand in a part's yaml beside its parameters. `_partial_` is Hydra's; every part is one anyway."""


def plain(cfg: DictConfig, sources: Iterable[Any]) -> dict[str, Any]:
    """The configuration as plain dicts: interpolations resolved, names of filters replaced by their configs.

    Args:
        sources: Hydra's search path (`hydra.runtime.config_sources`), where those filters are looked up.

    Raises:
        UserError: Values that are still `???`.
    """
    try:
        content = _resolved(cfg)
    except OmegaConfBaseException:
        # The reason may be a value that others refer to, and looking for it takes as long as resolving.
        if missing := sorted(str(key) for key in OmegaConf.missing_keys(cfg) if not str(key).startswith("hydra.")):
            raise UserError(f"{missing[0]}=???: no value was given; say {missing[0]}=... on the command line") from None
        raise
    _refuse_unknown(content, Config, "")
    if isinstance(content["model"], dict) and content["model"].get("_target_", "") is None:
        content["model"] = None  # model=none, and what a study sets of its student
    if content["model"] is None:
        # The labeler itself is the arm: a filter and a fallback would change nothing but the run's name.
        content["filter"], content["fallback"] = {"none": {"_target_": "silvertune.filters.none"}}, None
    filters = content.get("filter")
    if not isinstance(filters, dict) or not filters:
        raise UserError("filter: names no filter; want filter=none or another")
    named.put_configs(filters, "filter", list(sources), depth=0)
    return content


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """All but Hydra's own settings, which are as large as ours and name what only Hydra can resolve."""
    content: dict[str, Any] = {}
    for key in cfg:
        if key != "hydra":
            value = cfg[key]
            is_node = OmegaConf.is_config(value)
            content[str(key)] = OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_node else value
    return content


def _refuse_unknown(content: Mapping[str, Any], schema: type, prefix: str) -> None:
    """Hydra lets `+key=value` add what the schema does not have."""
    settings = [entry.name for entry in fields(schema)]
    if unknown := sorted(set(content) - set(settings)):
        raise UserError(f"{prefix}{unknown[0]}: no such setting; there is {', '.join(settings)}")


def build(config: Mapping[str, Any], rehearsed: set[str] | None = None) -> Parts:
    """Build and check the parts of a run. Nothing is labelled.

    Args:
        config: The run's configuration (from `plain`).
        rehearsed: What the runs of a sweep have rehearsed already, which is added to: many have the same filter.

    Returns:
        The parts.

    Raises:
        UserError: A target can't be found or lacks a parameter, evidence does not exist, data are not as the
            configuration says, or the backend can't tune the model.
    """
    task = task_of(config["task"])
    data = load_data(config)
    cache = _cache_folder(config)
    inputs = {
        "task": task,
        "cache": cache,
        "annotations": data.annotations,
        "item_ids": data.items.index,
        "training": data.training_items,
        "gold": data.gold,
    }
    backend = backend_of(config)
    model = None if config["model"] is None else _make(config["model"], "model", "model", inputs)
    if model is not None:
        checks.check_model(backend, model, config["backend"]["_target_"])
    if config["preselect"] is not None and config["preselect"].get("labeler") == config["labeler"]:
        raise UserError(
            "preselect: by the labeler that labels, every item that goes on would have one label; choose another"
        )
    bind = partial(bind_filters, key="filter")
    parts = Parts(
        task=task,
        data=data,
        preselect=_source(config["preselect"], "preselect", inputs),
        labeler=LabelSource(
            "labeler",
            tuple(task.classes),
            _make(config["labeler"], "labeler", "labeler", inputs),
            _make(config["aggregation"], "aggregation", "aggregation", inputs),
            people=bool(config["labeler"].get("_people_")),
        ),
        bind=bind,
        filters=bind(config["filter"]),
        resources=_resources(config, inputs),
        fallback=_source(config["fallback"], "fallback", inputs),
        model=model,
        backend=backend,
        evaluation=_evaluation(config["evaluation"], task, model),
        seed=config["seed"],
        tuning_settings="" if config["model"] is None else identity.of_tuning(config),
    )
    _rehearse(parts, config, set() if rehearsed is None else rehearsed)
    return parts


def backend_of(config: Mapping[str, Any]) -> Backend:
    """Make the backend that `config["backend"]` describes; a configuration without `model` will do."""
    inputs = {"task": task_of(config["task"]), "cache": _cache_folder(config), "model_config": config}
    backend: Backend = _make(config["backend"], "backend", "backend", inputs)
    checks.check_methods(backend, config["backend"]["_target_"])
    return backend


def labeler_without_data(config: Mapping[str, Any]) -> Labeler:
    """Make the labeler that `config["labeler"]` describes, for what needs no data: to end what it has sent."""
    node = {name: None if name == "few_shot" else value for name, value in config["labeler"].items()}
    if node.get("_gold_"):
        raise UserError("labeler: reads gold, and here is no dataset; want another labeler")
    return cast(Labeler, _make(node, "labeler", "labeler", _no_data(config)))


def source_without_data(config: Mapping[str, Any]) -> LabelSource:
    """Make the labeler and the aggregation of a configuration, for items that are in no dataset.

    Raises UserError where the labeler shows examples from the data.
    """
    if config["labeler"].get("few_shot") is not None:
        raise UserError("labeler.few_shot: takes examples from a dataset, and here is none; want null")
    aggregate = _make(config["aggregation"], "aggregation", "aggregation", _no_data(config))
    return LabelSource("labeler", tuple(task_of(config["task"]).classes), labeler_without_data(config), aggregate)


def _no_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """What parts may ask for, where there is no dataset."""
    task, nothing = task_of(config["task"]), pd.DataFrame()
    inputs = {"task": task, "cache": _cache_folder(config), "annotations": votes.table([], task.classes)}
    return {**inputs, "training": nothing, "item_ids": nothing.index}


def model_of(config: Mapping[str, Any], cache: Path) -> Any:
    """Make the model that `config["model"]` describes, for the task `config["task"]`."""
    return _make(config["model"], "model", "model", {"task": task_of(config["task"]), "cache": cache})


def _resources(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> computed.Resources:
    """What evidence is computed with."""
    content = config["evidence"]
    _refuse_unknown(content, EvidenceSettings, "evidence.")
    for name, least in (("folds", 2), ("epochs", 1), ("calibration", 0)):
        check_whole_number(f"evidence.{name}", content[name], least)
    student = _make(content["student"], "evidence.student", "model", inputs)
    if not callable(getattr(student, "fit", None)):
        raise UserError("evidence.student: has no fit(train, validation, seed); want a model that is tuned here")
    encoder = _make(config["encoder"], "encoder", "encoder", inputs)
    if identity.reads_encoder(config["filter"]):
        encoder.check()
    return computed.Resources(
        encoder=encoder,
        encoder_key=identity.of_part(config["encoder"]),
        student=student,
        student_key=identity.of_part(content["student"]),
        folds=content["folds"],
        epochs=content["epochs"],
        calibration=content["calibration"],
        cache=inputs["cache"],
    )


def _rehearse(parts: Parts, config: Mapping[str, Any], rehearsed: set[str]) -> None:
    """What aggregations and filters say of their settings is said before any vote is paid for."""

    def is_new(*settings: Any) -> bool:
        before = len(rehearsed)
        rehearsed.add(repr(settings))
        return len(rehearsed) > before

    for key, source in (("preselect", parts.preselect), ("labeler", parts.labeler), ("fallback", parts.fallback)):
        aggregation = config["aggregation"] if key == "labeler" else (config[key] or {}).get("aggregation")
        if source is not None and is_new(key, aggregation, config["task"], config["dataset"]):
            with rehearsal.only_user_errors():
                source.aggregate(votes.table([], parts.task.classes))
    if is_new({key: value for key, value in config.items() if key not in NOT_REHEARSED}):
        rehearsal.of_filters(parts.filters, parts.task, parts.data, parts.bind, parts.resources)


def load_data(config: Mapping[str, Any]) -> Data:
    """The dataset of `config`, read once a process as long as its files stay as they are."""
    dataset = config["dataset"]
    cache = _cache_folder(config)
    key = repr((dataset, config["task"], str(cache), identity.by_content(dataset)))
    return _data(_Recipe(key, dataset, config["task"], cache))


def _cache_folder(config: Mapping[str, Any]) -> Path:
    return Path(config["tracking"]["dir"]).absolute() / "cache"


@dataclass(frozen=True)
class _Recipe:
    """What to load, known by `key` alone: dicts can't be hashed, and JSON would change the type of their keys."""

    key: str
    dataset: Mapping[str, Any] = field(compare=False)
    task: Mapping[str, Any] = field(compare=False)
    cache: Path = field(compare=False)


@lru_cache(maxsize=4)
def _data(recipe: _Recipe) -> Data:
    inputs = {"task": task_of(recipe.task), "cache": recipe.cache}
    data: Data = _make(recipe.dataset, "dataset", "dataset", inputs)
    return data


def task_of(content: Mapping[str, Any]) -> Task:
    """The task that `config["task"]` describes. Raises UserError for classes that do not fit together."""
    _refuse_unknown(content, Task, "task.")
    task = Task(**{**content, **class_names.of_task(content)})
    if len(set(task.classes)) < 2 or len(set(task.classes)) != len(task.classes):
        raise UserError(f"task.classes={task.classes}: want at least two different classes")
    if not all(name.strip() for name in task.classes):
        raise UserError(f"task.classes={task.classes}: a class without a name; want a text or a whole number each")
    if task.positive is not None and task.positive not in task.classes:
        raise UserError(f"task.positive={task.positive}: is no class; want {either(task.classes)} or null")
    if strange := set(task.descriptions) - set(task.classes):
        raise UserError(f"task.descriptions.{sorted(strange)[0]}: is no class; want {either(task.classes)}")
    return task


def _evaluation(content: Mapping[str, Any], task: Task, model: Any) -> Evaluation:
    _refuse_unknown(content, Evaluation, "evaluation.")
    how = Evaluation(**content)
    predictions.check(task, how, tunes=model is not None)
    return how


def bind_filters(filters: Mapping[str, Any], *, key: str) -> list[evidence.BoundFilter]:
    """Each filter of a chain with its yaml's parameters, in the order of the chain."""
    bound = []
    for name, node in filters.items():
        where = f"{key}.{name}"
        function, needs = _bind(node, where, "filter")
        for other in named.OTHERS:
            if isinstance(others := node.get(other), Mapping):
                bind_filters(others, key=f"{where}.{other}")  # bound anew when it runs; a mistake is told now
        bound.append(evidence.BoundFilter(name, function, needs))
    return bound


def _source(node: Mapping[str, Any] | None, key: str, inputs: Mapping[str, Any]) -> LabelSource | None:
    """A fallback or a preselection: a labeler with its own aggregation."""
    if node is None:
        return None
    settings = ("labeler", "aggregation", "keep" if key == "preselect" else "budget")
    if unknown := set(node) - set(settings):
        raise UserError(f"{key}.{sorted(unknown)[0]}: no such setting; want {either(settings)}")
    budget = node.get("budget")
    if budget is not None and set(budget) != {"items", "audit"}:
        raise UserError(f"{key}.budget={dict(budget)}: want items and audit")
    classes = inputs["task"].classes
    keep = tuple(class_names.class_name(value, f"{key}.keep") for value in node.get("keep") or ())
    if wrong := [name for name in keep if name not in classes]:
        raise UserError(f"{key}.keep={list(keep)}: {wrong[0]!r} is no class; want some of {', '.join(classes)}")
    return LabelSource(
        f"{key}.labeler",
        tuple(classes),
        _make(node["labeler"], f"{key}.labeler", "labeler", inputs),
        _make(node["aggregation"], f"{key}.aggregation", "aggregation", inputs),
        keep,
        None if budget is None else fallback_budget.Budget(**budget),
        bool(node["labeler"].get("_people_")),
    )


def _make(node: Any, key: str, kind: str, inputs: Mapping[str, Any]) -> Any:
    """Make a part: call its target with the yaml's parameters and with what it asks for of `known`.

    Parts among the parameters, and in mappings of names to parts, are made first. A part that asks for `votes` stays
    a function of them: there are none yet.
    """
    function, asked_names = _bind(node, key, kind)
    nested = {
        name: _nested(value, f"{key}.{name}", kind, inputs) for name, value in node.items() if isinstance(value, dict)
    }
    part = partial(function, **nested, **{name: inputs[name] for name in asked_names if name != "votes"})
    try:
        return part if "votes" in asked_names else part()
    except UserError as error:
        raise under_key(error, key) from error.__cause__
    except Exception as error:
        raise UserError(f"{key}: {node['_target_']}: {type(error).__name__}: {in_one_line(error)}") from error


def labeling_sources(config: Mapping[str, Any], parts: Parts) -> Iterator[tuple[str, str, LabelSource]]:
    """Those that a run asks: the part's name, a text that is the same for the same labeler, and the source."""
    for part, source in (("preselect", parts.preselect), ("labeler", parts.labeler), ("fallback", parts.fallback)):
        if source is not None:
            yield part, repr(config[part] if part == "labeler" else config[part]["labeler"]), source


def _nested(value: Mapping[str, Any], key: str, kind: str, inputs: Mapping[str, Any]) -> Any:
    """The part that a parameter describes, or each of those that it names; any other mapping as it is.

    A part inside another may ask for what an encoder may; inside a backend, for what a backend may.
    """
    kind = kind if kind == "backend" else "encoder"
    if "_target_" in value:
        return _make(value, key, kind, inputs)
    if value and all(isinstance(entry, Mapping) and "_target_" in entry for entry in value.values()):
        return {name: _make(entry, f"{key}.{name}", kind, inputs) for name, entry in value.items()}
    return value


def _bind(node: Any, key: str, kind: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The target with the yaml's parameters, as a partial, and the names that it asks the run for."""
    if not isinstance(node, Mapping) or node.get("_target_") is None:
        raise UserError(f"{key}: names no _target_; want the import path of a function or class")
    if strange := [name for name in node if str(name).startswith("_") and name not in KEYS]:
        raise UserError(f"{key}.{strange[0]}: no such setting; want {either(KEYS)}")
    target = node["_target_"]
    settings = {name: node[name] for name in node if not str(name).startswith("_")}
    try:
        function = import_path.imported(target)
        parameters = inspect.signature(function).parameters
    except Exception as error:  # whatever a user's module raises while it is imported
        raise UserError(
            f"{key}._target_={target}: can't be imported ({type(error).__name__}: {in_one_line(error)})"
        ) from None
    may_ask = part_inputs.names_for(kind)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    in_yaml = [name for name in parameters if name not in may_ask]
    for name in settings:
        if name in may_ask:
            raise UserError(f"{key}.{name}: the run fills it, and a yaml can't set it ({', '.join(may_ask)} are such)")
        if name not in parameters and not open_ended:
            raise UserError(f"{key}.{name}: {target} has no such parameter; it takes {', '.join(in_yaml) or 'none'}")
        if name in parameters:
            check_type(f"{key}.{name}", settings[name], parameters[name].annotation)
    asked_names = tuple(name for name in parameters if name in may_ask)
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and name not in asked_names and name not in settings:
            raise UserError(
                f"{key}.{name}: {target} needs it; the yaml does not set it, and a {kind} may ask the run only for "
                f"{', '.join(may_ask)}"
            )
    if (of_gold := [name for name in part_inputs.GOLD if name in asked_names]) and not node.get("_gold_"):
        raise UserError(f"{key}: {target} asks for {of_gold[0]}; its yaml has to say so with `_gold_: true`")
    return partial(function, **settings), asked_names
