"""Apache Flink as a peer: the Java sources of `flink/`, compiled with the machine's JDK against Flink's own jars.

The jars come with the package `apache-flink-libraries` (what `apache-flink` itself depends on for them); nothing of
PyFlink runs. Arrow is read with the Arrow Java that PyFlink's jar carries under a name of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmarks.bench_engine import BATCH_ROWS
from benchmarks.peers.installing import PeerUnavailable, checked_run, environment_of

REQUIREMENT = "apache-flink-libraries==2.3.0"
SOURCES = Path(__file__).parent / "flink"
_JAVA_MIN = 17
#: Throughput first: the parallel collector made a fifth more events a CPU second than G1, huge pages a tenth more.
_JVM_OPTIONS = (
    "-Xms3g", "-Xmx3g", "-XX:+UseParallelGC", "-XX:+UseTransparentHugePages",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",  # Arrow Java reaches into direct buffers
)  # fmt: skip


def command(folder: Path) -> list[str]:
    """Give the command that serves passes over the files in `folder`.

    Installs jars and compiles the first time. Raises PeerUnavailable without a JDK, or where pip cannot get the jars.
    """
    java, javac = find_java(os.environ)
    environment = environment_of("flink", [REQUIREMENT], dependencies=False)
    jars = find_jars(environment)
    path = os.pathsep.join(map(str, [compiled(javac, jars, environment), *jars]))
    return [java, *_JVM_OPTIONS, "-cp", path, "EngineJob", str(folder), str(BATCH_ROWS)]


def find_java(variables: Mapping[str, str]) -> tuple[str, str]:
    """Find `java` and `javac` of one JDK, in JAVA_HOME or on PATH; raises PeerUnavailable where there is none."""
    home = variables.get("JAVA_HOME")
    path = str(Path(home) / "bin") if home else variables.get("PATH", "")
    java, javac = shutil.which("java", path=path), shutil.which("javac", path=path)
    step = f"Install a JDK, {_JAVA_MIN} or newer (Debian, Ubuntu: apt install openjdk-{_JAVA_MIN}-jdk-headless), " \
           "or set JAVA_HOME to one."
    if java is None or javac is None:
        missing = "java" if java is None else "javac"
        where = f"in {path} (JAVA_HOME)" if home else "on PATH"
        message = f"The peer 'flink' needs a JDK, and there is no `{missing}` {where}."
        raise PeerUnavailable(message, next_step=step)
    version = java_version(checked_run([javac, "-version"], "javac does not start", step))
    if version < _JAVA_MIN:
        message = f"The peer 'flink' needs a JDK of version {_JAVA_MIN} or newer; {javac} is {version}."
        raise PeerUnavailable(message, next_step=step)
    return java, javac


def java_version(said: str) -> int:
    """Read what `javac -version` says: `javac 17.0.15` is 17, `javac 1.8.0_392` is 8; 0 where it says none."""
    found = re.search(r"javac (?:1\.)?(\d+)", said)
    return int(found[1]) if found else 0


def find_jars(environment: Path) -> list[Path]:
    """Find Flink, its logging, and the jar with Arrow Java in the installed package."""
    package = environment / "lib"
    jars = [*package.rglob("pyflink/lib/flink-dist-*.jar"), *package.rglob("pyflink/opt/flink-python-*.jar"),
            *sorted(package.rglob("pyflink/lib/log4j-*.jar"))]
    if len(jars) < 3:
        message = f"{REQUIREMENT} in {environment} does not hold the jars that are looked for."
        raise PeerUnavailable(message, next_step=f"Remove {environment} and run this again.")
    return jars


def compiled(javac: str, jars: list[Path], environment: Path) -> Path:
    """Give the folder of the compiled job, named by the sources and the JDK; compiles where it is not there."""
    sources = sorted(SOURCES.glob("*.java"))
    key = hashlib.sha256(b"\0".join([javac.encode(), *(source.read_bytes() for source in sources)])).hexdigest()[:16]
    folder = environment / f"classes-{key}"
    if not folder.is_dir():
        partial = environment / f"classes-{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        checked_run(
            [javac, "-proc:none", "-cp", os.pathsep.join(map(str, jars)), "-d", str(partial), *map(str, sources)],
            "The Flink job does not compile", "This is a fault of the benchmark: please report it.",
        )
        partial.rename(folder)
    return folder
