"""MLflow's model registry: the model of a production run becomes a version of a registered model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from silvertune.errors import UserError
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MODEL = "model"
"""The artifact of a production run that is its model."""
LONGEST_TAG = 5000


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes:
        name: Of the registered model.
        version: The number of the version.
        is_new: False where the run's model was registered before.
        before: The version that the alias named before; None where it named none, or this one.
    """

    name: str
    version: str
    is_new: bool
    before: str | None


def check_names(name: str, alias: str | None) -> None:
    """Refuse names that MLflow's registry does not take.

    Args:
        name: Of the registered model (`tracking.register`).
        alias: `tracking.alias`.

    Raises:
        UserError: A name is none.
    """
    if not name.strip() or set(name) & set("/:@"):
        raise UserError(f"tracking.register={name}: want a name without / : and @")
    if alias is not None and (not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"v\d+|latest", alias)):
        raise UserError(
            f"tracking.alias={alias}: want letters, digits, _ and -, and neither latest nor such as v2; or null"
        )


def register(
    client: "MlflowClient", run: "Run", name: str, alias: str | None, tags: Mapping[str, str], description: str
) -> Registered:
    """Make the model of a run a version of a registered model, once, and have the alias name it.

    Args:
        client: A client of the store.
        run: The run, whose model is logged.
        name: Of the registered model, which is created if there is none.
        alias: The alias that then names the version; None: none.
        tags: Tags of the version.
        description: Of the version, in Markdown.

    Returns:
        The version.

    Raises:
        UserError: The registry refuses, or there is none. The model stays with its run.
    """
    from mlflow.exceptions import MlflowException

    try:
        version, is_new = _version(client, run, name, tags, description)
        before = None
        if alias is not None:
            aliases = client.get_registered_model(name).aliases
            before = next((str(number) for name, number in aliases.items() if name == alias), None)
            if before != version:
                client.set_registered_model_alias(name, alias, version)
    except (MlflowException, OSError, NotImplementedError) as error:
        raise UserError(
            f"tracking.register={name}: the registry refuses ({store.reason(error)}); the model is saved all the same, "
            f"as runs:/{run.info.run_id}/{MODEL}, and the same command tries again"
        ) from None
    return Registered(name, version, is_new, before if before != version else None)


def _version(
    client: "MlflowClient", run: "Run", name: str, tags: Mapping[str, str], description: str
) -> tuple[str, bool]:
    """The version that the run's model has or gets, and whether it is new."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    quoted = name.replace("'", "''")
    for version in client.search_model_versions(f"name='{quoted}'"):
        if version.run_id == run.info.run_id:
            return str(version.version), False
    shortened = {key: value[:LONGEST_TAG] for key, value in tags.items() if value}
    created = client.create_model_version(
        name, f"{run.info.artifact_uri}/{MODEL}", run.info.run_id, tags=shortened, description=description
    )
    return str(created.version), True
