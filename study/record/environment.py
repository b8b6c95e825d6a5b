"""What a record says about where it was made: versions, commit, hardware."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainable.arguments import num_cores


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a result may depend on."""
    names = ("torch", "torchvision", "ray", "optuna", "numpy", "scikit-learn", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def record() -> dict[str, Any]:
    """All three, for a study's record."""
    return {"versions": versions(), "commit": commit(), "hardware": hardware()}


def commit() -> str | None:
    """The commit this code is at, with "+" where files were changed since; None outside a checkout."""
    here = Path(__file__).parent
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip()


def hardware() -> dict[str, Any]:
    """The operating system, the processor, the cores that may be used, and the GPUs."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    machine = f"{platform.system()} {platform.machine()}"
    return {"machine": machine, "processor": _processor(), "cores": num_cores(), "gpus": gpus}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
