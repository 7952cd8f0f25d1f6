"""Jobs that share what they have in common are composed as Hydra composes each of them anew."""

import pickle
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from silvertune.study.command import CONFIG_FOLDER, CONFIG_NAME, VERSION_BASE
from silvertune.study.composing import Composer

TYPED = ["evaluation.replicates=50", "dataset.path=tables.jsonl"]
JOBS = [
    [],
    [*TYPED],
    [*TYPED, "seed=3", "tracking.dir=elsewhere", "dataset.path=others.jsonl", "~dataset.annotations"],
    [*TYPED, "filter=none"],
    ["seed=3"],
    ["filter=confidence", "filter.confidence.top=0.5", "variant='a b=c'", "arm='mine, too'"],
    ["filter=[agreement,confidence]", "model=none"],
    ["labeler=expert", "model=tfidf_logreg", "model.C=3", "+study.arms.mine=['labeler=expert']"],
    ["labeler=expert", "tracking.dir=elsewhere"],
    ["hydra.job.name=mine", "seed=9"],
    ["hydra/launcher=silvertune_ray", "seed=9"],
    ["seed=3"],
]


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigLoaderImpl:
    monkeypatch.chdir(tmp_path)
    setbase(VERSION_BASE)
    return ConfigLoaderImpl(create_config_search_path(CONFIG_FOLDER))


@pytest.fixture
def master(loader: ConfigLoaderImpl) -> DictConfig:
    return loader.load_configuration(CONFIG_NAME, ["hydra.verbose=false", *TYPED], run_mode=RunMode.MULTIRUN)


@pytest.mark.parametrize("is_pickled", [False, True])
def test_a_job_is_composed_as_hydra_does(loader: ConfigLoaderImpl, master: DictConfig, is_pickled: bool) -> None:
    composer = Composer(loader)
    for overrides in JOBS[5:7] if is_pickled else JOBS:
        if is_pickled:  # as it comes to a worker
            composer = pickle.loads(pickle.dumps(composer))
        job = composer.load_sweep_config(master, overrides)
        wanted = loader.load_sweep_config(master, overrides)
        assert OmegaConf.to_container(job) == OmegaConf.to_container(wanted), overrides
        assert OmegaConf.to_yaml(job.hydra.sweep, resolve=True) == OmegaConf.to_yaml(wanted.hydra.sweep, resolve=True)
        assert OmegaConf.is_struct(job) == OmegaConf.is_struct(wanted)
        job.hydra.job.num = 7  # as launchers write into it; no other job sees that
        job.hydra.job.id = "seven"
    assert master.hydra.sweep.dir == "mlruns/logs"


def test_what_jobs_have_in_common_is_composed_once(
    loader: ConfigLoaderImpl, master: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    compose = loader.load_sweep_config

    def counting(config: DictConfig, overrides: list[str]) -> DictConfig:
        calls.append(overrides)
        return compose(config, overrides)

    monkeypatch.setattr(loader, "load_sweep_config", counting)
    composer = Composer(loader)
    for seed in range(5):
        assert composer.load_sweep_config(master, ["filter=agreement", f"seed={seed}"]).seed == seed
    assert calls == [["filter=agreement"]]
    for seed in range(5):  # what all jobs have in common is the sweep's own configuration
        assert composer.load_sweep_config(master, [*TYPED, f"seed={seed}"]).evaluation.replicates == 50
    assert master.seed == 0
    assert len(calls) == 1
