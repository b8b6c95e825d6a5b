"""What trials run on: this machine or a cluster, and Ray on it, which is imported only where it is needed."""

import argparse
import logging
import multiprocessing
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable import command
from trainable.arguments import num_cores
from trainable.cli import UsageError, checked, positive_int, whole
from trainable.config import TrialConfig

if TYPE_CHECKING:
    from study.record.formats import Study
    from trainable.images.pool import Pool

os.environ |= {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # under "uv run" Ray would start each worker through uv in a copy of the checkout, half a minute late
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshots are never read
}

CLUSTER_PRECISION = {  # by whether there are GPUs: this machine need not be like those
    True: ("bfloat16", "the precision that GPUs are made for"),
    False: ("float32", "a cluster's processors are not tried; --precision bfloat16 where all are fast in it"),
}

ANSWER_SECONDS = 5  # each of five times at most: to connect, and for four bytes
# RFC 9113, section 3.4: how either side begins, with a frame of settings, of which there are none
HTTP2_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HTTP2_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS


@dataclass(frozen=True)
class Resources:
    """What the trials may use: ``num_slots`` of them run at a time."""

    num_slots: int
    cpus_per_trial: int
    gpus_per_trial: float
    gpus: int
    address: str | None = None  # of a running cluster; None: this machine alone
    nice: int = 0  # how far the trials step back behind other programs; not in a cluster, whose workers run already

    def to_dict(self) -> dict[str, Any]:
        """As in study.json."""
        return {
            "gpus": self.gpus,
            "gpus_per_trial": self.gpus_per_trial,
            "cpus_per_trial": self.cpus_per_trial,
        }


def cluster_problem(resources: Resources, gpus: int | None) -> tuple[str, Resources]:
    """("" or what a cluster lacks, the resources there); ``gpus`` None means all that the cluster has."""
    import ray

    address = resources.address
    assert address is not None
    try:
        if address != "auto":  # Ray itself would knock for a quarter of an hour
            _knock(address)
    except (OSError, OverflowError) as error:  # a port above 65535 overflows
        return f"--address {address}: nothing answers there ({getattr(error, 'strerror', None) or error})", resources
    try:
        _start_ray(address=address)
    except Exception as error:  # Ray raises many kinds where no cluster answers
        reason = str(error).strip().splitlines()[0]
        if os.environ.get("RAY_AUTH_MODE") != "token":
            reason += "; a cluster that asks for a token needs RAY_AUTH_MODE=token here, too"
        return f"--address {address}: no cluster answers there ({reason})", resources
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()
    found = int(sum(node.get("GPU", 0) for node in nodes))
    wanted = found if gpus is None else gpus
    if wanted > found:
        return f"--gpus {wanted} asks for more GPUs than there are: {found} found in the cluster", resources
    per_trial = (resources.gpus_per_trial or 1.0) if wanted else 0.0
    # a trial must fit on one node: Ray would wait for ever otherwise
    slots = [
        int(min(node.get("CPU", 0) // resources.cpus_per_trial, node.get("GPU", 0) / per_trial if wanted else 10**6))
        for node in nodes
    ]
    if max(slots) == 0:
        return f"--cpus-per-trial {resources.cpus_per_trial}: no node of the cluster has so many CPUs free", resources
    num_slots = min(sum(slots), int(wanted / per_trial) if wanted else 10**6)
    return "", Resources(num_slots, resources.cpus_per_trial, per_trial, wanted, resources.address)


def _knock(address: str) -> None:
    """Looks whether somebody at "HOST:PORT" speaks HTTP/2, as Ray's head does; with TLS, whether anybody listens.

    Raises:
        OSError: nobody is there, or what is there says nothing of the kind within ANSWER_SECONDS.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            connection.sendall(HTTP2_OPENING)
            answer = connection.makefile("rb").read(4)
            if answer[3:] != HTTP2_SETTINGS[3:4]:
                raise ConnectionError("it is no Ray cluster")


@contextmanager
def ray_running(resources: Resources) -> Iterator[str]:
    """Ray, up on this machine or joined at the address; yields the dashboard's URL ("" if it has none)."""
    import ray

    if resources.address is None:
        num_cpus = resources.num_slots * resources.cpus_per_trial
        context = _start_ray(
            address="local",
            num_cpus=num_cpus,
            num_gpus=resources.gpus,
            include_dashboard=True,
            # Ray's own 15 would let any other program stop a study all but entirely
            _system_config={"worker_niceness": resources.nice},
        )
    else:
        context = _start_ray(address=resources.address)
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say what the trials run on."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--gpus",
        default=None,
        type=whole(0),
        help="GPUs to use, a trial on each; 0 = CPU (default: all there are)",
    )
    group.add_argument(
        "--gpus-per-trial",
        default=1.0,
        type=checked(float, "from 0.01 to 1", lambda v: 0.01 <= v <= 1),
        help="0.25 puts four trials on each GPU",
    )
    group.add_argument("--cpus-per-trial", default=1, type=positive_int, help="CPU threads of a trial")
    group.add_argument(
        "--nice",
        default=0,
        type=whole(0, 19),
        help="niceness of the trials beyond this command's own; 19 takes only what other programs leave",
    )
    group.add_argument(
        "--address",
        default=None,
        type=checked(str, "auto or HOST:PORT", lambda v: v == "auto" or re.fullmatch(r"[^:/]+:\d{1,5}", v) is not None),
        help="of a Ray cluster that is up (default: this machine alone)",
    )


def machine_resources(arguments: argparse.Namespace) -> "Resources":
    """What the machine's flags ask for.

    Raises:
        UsageError: the machine or the cluster has not so much.
    """
    import torch

    cpus, address = arguments.cpus_per_trial, arguments.address
    if address is None:
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        gpus = num_gpus if arguments.gpus is None else arguments.gpus
        problems = []
        if gpus > num_gpus:
            problems.append(f"--gpus {gpus} asks for more GPUs than there are: {num_gpus} found on this machine")
        if cpus > num_cores():
            problems.append(f"--cpus-per-trial {cpus} is more than this machine's {num_cores()} cores")
        if problems:
            raise UsageError(problems)
    else:
        if arguments.nice:
            raise UsageError([f"--nice {arguments.nice} has no effect in a cluster, whose workers run already"])
        gpus = arguments.gpus or 0
    if gpus:
        # whole trials on each GPU: 0.4 means two
        num_slots = gpus * int(1 / arguments.gpus_per_trial + 1e-9)
        resources = Resources(num_slots, cpus, arguments.gpus_per_trial, gpus, address, arguments.nice)
    else:
        resources = Resources(max(1, num_cores() // cpus), cpus, 0.0, 0, address, arguments.nice)
    if address is not None:
        problem, resources = cluster_problem(resources, arguments.gpus)
        if problem:
            raise UsageError([problem])
    return resources


def with_precision(
    base: TrialConfig, asked: str | None, before: "Study | None", pool: "Pool", resources: Resources
) -> tuple[TrialConfig, str]:
    """The config in the study's precision, and why in that one, to be read after "bfloat16: ".

    A study that goes on keeps its own (``before`` is its study.json) unless another is ``asked`` for by name; a new one
    takes the faster one.

    Raises:
        UsageError: study.json holds no precision that there is.
    """
    if asked not in (None, "auto"):
        choice = asked, "as --precision asks"
    elif before:
        choice = before.precision, before.precision_reason
    elif resources.address is not None:
        choice = CLUSTER_PRECISION[resources.gpus > 0]
    else:
        choice = _probed(base, len(pool.class_names), pool.spec.image_size, resources.gpus > 0)
    return TrialConfig.from_dict({**base.to_dict(), "precision": choice[0]}), choice[1]


def _probed(base: TrialConfig, num_classes: int, image_size: int, on_gpu: bool) -> tuple[str, str]:
    import torch

    from trainable.probe import probe

    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        found = probe(base, num_classes, image_size, device)
    else:  # in a process that ends: this one would hold memory of the GPU as long as the study runs
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
            found = apart.submit(probe, base, num_classes, image_size, device).result()
    return found.precision, found.reason


def _start_ray(**options: Any) -> Any:
    """``ray.init``, which would leave its own handlers in the place of ours.

    What it starts never sees a SIGTERM or SIGHUP that is meant for this process, also where a closed terminal,
    ``timeout`` or a cluster's scheduler sends one to all: blocked signals are inherited. (SIGINT Ray blocks itself.)
    """
    import ray

    handlers = {number: signal.getsignal(number) for number in command.SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        return ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except BaseException as error:
        ray.shutdown()  # what has been started of it
        if isinstance(error, SystemExit):  # of Ray's handler, while it was there
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
