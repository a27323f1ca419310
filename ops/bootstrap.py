"""Makes the project's environment, `.venv`, with nothing but a Python 3.11: `python3 -m ops.bootstrap [lock]`.

Debian's python3 may have neither pip nor venv. So uv's wheel is fetched by the standard library, from the package index
that this machine is set up for, and uv does the rest from `requirements.lock`, whose hashes are checked.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ops.caches import cache_folder
from ops.package_index import Index, IndexProblem, configured_index

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
LOCK_FILE = PROJECT / "requirements.lock"
FALLBACK_CACHE = PROJECT / ".run" / "cache"

UV_VERSION = "0.13.9"
UV_WHEELS = {  # machine: (platform tag, SHA-256 of the wheel)
    "x86_64": (
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    "aarch64": (
        "manylinux_2_28_aarch64",
        "ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Make or mend the environment, unless it is as the lock file wants it already; with `lock`, write that file."""
    with open(LOCK_FILE) as only_one_at_a_time:
        fcntl.flock(only_one_at_a_time, fcntl.LOCK_EX)
        if arguments != ["lock"] and is_current():
            return 0
        try:
            if arguments == ["lock"]:
                write_lock()
                return 0
            print("making the environment in .venv ...", flush=True)
            make_environment()
        except (IndexProblem, OSError, subprocess.CalledProcessError) as error:
            print(f"the environment could not be made: {error}", file=sys.stderr)
            return 1
    return 0


def make_environment() -> None:
    python = VENV / "bin" / "python"
    if not runs(python):
        run_uv("venv", "--clear", "--python", sys.executable, str(VENV))
    run_uv("pip", "sync", "--python", str(python), "--require-hashes", str(LOCK_FILE))
    run_uv("pip", "install", "--python", str(python), "--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    stamp().write_text(wanted())


def write_lock() -> None:
    """Resolve pyproject.toml anew and write down what came out, with hashes and without addresses."""
    run_uv("lock", "--python", sys.executable)
    export = ["--format", "requirements.txt", "--all-groups", "--no-emit-project", "--no-annotate", "--no-header"]
    run_uv("export", *export, "--frozen", "-o", str(LOCK_FILE))


def run_uv(*arguments: str) -> None:
    """Run uv in the project's folder, with the index this machine is set up for."""
    index = configured_index()
    env = os.environ | index.for_uv()
    if cache_folder(FALLBACK_CACHE) == FALLBACK_CACHE:  # no home: then uv has none either
        env["UV_CACHE_DIR"] = str(FALLBACK_CACHE / "uv")
    subprocess.run([find_uv(index), "--quiet", "--no-progress", *arguments], env=env, cwd=PROJECT, check=True)


def is_current() -> bool:
    return stamp().exists() and stamp().read_text() == wanted() and runs(VENV / "bin" / "python")


def stamp() -> Path:
    return VENV / "made-from"


def wanted() -> str:
    """What the environment depends on, as one word."""
    digest = hashlib.sha256(str(PROJECT).encode())
    for name in ("requirements.lock", "pyproject.toml"):
        digest.update((PROJECT / name).read_bytes())
    return digest.hexdigest()


def runs(python: Path) -> bool:
    """Whether this environment's Python still works: the one it was made from may be gone."""
    test = "import sys; sys.exit(sys.version_info < (3, 11))"
    return python.exists() and subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0


def find_uv(index: Index) -> Path:
    """The uv of this version from the user's cache, else from the index, else whichever is on PATH.

    Raises:
        IndexProblem: none of them is to be had.
    """
    uv = cache_folder(FALLBACK_CACHE) / f"uv-{UV_VERSION}-{os.uname().machine}"
    if not uv.exists():
        try:
            unpack_uv(fetch_uv(index), uv)
        except IndexProblem:
            installed = shutil.which("uv")
            if installed is None:
                raise
            return Path(installed)
    return uv


def fetch_uv(index: Index) -> bytes:
    machine = os.uname().machine
    if machine not in UV_WHEELS:
        raise IndexProblem(f"no uv is known for {machine}: install uv, then try again")
    platform_tag, sha256 = UV_WHEELS[machine]
    wheel = index.fetch("uv", f"uv-{UV_VERSION}-py3-none-{platform_tag}.whl")
    if hashlib.sha256(wheel).hexdigest() != sha256:
        raise IndexProblem(f"uv's wheel from {index.name} is not the one we know: its SHA-256 differs")
    return wheel


def unpack_uv(wheel: bytes, uv: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        program = archive.read(f"uv-{UV_VERSION}.data/scripts/uv")
    with tempfile.NamedTemporaryFile(dir=uv.parent, delete=False) as new:
        new.write(program)
    os.chmod(new.name, 0o755)
    os.replace(new.name, uv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
