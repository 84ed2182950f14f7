"""`ray_session`: a connection to a Ray cluster, with its slots for workers, and without what Ray says on the way."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aml_edge.errors import EngineError, MissingExtraError
from aml_edge.native_output import output_discarded

LOCAL = "local"
ADDRESS_VARIABLE = "RAY_ADDRESS"
CONNECTION_SECONDS = 5.0
_CLIENT = "ray://"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of the C++ half, on standard error
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # or each process that dies comes with a page of its node's last words
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # as it will be, without a warning that it will
}
"""What Ray reads when it is imported; whoever has set one of them keeps it."""


@dataclass(frozen=True)
class RayCluster:
    """What is connected.

    Args:
        address: where it is, in words.
        cores, gpus: of each node that is alive.
    """

    address: str
    cores: tuple[int, ...]
    gpus: tuple[int, ...]

    def room(self, cores: int, gpus: int) -> tuple[int, ...]:
        """Returns how many workers, each with so many cores and GPUs, each node has room for, if nobody else is there.

        Nodes without room are left out.
        """
        rooms = zip(self.cores, self.gpus, strict=True)
        workers = [min(has // cores, has_gpus // gpus if gpus else has) for has, has_gpus in rooms]
        return tuple(one for one in workers if one)


@contextmanager
def ray_session(address: str | None) -> Iterator[RayCluster]:
    """Connects to a cluster, and parts from it in the end; one that this process is connected to already stays.

    Args:
        address: of its head, HOST:PORT or ray://HOST:PORT; None takes RAY_ADDRESS, and without that a cluster of this
            machine alone, for this process.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: no cluster answers there, or another version of Ray or Python.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray", "the engine 'ray'") from None
    _silence_ray_data()
    if ray.is_initialized():
        yield _cluster(ray, "the Ray of this process")
        return
    wanted = address or os.environ.get(ADDRESS_VARIABLE) or LOCAL
    _connect(ray, wanted)
    try:
        yield _cluster(ray, "this machine" if wanted == LOCAL else wanted)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    if address != LOCAL:
        _require_answer(address)
    only_here = {"include_dashboard": False} if address == LOCAL else {}
    try:
        with output_discarded():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **only_here)
    except (RuntimeError, ValueError, ConnectionError, OSError) as problem:
        raise _no_cluster(address, " ".join(str(problem).split())) from None


def _require_answer(address: str) -> None:
    """Raises where nothing listens: Ray itself would wait for minutes, and then end this process."""
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if not colon or not port.isdigit():
        return  # such as "auto"; Ray knows what it means
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECTION_SECONDS).close()
    except (OSError, OverflowError) as problem:
        raise _no_cluster(address, str(problem)) from None


def _no_cluster(address: str, reason: str) -> EngineError:
    return EngineError(
        f"`address` is {address!r}, where no Ray cluster takes this process ({reason}); start one with `ray start "
        "--head`, give its address, set RAY_AUTH_MODE=token where it asks for a token, or leave it out to work on this "
        "machine."
    )


def _cluster(ray: Any, address: str) -> RayCluster:
    resources = [node.get("Resources", {}) for node in ray.nodes() if node["Alive"]]
    cores, gpus = (tuple(int(one.get(kind, 0)) for one in resources) for kind in ("CPU", "GPU"))
    return RayCluster(address, cores, gpus)


def _silence_ray_data() -> None:
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL + 1)
