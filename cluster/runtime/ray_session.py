"""Starts and ends Ray: one of our own that listens on loopback alone, or a running cluster's.

Problem: with `_node_ip_address="127.0.0.1"` alone Ray still listens on every interface, because
`resolve_ip_for_localhost` puts the machine's outward address in its place. Choice: Ray's own switch for laptops,
`RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`, which makes that function answer 127.0.0.1 and, being an environment variable,
reaches gcs, raylet, agents and workers alike. Patching the function lost: it reaches only the driver and breaks with
Ray's internals. tests/live/test_loopback.py looks at the sockets of every process.

Token authentication is on as well: loopback is open to every user of the machine, and Ray runs what it is sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import InputError, InternalError

_log = logging.getLogger("usher.ray")

#: The Ray namespace of every named actor.
NAMESPACE = "usher"
#: Trait snapshots pass through the object store one at a time; the rest of Usher does not use it.
OBJECT_STORE_BYTES = 512 * 1024 * 1024
#: A unix socket's path must be shorter than 108 bytes; Ray adds about 75 to its folder.
FOLDER_BYTES_MAX = 32
_KNOCK_S = 5.0
#: Where `import cluster` works from, for workers that start elsewhere.
PROJECT_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class RaySession:
    """A Ray that `start_ray` connected to. `node_id` is the node of this process, `cpus` those of all nodes.

    `folder` is short, private (mode 700) and gone after `stop_ray`: for Ray's files and for unix sockets.
    """

    address: str
    node_id: str
    folder: Path
    cpus: int


def start_ray(data_dir: Path, address: str | None, cpus: int) -> RaySession:
    """Start an embedded Ray (`address` None), about 5 s, or connect to the one at `address`.

    Raises InputError where nothing answers at `address`, or there is no token for it. The environment of this process
    is changed: embedded Ray's processes read it.
    """
    if address is None:
        _prepare_environment(data_dir)
    else:
        _require_token(address)
    import ray  # here, because it reads the environment once, at its first import

    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    folder = _session_folder(data_dir)
    if address is not None:
        _connect(ray, address, common)
    else:
        ray.init(
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(folder),
            _node_ip_address="127.0.0.1",
            **common,
        )
    # Ray's own lines about dead workers go to stdout, which belongs to the command (and its --json).
    ray._private.worker.print_to_stdstream = _to_log
    context = ray.get_runtime_context()
    cpus = int(ray.cluster_resources().get("CPU", 0)) or 1
    return RaySession(address=context.gcs_address, node_id=context.get_node_id(), folder=folder, cpus=cpus)


def stop_ray(session: RaySession) -> None:
    """End the embedded Ray's processes, or leave the foreign one; about 1.5 s."""
    import ray

    ray.shutdown()
    shutil.rmtree(session.folder, ignore_errors=True)


def _to_log(data: dict[str, Any], ignore_prefix: bool) -> None:
    for line in data.get("lines", ()):
        _log.info("%s", line)


def _connect(ray: Any, address: str, common: dict[str, Any]) -> None:
    environment = {"env_vars": {"PYTHONPATH": _python_path()}}
    try:
        _knock(address)
        ray.init(address=address, runtime_env=environment, **common)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        message = f"--address {address}: no Ray cluster can be reached there: {error}."
        step = "Start one with `ray start --head`, or leave --address out for an embedded one."
        raise InputError(message, next_step=step) from error


def _knock(address: str) -> None:
    """Connect and hang up: where nobody listens, Ray itself would try for a minute. Raises OSError, ValueError."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def _prepare_environment(data_dir: Path) -> None:
    """Set what Ray's processes inherit; what the user set in RAY_AUTH_* is left alone.

    Raises InternalError where Ray was imported before: it would go without authentication and listen to the world.
    """
    if "ray" in sys.modules:
        message = "Ray was imported before its environment was set."
        raise InternalError(message, next_step="Import cluster.runtime.launch alone before calling run.")
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray runs workers at nice 15, as batch jobs; ours answer people, and must not wait behind other programs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # A call under way to a killed process fails this much (and up to 1 s) after the kill; Ray's default adds 1 s.
    os.environ.setdefault("RAY_timeout_ms_task_wait_for_death_info", "100")
    # A stopped process ends this much after the kill, and with it what it holds: its lease, a lock of its log.
    os.environ.setdefault("RAY_kill_worker_timeout_milliseconds", "1000")
    os.environ["PYTHONPATH"] = _python_path()
    os.environ.pop("RAY_ADDRESS", None)
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
    if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(_token_file(data_dir)))


def _require_token(address: str) -> None:
    """Have Ray show its token, unless the user chose otherwise by RAY_AUTH_MODE. Raises InputError without a token.

    Where Ray looks: https://docs.ray.io/en/master/ray-core/internals/token-authentication.html
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    found = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if mode == "token" and not found and not (Path.home() / ".ray" / "auth_token").exists():
        message = f"--address {address}: there is no token for that Ray cluster."
        step = (
            "Set RAY_AUTH_TOKEN_PATH to the file with the token that the cluster was started with "
            "(`ray get-auth-token --generate` makes one), or RAY_AUTH_MODE=disabled for a cluster that asks for none: "
            "then whoever reaches it can run code on it."
        )
        raise InputError(message, next_step=step)


def _token_file(data_dir: Path) -> Path:
    """Write a fresh token for this run, mode 600: an older run's workers cannot join."""
    path = data_dir / "ray.token"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path


def _python_path() -> str:
    known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    root = str(PROJECT_ROOT)
    return os.pathsep.join([root, *(part for part in known if part != root)])


def _session_folder(data_dir: Path) -> Path:
    """Make the session's folder anew: short, mode 700.

    It is named after the data dir, so that the one that a killed run left is found and removed.
    """
    name = f"usher-{os.getuid()}-{hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]}"
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent / name)) > FOLDER_BYTES_MAX:
        parent = Path("/tmp")
    folder = parent / name
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        return folder
    # Somebody else's folder of that name: never use it, its owner could swap our sockets.
    return Path(tempfile.mkdtemp(prefix="usher-", dir=parent))
