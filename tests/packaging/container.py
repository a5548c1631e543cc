#!/usr/bin/env python3
"""Builds the container image without a registry, runs it on a directory of a writer, and reads the examples for containers.

tests/packaging/container.py [WORD...]   WALCAST_STATIC names a static binary that is there already. Needs podman, runc and root.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from harness import BINARY, PATIENCE, ROOT, Daemon, Skipped, Tests, WebSocket, free_port, get, place, wait_until
from snippets import insert

tests = Tests()
test = tests.test
USER = 65532


@contextlib.contextmanager
def podman():
    """A podman that keeps what it has in a directory of its own; works in a container, too."""
    if os.getuid() != 0 or not shutil.which("podman") or not shutil.which("runc"):
        raise Skipped("needs podman, runc and root")
    with place() as here:
        here.chmod(0o755)
        (here / "bin").mkdir()
        tool = here / "bin/podman"
        options = f"--cgroup-manager=cgroupfs --runtime runc --root {here}/root --runroot {here}/run"
        tool.write_text(f'#!/bin/sh\nSTORAGE_DRIVER=vfs exec {shutil.which("podman")} {options} "$@"\n')
        tool.chmod(0o755)
        yield here, tool


def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 0, command
    return done.stdout


def is_healthy(tool):
    """Runs the health check of the image in the container, as its interval would."""
    return subprocess.run([tool, "healthcheck", "run", "walcast"], stdout=subprocess.DEVNULL, timeout=PATIENCE).returncode == 0


@test
def the_image_serves_a_directory_that_a_writer_shares():
    with podman() as (here, tool):
        environment = {**os.environ, "CONTAINER_TOOL": str(tool)}
        subprocess.run([ROOT / "packaging/container", "walcast:test", "--isolation", "chroot"], env=environment, check=True)
        inspected = json.loads(output(tool, "image", "inspect", "walcast:test"))[0]
        image = inspected["Config"]
        assert image["User"] == f"{USER}:{USER}"
        assert set(image["Volumes"]) == {"/data", "/state"}
        # podman says it beside Docker's own place for it.
        check = (inspected.get("Healthcheck") or image["Healthcheck"])["Test"]
        # Without a shell, for there is none.
        assert check[0] == "CMD" and check[1:] == ["/walcast", "feeds", "--ready"]
        data = here / "data"
        data.mkdir()
        data.chmod(0o2770)
        os.chown(data, USER, USER)
        database, port = data / "walcast.db", free_port()
        command = [tool, "run", "--rm", "--name", "walcast", "--network=host", "--read-only", "--cap-drop=all"]
        command += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "-e", f"WALCAST_LISTEN=127.0.0.1:{port}"]
        command += ["-v", f"{data}:/data", "walcast:test"]
        container = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            ready = f"http://127.0.0.1:{port}/readyz"

            def is_ready():
                assert container.poll() is None, "the container ended"
                with contextlib.suppress(OSError):
                    return get(ready)[0] == 200

            wait_until("the container is ready", is_ready)
            assert database.stat().st_uid == USER
            wait_until("the container is healthy", lambda: is_healthy(tool))
            with WebSocket(port, "/ws/remediation?since=now") as socket:
                assert (socket.frame()["type"], socket.frame()["type"]) == ("hello", "live")
                insert(database, "DiskFull")
                assert socket.frame()["event"]["alertname"] == "DiskFull"
        finally:
            # As `stop` of every such tool: SIGTERM first. It drains, and ends with 0.
            output(tool, "stop", "--time", str(PATIENCE), "walcast")
            assert container.wait(PATIENCE) == 0


def yaml(file):
    try:
        from yaml import safe_load_all
    except ImportError:
        raise Skipped("there is no PyYAML (python3-yaml)") from None
    return list(safe_load_all((ROOT / "examples" / file).read_text()))


def started(here, environment):
    """The daemon with the variables of an example, but on a file of its own."""
    known = subprocess.run([BINARY, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    for name in environment:
        assert name in known, f"walcast knows no {name}"
    kept = {name: value for name, value in environment.items() if name != "WALCAST_DB"}
    return Daemon(here, environment=kept)


@test
def the_compose_file_is_of_what_there_is():
    (compose,) = yaml("compose.yaml")
    walcast, writer = compose["services"]["walcast"], compose["services"]["writer"]
    shared = {volume.split(":")[0] for volume in walcast["volumes"]} & {volume.split(":")[0] for volume in writer["volumes"]}
    assert shared == {"data"} and set(compose["volumes"]) == {"data", "state"}
    assert walcast["user"] == writer["user"] == f"{USER}:{USER}"
    assert all(port.startswith("127.0.0.1:") for port in walcast["ports"]), "it serves anyone"
    with place() as here, started(here, walcast["environment"]) as daemon:
        assert daemon.get("/readyz")[0] == 200


@test
def the_sidecar_is_probed_where_it_answers():
    deployment = next(each for each in yaml("kubernetes.yaml") if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    app, walcast = pod["containers"]
    assert app["volumeMounts"][0] in walcast["volumeMounts"], "both mount the directory of the database"
    claims = {each["metadata"]["name"] for each in yaml("kubernetes.yaml") if each["kind"] == "PersistentVolumeClaim"}
    assert {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]} == claims
    with place() as here, started(here, {each["name"]: each["value"] for each in walcast["env"]}) as daemon:
        for probe in ["livenessProbe", "readinessProbe"]:
            assert daemon.get(walcast[probe]["httpGet"]["path"])[0] == 200, probe
        assert daemon.get("/api/feeds", {"Host": "app:8010"})[0] == 200


if __name__ == "__main__":
    tests.main()
