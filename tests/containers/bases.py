"""The base images that Dockerfile and compose file name: the official ones, or where none can be pulled stand-ins under
the same names, from this machine's own apt sources and Python. The entrypoints of the official ones are not run then.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.containers.engine import Failed, Skip, needed, run

LIBRARIES = """ca-certificates netbase tzdata libssl3t64 libffi8 libsqlite3-0 libreadline8t64 libbz2-1.0 liblzma5
libuuid1 libexpat1 zlib1g libncursesw6 libnsl2 libtirpc3t64 libcrypt1 libgdbm6t64"""
"""What a Python of one's own links to."""
DPKG = "force-unsafe-io\n"
"""An image that a power cut breaks is made again, so dpkg need not wait for the disk after each file."""
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
POSTGRES = """#!/bin/sh
set -eu
cd /
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \\
        --encoding=UTF8 --locale=C.UTF-8 $POSTGRES_INITDB_ARGS
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses=''" --wait start
    psql --username="$POSTGRES_USER" --dbname=postgres --command="CREATE DATABASE \\"$POSTGRES_DB\\""
    pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
fi
exec "$@"
"""


def provide(names: list[str], ours: bool) -> dict[str, str]:
    """Have the engine know these images; how each was had. Stand-ins are made side by side. Raises Skip."""
    had: dict[str, str] = {}
    for name in names:
        if _known(name):
            had[name] = "present"
        elif "stand-in" not in had.values() and _pulled(name):
            had[name] = "pulled"
        elif ours:
            had[name] = "stand-in"
        else:
            raise Skip(f"the engine of this machine has no image {name} and cannot pull it")
    lacking = [name for name, how in had.items() if how == "stand-in"]
    with needed(f"{', '.join(lacking)} can be neither pulled nor made here"):
        if lacking and not _known("stand-in"):
            _debian()
        with ThreadPoolExecutor() as pool:
            list(pool.map(_make, lacking))
    return had


def _known(name: str) -> bool:
    try:
        return bool(json.loads(run("docker", "image", "inspect", name).stdout))
    except Failed:
        return False


def _pulled(name: str) -> bool:
    try:
        run("docker", "pull", "--quiet", name, seconds=300)
    except (Failed, subprocess.TimeoutExpired):
        return False
    return True


def _make(name: str) -> None:
    program = name.partition(":")[0]
    with TemporaryDirectory() as folder:
        getattr(sys.modules[__name__], f"_{program}")(Path(folder))
        run("docker", "build", "--quiet", "--network", "host", "--tag", name, folder)


def _debian() -> None:
    """A minimal system of this machine's own release and mirror."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages").stdout
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename = release["VERSION_CODENAME"].strip('"')
    [mirror, *_] = [line.split()[0] for line in targets.splitlines() if line.split()[1:] == [codename]] or [""]
    if not mirror:
        raise Skip("no base image can be pulled, and this machine's apt has no mirror to make one from")
    with TemporaryDirectory(prefix="stand-in-") as root:
        wanted = ",".join(LIBRARIES.split())
        run("debootstrap", "--variant=minbase", f"--include={wanted}", codename, root, mirror)
        shutil.copy(CERTIFICATES, f"{root}{CERTIFICATES}")
        Path(root, "etc/dpkg/dpkg.cfg.d/stand-in").write_text(DPKG)
        shutil.rmtree(f"{root}/var/cache/apt", ignore_errors=True)
        for sources in Path("/etc/apt/sources.list.d").glob("debian*.sources"):
            shutil.copy(sources, f"{root}/etc/apt/sources.list.d/")
        path = "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
            run("docker", "import", "--change", path, "-", "stand-in", stdin=packed.stdout)


def _python(folder: Path) -> None:
    """This machine's own Python, and what its pip needs to reach its index."""
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    if prefix == Path("/usr"):
        raise Skip("no base image can be pulled, and the system's own Python cannot be copied into one")
    for part in (f"bin/{version}", "lib", f"include/{version}"):
        for source in sorted(prefix.glob(f"{part}/libpython*")) if part == "lib" else [prefix / part]:
            target = folder / "python" / (f"lib/{source.name}" if part == "lib" else part)
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    left_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib")
    shutil.copytree(prefix / "lib" / version, folder / "python" / "lib" / version, ignore=left_out)
    told = re.findall(
        r"^\S+\.([a-z-]+)='(.*)'$", run(sys.executable, "-m", "pip", "config", "list").stdout, re.MULTILINE
    )
    kept = {name: value for name, value in told if name in PIP_OPTIONS}
    (folder / "pip.conf").write_text("\n".join(["[global]", *(f"{n} = {v}" for n, v in kept.items()), ""]))
    (folder / "Dockerfile").write_text(f"""FROM stand-in
COPY python /usr/local
COPY pip.conf /etc/pip.conf
RUN ldconfig && ln -s {version} /usr/local/bin/python3 && ln -s {version} /usr/local/bin/python \\
    && python -m ensurepip --upgrade
""")


def _postgres(folder: Path) -> None:
    (folder / "entrypoint").write_text(POSTGRES)
    (folder / "Dockerfile").write_text("""FROM stand-in
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \\
    && apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/* \\
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ || true
RUN rm -rf /var/lib/postgresql/* && install --directory --owner=999 --group=999 --mode=1777 /var/lib/postgresql/data \
    && install --directory --owner=999 --group=999 --mode=3777 /var/run/postgresql
COPY --chmod=755 entrypoint /usr/local/bin/entrypoint
ENV PGDATA=/var/lib/postgresql/data
VOLUME ["/var/lib/postgresql/data"]
ENTRYPOINT ["entrypoint"]
CMD ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/var/run/postgresql"]
""")


def _redis(folder: Path) -> None:
    (folder / "Dockerfile").write_text("""FROM stand-in
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 --home-dir /data redis \\
    && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server \\
    && rm -rf /var/lib/apt/lists/* && install --directory --owner=999 --group=999 /data
VOLUME ["/data"]
WORKDIR /data
CMD ["redis-server"]
""")


def torch_index(folder: Path) -> str | None:
    """A simple index of torch's CPU build and what that needs, made of what pip finds here; None if torch here is
    another build."""
    found = run(sys.executable, "-c", "import importlib.metadata as m; print(m.version('torch'))").stdout.strip()
    if not found.endswith("+cpu"):
        return None
    wheels = folder / "wheels"
    with needed("torch's CPU build cannot be downloaded here"):
        run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels), f"torch=={found}")
    for wheel in wheels.iterdir():
        project = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
        page = folder / "simple" / project / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f'<a href="../../wheels/{wheel.name}">{wheel.name}</a>')
    return os.path.relpath(folder / "simple", folder)
