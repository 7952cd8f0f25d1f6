"""What is found out about a backend before anything is labelled: it is one, and it can tune the model."""

from typing import Any

from silvertune.errors import UserError, in_one_line
from silvertune.interfaces import Backend


def check_methods(backend: Any, target: str) -> None:
    """Refuse an object that is no backend.

    Args:
        backend: The object.
        target: Its `_target_`, for the message.

    Raises:
        UserError: A method of `silvertune.interfaces.Backend` is missing.
    """
    for name in ("check", "probe", "estimate", "tune"):
        if not callable(getattr(backend, name, None)):
            raise UserError(f"backend: {target} has no method {name}; a backend needs it")


def check_model(backend: Backend, model: Any, target: str) -> None:
    """Refuse a model that the backend can't tune.

    Args:
        backend: The backend.
        model: The model.
        target: The backend's `_target_`, for the message.

    Raises:
        UserError: The backend says so, or its check fails.
    """
    try:
        backend.check(model)
    except UserError:
        raise
    except Exception as error:  # of a user's backend, or of a provider's library
        raise UserError(f"backend: {target}.check failed ({type(error).__name__}: {in_one_line(error)})") from error
