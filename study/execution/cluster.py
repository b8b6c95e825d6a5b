"""A Ray cluster that is up: whether it answers, what its nodes have, and whether trials can run on each of them."""

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.execution import node, servers
from trainable.cli import FailedError, UsageError, unwritable
from trainable.files import PARTIAL
from trainable.images.memory import GIB, needed_bytes

ANSWER_SECONDS = 5  # to connect, and again to answer
PROBE_SECONDS = 20  # a process starts on each node, and says what is there
MAX_NAMED = 3  # files


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str  # Ray's
    name: str  # its address
    cpus: float
    gpus: float
    room_bytes: float  # for images: of Ray's memory for what processes share, or of the machine's free memory

    def num_slots(self, cpus_per_trial: int, gpus_per_trial: float) -> int:
        """How many trials find room on it; a trial is never spread over two."""
        slots = self.cpus // cpus_per_trial
        return int(min(slots, self.gpus / gpus_per_trial + 1e-9) if gpus_per_trial else slots)


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Ray, joined there for a look.

    Raises:
        UsageError: no cluster answers, or it does not let us in; within half a minute.
    """
    import ray

    if address != "auto":  # Ray itself would knock for a quarter of an hour
        _knock(address)
    try:
        servers.start(address=address)
    except FailedError as error:
        reason = " ".join(str(error.__cause__).split())
        raise UsageError([f"--address {address}: no cluster answers there ({reason[:300]})"]) from None
    try:
        yield
    finally:
        ray.shutdown()


def alive() -> list[Node]:
    """The nodes that are there now; Ray must be up."""
    import ray

    return [
        Node(
            found["NodeID"],
            found["NodeManagerAddress"],
            found["Resources"].get("CPU", 0),
            found["Resources"].get("GPU", 0),
            found["Resources"].get("object_store_memory", 0),
        )
        for found in ray.nodes()
        if found["Alive"]
    ]


def tried(nodes: Sequence[Node], folder: Path) -> list[Node]:
    """The nodes, after each has been asked whether a trial of the study in ``folder`` could run there; nothing stays.

    Raises:
        UsageError: some are not as they must be: a sentence for each fault.
    """
    with _token(folder) as token:
        told = _ask(nodes, token)
        here = node.describe(str(token))
    problems = [f"--address: node {one.name} {text}" for one in nodes for text in _problems(told[one.id], here, folder)]
    if problems:
        raise UsageError(problems)
    free = {node_id: answer["free_bytes"] for node_id, answer in told.items() if isinstance(answer, dict)}
    return [replace(one, room_bytes=min(one.room_bytes, free[one.id] or one.room_bytes)) for one in nodes]


def room_problems(nodes: Sequence[Node], num_images: int, image_size: int) -> list[str]:
    """A sentence for each node that has no room for the images."""
    needed = needed_bytes(num_images, image_size)
    return [
        f"--image-size {image_size}: node {one.name} has room for {one.room_bytes / GIB:.2g} GiB of images, and these "
        f"take {needed / GIB:.2g} GiB; a smaller size takes less, ray start --object-store-memory gives more"
        for one in nodes
        if needed > one.room_bytes
    ]


def _knock(address: str) -> None:
    """Looks whether somebody at "HOST:PORT" is a Ray head that lets us in; with TLS, whether anybody listens.

    Raises:
        UsageError: nobody is there, or it is something else, or it asks for another token.
    """
    import grpc

    where = f"--address {address}: "
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:  # a port above 65535 overflows
        raise UsageError([f"{where}nothing answers there ({getattr(error, 'strerror', None) or error})"]) from None
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    token = servers.token() if os.environ.get("RAY_AUTH_MODE") == "token" else None
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        is_alive = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            is_alive(b"", timeout=ANSWER_SECONDS, metadata=[("authorization", f"Bearer {token}")] if token else None)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                raise UsageError([f"{where}nothing answers there (it is no Ray cluster)"]) from None
            rule = (
                "another token than this machine's"
                if token
                else "a token; RAY_AUTH_MODE=token here sends it this one's"
            )
            raise UsageError([f"{where}the cluster asks for {rule} (see docs/cluster.md)"]) from None


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """A file with a text that nobody can guess, as near to the study's folder as there is one; gone at the end.

    Raises:
        UsageError: it cannot be written.
    """
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    path = place / f".{secrets.token_hex(8)}{PARTIAL}"
    try:
        path.write_text(secrets.token_hex(16))
        yield path
    except OSError as error:
        raise UsageError([unwritable(error)]) from error
    finally:
        path.unlink(missing_ok=True)


def _ask(nodes: Sequence[Node], token: Path) -> dict[str, dict[str, Any] | str]:
    """What each node tells of itself, by its id, or why it does not."""
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cloudpickle.register_pickle_by_value(node)
    try:
        describe = ray.remote(num_cpus=0, max_retries=0)(node.describe)
        asked = {}
        for one in nodes:
            there = NodeAffinitySchedulingStrategy(one.id, soft=False)
            asked[describe.options(scheduling_strategy=there).remote(str(token))] = one.id
    finally:
        cloudpickle.unregister_pickle_by_value(node)
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    told: dict[str, dict[str, Any] | str] = {one.id: f"has not answered within {PROBE_SECONDS} s" for one in nodes}
    for reference in answered:
        try:
            told[asked[reference]] = ray.get(reference)
        except ray.exceptions.TaskUnschedulableError:
            told[asked[reference]] = "has just left the cluster; the same command looks anew"
        except ray.exceptions.RayError as error:
            told[asked[reference]] = f"cannot run anything ({' '.join(str(error).split())[:300]})"
    return told


def _problems(answer: dict[str, Any] | str, here: dict[str, Any], folder: Path) -> Iterator[str]:
    """What is wrong with a node, by its answer and this machine's own: the ends of sentences."""
    if isinstance(answer, str):
        yield answer
        return
    if answer["token"] != here["token"]:
        why = f" ({answer['unseen']})" if answer["unseen"] else ""
        yield f"does not see {folder.parent}, which must be one and the same folder on all nodes{why}"
    elif answer["unwritable"]:
        yield f"cannot write to {folder.parent} ({answer['unwritable']})"
    if not answer["code"]:
        yield "has not this project installed"
    elif answer["code"] != here["code"]:
        names = sorted({name for name, _ in answer["code"].items() ^ here["code"].items()})
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        yield f"has another version of this project: {', '.join(names[:MAX_NAMED])}{more} differ"
    if answer["torch"] != here["torch"]:
        yield f"has torch {answer['torch'] or 'not'} installed, this machine {here['torch']}"
