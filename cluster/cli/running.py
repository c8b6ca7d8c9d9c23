"""`usher up` and `usher down`: the system's life on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.panel import Panel
from rich.text import Text

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, NotRunning, read_instance, running_pid
from cluster.cli.output import JsonOption, fail, print_json, say, stderr
from cluster.errors import DataDirError
from cluster.limits import CHECKPOINT_EVERY_MS, DRAIN_DEADLINE_MS
from cluster.model.durations import DURATION_FORM, format_duration, parse_duration

if TYPE_CHECKING:
    from cluster.runtime.launch import ReadyInfo

_POLL_S: Final = 0.1
#: Beyond the drain's own deadline: Ray's processes end after the drain.
_DOWN_SLACK_S: Final = 15
_LOG_LINES_SHOWN: Final = 30


def duration(text: str | int) -> int:
    """Read an option that is a duration, above 0, as ms."""
    try:
        duration_ms = text if isinstance(text, int) else parse_duration(text)
    except ValueError as error:
        message = f"{text!r}: {error}; allowed: {DURATION_FORM}"
        raise typer.BadParameter(message) from error
    if duration_ms <= 0:
        message = "it must be above 0"
        raise typer.BadParameter(message)
    return duration_ms


def up(
    definitions: Annotated[
        list[Path] | None,
        typer.Option("-f", "--definitions", metavar="FILE", help="Publish these: a file or folder; repeatable."),
    ] = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8080,
    evaluators: Annotated[
        int | None, typer.Option(min=1, max=256, help="Evaluator processes; one per two cores unless given.")
    ] = None,
    edges: Annotated[int, typer.Option(min=1, max=64, help="Edge processes that take events.")] = 1,
    address: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="A running Ray cluster; else Ray is started on this machine."),
    ] = None,
    state_uri: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URI",
            help="Where checkpoints go: a folder, or file://, s3://, gs:// (credentials as their SDKs find them). "
            "Default: DATA_DIR/checkpoints.",
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Where logs are kept: kafka://HOST:PORT/PREFIX (extra `kafka`; secrets in a file that ?config=FILE or "
            "USHER_KAFKA_CONFIG names). Default: the data dir.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            show_default=format_duration(CHECKPOINT_EVERY_MS),
            help="The longest time between two checkpoints while events come.",
        ),
    ] = CHECKPOINT_EVERY_MS,
    drain_deadline: Annotated[
        int,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            show_default=format_duration(DRAIN_DEADLINE_MS),
            help="How long stopping may take.",
        ),
    ] = DRAIN_DEADLINE_MS,
    detach: Annotated[bool, typer.Option("--detach", help="Go to the background once ready.")] = False,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
) -> None:
    """Start Usher, and serve until Ctrl-C or SIGTERM.

    Ends cleanly: it refuses new events, evaluates and checkpoints what it has acknowledged, and exits with 0. Where
    that takes longer than --drain-deadline it says what did not finish and exits with 1: nothing acknowledged is lost,
    the next start replays more of the log. On its first start it makes an admin key, prints it once and keeps it in
    DATA_DIR/admin.key.

    Examples:  usher up -f definitions.yaml    ·    usher up --port 9000 --data-dir /var/lib/usher --detach

               usher up --state-uri s3://bucket/usher --checkpoint-every 1m --drain-deadline 2m

               usher up --log kafka://broker-1:9092,broker-2:9092/usher?config=kafka.properties
    """
    _check_that_none_runs(data_dir)
    if detach:
        again = _same_arguments(definitions, data_dir, host, port, evaluators, edges, address)
        again += ["--state-uri", state_uri] if state_uri is not None else []
        again += ["--log", log] if log is not None else []
        again += ["--checkpoint-every", f"{checkpoint_every}ms", "--drain-deadline", f"{drain_deadline}ms"]
        _up_in_background(data_dir, again)
        return
    from cluster.runtime.launch import UpOptions, run

    options = UpOptions(
        definitions=tuple(definitions or ()),
        data_dir=data_dir,
        host=host,
        port=port,
        evaluators=evaluators,
        edges=edges,
        address=address,
        state_uri=state_uri,
        log=log,
        checkpoint_every_ms=checkpoint_every,
        drain_deadline_ms=drain_deadline,
    )
    serves = False
    with stderr().status("Starting …") as spinner:

        def on_progress(step: str) -> None:
            if sys.stderr.isatty() and not serves:
                spinner.update(f"{step.capitalize()} …")
            else:
                say(step if step.endswith(".") else f"{step} …")

        def on_ready(info: ReadyInfo) -> None:
            nonlocal serves
            serves = True
            spinner.stop()
            _show_ready(info, with_key=not detached)

        code = run(options, on_ready, on_progress)
    if code == 0:
        say("Drained: everything acknowledged is evaluated, stored and checkpointed.")
    raise typer.Exit(code)


def down(data_dir: DataDirOption = DATA_DIR_DEFAULT, as_json: JsonOption = False) -> None:
    """Stop the Usher that runs on a data dir, and wait until it has drained.

    Example:  usher down --data-dir /var/lib/usher
    """
    pid = running_pid(data_dir)
    if pid is None:
        message = f"No Usher runs on {data_dir}."
        raise NotRunning(message, next_step="Is it another --data-dir?")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended by itself in this very moment: what was asked for
    except PermissionError as error:
        message = f"Process {pid}, the Usher on {data_dir}, belongs to another user."
        raise DataDirError(message, next_step="Stop it as that user.") from error
    instance = read_instance(data_dir)
    drain_ms = instance.drain_deadline_ms if instance is not None else DRAIN_DEADLINE_MS
    deadline_s = drain_ms / 1000 + _DOWN_SLACK_S
    with stderr().status(f"Draining (process {pid}) …"):
        if not _wait(lambda: running_pid(data_dir) != pid, deadline_s):
            fail(
                f"Process {pid} did not end within {deadline_s:.0f} s.",
                f"Look at it, then end it the hard way: kill -9 {pid}. What was acknowledged is durable.",
            )
    if as_json:
        print_json({"stopped": pid})
    else:
        typer.echo(f"Stopped (process {pid}).")


def _check_that_none_runs(data_dir: Path) -> None:
    """Say so before the port does: it is in use by the very Usher that was forgotten."""
    if (pid := running_pid(data_dir)) is not None:
        message = f"An Usher runs on {data_dir} already (process {pid})."
        raise DataDirError(message, next_step="Stop it with `usher down`, or use another --data-dir and --port.")


def _up_in_background(data_dir: Path, arguments: list[str]) -> None:
    """Start the same command as a session of its own, and wait until it is ready or has failed."""
    first_start = not (data_dir / "admin.key").exists()
    log = data_dir / "usher.log"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"The data dir {data_dir} cannot be used: {error.strerror}."
        raise DataDirError(message, next_step="Choose one that this user may write to.") from error
    began_at = os.fstat(output).st_size
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "cluster.cli.main", "up", "--detached", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(output)
    with stderr().status("Starting …"), _ended_on_interrupt(child):
        while child.poll() is None and not _is_ready(data_dir, child.pid):
            time.sleep(_POLL_S)
    if child.returncode is not None:
        sys.stderr.write(_tail(log, began_at))
        fail(f"Usher did not start (exit code {child.returncode}).", f"The whole output is in {log}.")
    instance = read_instance(data_dir)
    assert instance is not None, "ready means that usher.json is there"
    typer.echo(f"Usher is ready at {instance.url} (process {instance.pid}).")
    if first_start:
        typer.echo(f"Admin key (also in {data_dir / 'admin.key'}): {(data_dir / 'admin.key').read_text().strip()}")
    say(f"Its output goes to {log}. Stop it with: usher down --data-dir {data_dir}")


@contextmanager
def _ended_on_interrupt(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let Ctrl-C while a child starts end the child too: it is in a session of its own."""
    try:
        yield
    except KeyboardInterrupt:
        child.terminate()
        raise


def _is_ready(data_dir: Path, pid: int) -> bool:
    instance = read_instance(data_dir)
    return instance is not None and instance.pid == pid


def _same_arguments(
    definitions: list[Path] | None, data_dir: Path, host: str, port: int, evaluators: int | None, edges: int,
    address: str | None,
) -> list[str]:  # fmt: skip
    arguments = [part for path in definitions or () for part in ("-f", str(path))]
    arguments += ["--data-dir", str(data_dir), "--host", host, "--port", str(port), "--edges", str(edges)]
    arguments += ["--evaluators", str(evaluators)] if evaluators is not None else []
    arguments += ["--address", address] if address is not None else []
    return arguments


def _show_ready(info: ReadyInfo, *, with_key: bool) -> None:
    """Print the URL (and a first key) on stdout, and what to do next on stderr."""
    typer.echo(f"Usher is ready at {info.url}")
    if info.admin_key and with_key:
        typer.echo(f"Admin key (shown once, kept in {info.data_dir / 'admin.key'}): {info.admin_key}")
    sys.stdout.flush()
    next_steps = Text.assemble(
        ("usher status", "bold"), "   what runs, who is where\n",
        ("usher apply definitions.yaml", "bold"), "   define audiences\n",
        ("Ctrl-C", "bold"), "   drain and stop",
    )  # fmt: skip
    seconds = info.ready_after_ms / 1000
    title = f"Ready in {seconds:.1f} s · {info.evaluators} evaluator(s) · definitions version {info.version}"
    stderr().print(Panel(next_steps, title=title, title_align="left", border_style="green"))


def _wait(done: Callable[[], bool], at_most_s: float) -> bool:
    deadline = time.monotonic() + at_most_s
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(_POLL_S)
    return done()


def _tail(log: Path, began_at: int) -> str:
    with log.open("rb") as stream:
        stream.seek(began_at)
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_LOG_LINES_SHOWN:]) + "\n"
