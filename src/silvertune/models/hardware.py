"""What a network is tuned on."""

from typing import Any

from silvertune.errors import UserError


def device(setting: str | None) -> Any:
    """The device that `model.device` names.

    Args:
        setting: Of torch, such as cpu or cuda:1; None is a GPU if there is one, else the CPU.

    Raises:
        UserError: This machine lacks it.
    """
    import torch

    if setting is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(setting)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"model.device={setting}: this machine can't use it ({str(error).splitlines()[0]}); want cpu, or null for "
            "a GPU where there is one"
        ) from None
    return chosen


def ran_on(device: Any, precision: str) -> dict[str, str]:
    """What a tuned network's figures depend on besides its settings: with bfloat16 they are others than in float32."""
    import torch

    name = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return {
        "device": f"{device}{name}",
        "precision": precision,
        "bfloat16_units": str(has_bfloat16(device)).lower(),
        "threads": str(torch.get_num_threads()),
    }


def has_bfloat16(device: Any) -> bool:
    """Whether the hardware multiplies bfloat16; where it is only emulated, it is slower than float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(is_supported() for is_supported in checks if is_supported is not None)
