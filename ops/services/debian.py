"""RabbitMQ without root: Debian's or Ubuntu's packages, downloaded with package lists of our own and unpacked.

The unpacked tree is kept in the user's cache, so the next start and the next clone find it there.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

from ops.caches import cache_folder
from ops.child import Process
from ops.console import Say
from ops.supervisor import Supervisor

WANTED = re.compile(r"^Inst (rabbitmq-server|erlang-\S+) ", re.MULTILINE)
EDITION = 1  # counted up when a tree unpacked by an older version of this file is of no use


def rabbitmq_tree(supervisor: Supervisor, say: Say, fallback: Path) -> Path:
    """The root of an unpacked RabbitMQ with its Erlang; downloaded when the cache doesn't have it.

    Raises:
        ProcessFailed: the packages can't be had.
        OSError: there is no apt-get or dpkg, or no room.
    """
    system = platform.freedesktop_os_release()
    place = cache_folder(fallback)
    tree = place / f"rabbitmq-{system['ID']}-{system.get('VERSION_ID', 'rolling')}-{os.uname().machine}-{EDITION}"
    if not tree.exists():
        say("rabbitmq", "downloading the packages of this system (about 35 MB, once)")
        with tempfile.TemporaryDirectory(dir=place, prefix="download-") as work:
            download(Path(work), system.get("VERSION_CODENAME", ""), supervisor)
            unpacked = unpack(Path(work), supervisor)
            relocate(unpacked / "usr/lib/erlang", tree / "usr/lib/erlang")
            prune(next(unpacked.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins")))
            try:
                unpacked.rename(tree)
            except OSError:  # another clone was faster
                if not tree.exists():
                    raise
    return tree


def download(work: Path, codename: str, supervisor: Supervisor) -> None:
    """Fetch RabbitMQ and Erlang into `work`, whatever lists the machine has, as any user."""
    for folder in ("lists/partial", "cache/archives/partial", "state", "sources", "packages"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()  # as if nothing were installed: then everything needed is named
    copy_sources(Path("/etc/apt"), work / "sources", codename)
    options = {
        "Dir::State": work / "state",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": work / "sources",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-q", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    run(supervisor, "apt-update", [*apt, "update"], work)
    plan = run(supervisor, "apt-plan", [*apt, "--simulate", "--no-install-recommends", "install", "rabbitmq-server"], work)
    run(supervisor, "apt-download", [*apt, "download", *WANTED.findall(plan)], work / "packages")


def copy_sources(apt: Path, sources: Path, codename: str) -> None:
    """Copy the machine's package sources, less those that aren't of the system itself and may be out of reach."""
    files = [path for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))) if path.is_file()]
    entries = {path: read_entries(path) for path in files if path.suffix in (".list", ".sources")}
    of_the_system = re.compile(rf"\s{re.escape(codename)}(-updates|-security)?(?=[\s/]|$)")
    chosen = {path: [entry for entry in found if of_the_system.search(entry)] for path, found in entries.items()}
    if not codename or not any(chosen.values()):  # sources that say "testing", say
        chosen = entries
    for path, found in chosen.items():
        if found:
            (sources / path.name).write_text("\n\n".join(found) + "\n")


def read_entries(path: Path) -> list[str]:
    """One line each in a .list file, one paragraph each in a .sources file, without the comments."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    return [entry for entry in re.split(r"\n\s*\n" if path.suffix == ".sources" else r"\n", text) if entry.strip()]


def run(supervisor: Supervisor, name: str, command: list[str], folder: Path) -> str:
    """Run it to its end and give what it said."""
    env = dict(os.environ) | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return supervisor.run(Process(name, command, env=env, folder=folder))


def unpack(work: Path, supervisor: Supervisor) -> Path:
    tree = work / "tree"
    tree.mkdir(mode=0o700)
    for package in sorted((work / "packages").glob("*.deb")):
        run(supervisor, "dpkg", ["dpkg", "--extract", str(package), str(tree)], work)
    tree.chmod(0o700)  # dpkg gave it the mode of the packages' root
    return tree


def relocate(erlang: Path, place: Path) -> None:
    """Erlang's start scripts have their place written in them; let them say where the tree is going to be."""
    for script in (*erlang.glob("bin/erl"), *erlang.glob("bin/start"), *erlang.glob("erts-*/bin/erl"), *erlang.glob("erts-*/bin/start")):
        script.write_text(script.read_text().replace("/usr/lib/erlang", str(place)))


def prune(plugins: Path) -> None:
    """Remove the plugins, all of them off: RabbitMQ reads every one at its start, which doubles the time it takes."""
    needs: dict[str, list[str]] = {}
    folders: dict[str, Path] = {}
    for description in plugins.glob("*/ebin/*.app"):
        listed = re.search(r"\{applications,\s*\[([^\]]*)\]", description.read_text())
        needs[description.stem] = re.findall(r"\w+", listed[1]) if listed else []
        folders[description.stem] = description.parent.parent
    kept: set[str] = set()
    waiting = ["rabbit"]
    while waiting:
        name = waiting.pop()
        if name in needs and name not in kept:
            kept.add(name)
            waiting += needs[name]
    for name, folder in folders.items():
        if name not in kept:
            shutil.rmtree(folder)
