"""What trials run on: this machine or a cluster, and Ray on it, which is imported only where it is needed."""

import argparse
import multiprocessing
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.execution import cluster, servers
from study.execution.cluster import Node
from trainable.arguments import num_cores
from trainable.cli import UsageError, checked, positive_int, whole
from trainable.config import TrialConfig
from trainable.progress import stage

if TYPE_CHECKING:
    from study.record.formats import Study
    from trainable.images.pool import Pool

os.environ |= {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # under "uv run" Ray would start each worker through uv in a copy of the checkout, half a minute late
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray would print amid the live table: of a node that has left
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshots are never read
}

CLUSTER_PRECISION = {  # by whether there are GPUs: this machine need not be like those
    True: ("bfloat16", "a cluster's GPUs are not tried; most train faster in it"),
    False: ("float32", "a cluster's processors are not tried; --precision bfloat16 where all are fast in it"),
}


@dataclass(frozen=True)
class Resources:
    """What the trials may use: ``num_slots`` of them run at a time."""

    num_slots: int
    cpus_per_trial: int
    gpus_per_trial: float
    gpus: int
    address: str | None = None  # of a running cluster; None: this machine alone
    nodes: tuple[Node, ...] = ()  # those of the cluster on which trials find room, when it was looked at
    grows: bool = False  # trials may also run on nodes that join the cluster later
    nice: int = 0  # how far the trials step back behind other programs; not in a cluster, whose workers run already

    def to_dict(self) -> dict[str, Any]:
        """As in study.json."""
        return {
            "gpus": self.gpus,
            "gpus_per_trial": self.gpus_per_trial,
            "cpus_per_trial": self.cpus_per_trial,
        }


def cluster_resources(arguments: argparse.Namespace, folder: Path) -> Resources:
    """What the cluster at --address has for a study in ``folder``; without --gpus, all of it.

    Raises:
        UsageError: no cluster answers, it has not so much, or nodes are not as they must be.
    """
    cpus, gpus = arguments.cpus_per_trial, arguments.gpus
    with stage("looking at the cluster"), cluster.joined(arguments.address):
        nodes = cluster.alive()
        found = int(sum(node.gpus for node in nodes))
        wanted = found if gpus is None else gpus
        if wanted > found:
            raise UsageError([f"--gpus {wanted} asks for more GPUs than there are: {found} found in the cluster"])
        per_trial = arguments.gpus_per_trial if wanted else 0.0
        # a trial must fit on one node: Ray would wait for ever otherwise
        nodes = [node for node in nodes if node.num_slots(cpus, per_trial)]
        if not nodes:
            raise UsageError([f"--cpus-per-trial {cpus}: no node of the cluster has so many CPUs for a trial"])
        tried = cluster.tried(nodes, folder)
    num_slots = sum(node.num_slots(cpus, per_trial) for node in tried)
    if gpus:
        num_slots = min(num_slots, gpus * _trials_on_a_gpu(per_trial))
    return Resources(num_slots, cpus, per_trial, wanted, arguments.address, tuple(tried), grows=not gpus)


def _trials_on_a_gpu(gpus_per_trial: float) -> int:
    """Whole trials: 0.4 means two."""
    return int(1 / gpus_per_trial + 1e-9)


@contextmanager
def ray_running(resources: Resources, program: str, study: str) -> Iterator[None]:
    """Ray, up on this machine or joined at the address; should it end, so does the process, in ``program``'s name.

    The dashboard's jobs show the name of the ``study``. Within another one nothing more happens.

    Raises:
        FailedError: it cannot be started, or joined.
    """
    import ray
    from ray.job_config import JobConfig

    if ray.is_initialized():
        yield
        return
    if resources.address is None:
        num_cpus = resources.num_slots * resources.cpus_per_trial
        options: dict[str, Any] = {
            "address": "local",
            "num_cpus": num_cpus,
            "num_gpus": resources.gpus,
            "include_dashboard": True,
            "_system_config": {
                # Ray's own 15 would let any other program stop a study all but entirely
                "worker_niceness": resources.nice,
                # Ray would end trials for the memory of other programs, in a way that ends Tune with them
                "memory_monitor_refresh_ms": 0,
                # Ray would start a worker for each CPU that no trial is ever given
                "prestart_worker_first_driver": False,
            },
        }
    else:
        options = {"address": resources.address}
    options["job_config"] = JobConfig(metadata={"job_name": study})
    with stage("starting Ray" if resources.address is None else "joining the cluster"):
        context = servers.start(**options)
    try:
        if context.dashboard_url and "RAY_AUTH_TOKEN" not in os.environ:  # else whoever has set it knows of it
            print(f"dashboard: http://{context.dashboard_url} (its token: ray get-auth-token)")
        here = ray.get_runtime_context()
        own = next(node for node in ray.nodes() if node["NodeID"] == here.get_node_id())
        addresses = [here.gcs_address, f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}"]
        with servers.watched(addresses, program):
            yield
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


def machine_resources(arguments: argparse.Namespace, folder: Path | None) -> Resources:
    """What the machine's flags ask for, for a study in ``folder``; None where it is refused for something else.

    Raises:
        UsageError: the machine or the cluster has not so much, or cannot be used.
    """
    import torch

    cpus = arguments.cpus_per_trial
    if arguments.address is not None:
        if arguments.nice:
            raise UsageError([f"--nice {arguments.nice} has no effect in a cluster, whose workers run already"])
        return cluster_resources(arguments, folder or Path.cwd())
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = num_gpus if arguments.gpus is None else arguments.gpus
    problems = servers.problems()
    if gpus > num_gpus:
        problems.append(f"--gpus {gpus} asks for more GPUs than there are: {num_gpus} found on this machine")
    if cpus > num_cores():
        problems.append(f"--cpus-per-trial {cpus} is more than this machine's {num_cores()} cores")
    if problems:
        raise UsageError(problems)
    num_slots = gpus * _trials_on_a_gpu(arguments.gpus_per_trial) if gpus else max(1, num_cores() // cpus)
    return Resources(num_slots, cpus, arguments.gpus_per_trial if gpus else 0.0, gpus, nice=arguments.nice)


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


@stage("timing the precisions")
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
