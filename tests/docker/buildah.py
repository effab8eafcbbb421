"""buildah in a folder of its own, without a daemon and without namespaces: chroot isolation, plain copies as layers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import ROOT

MIRROR = "http://deb.debian.org/debian"
SUPERFLUOUS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
BUILD_SECONDS = 900
"""Bound of every command here, on a busy machine: a build takes 20 to 50 s, debootstrap 30 to 80."""


def missing() -> str:
    """Why no image can be built here; empty when one can."""
    if os.environ.get("NEMO_COT_DOCKER") != "build":
        return "`make docker-check` builds images (a minute or two, and the network)"
    if os.geteuid() != 0:
        return "chroot isolation needs root"
    absent = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


_LAST = "-- nothing of the command follows --"


class Buildah:
    """``folder`` holds the storage; :meth:`close` removes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._global = [
            "buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip

    def __call__(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command of buildah to its end; its output is in the error where it fails."""
        command = [*self._global, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def debian(self, name: str, packages: Sequence[str]) -> str:
        """A minimal Debian with ``packages``, from its mirror."""
        container = self("from", "scratch").stdout.strip()
        root = self("mount", container).stdout.strip()
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", root]
        for _ in range(3):  # one bad moment of the network is no failure; it goes on with what it has
            done = subprocess.run([*command, MIRROR], capture_output=True, text=True, timeout=BUILD_SECONDS)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        for path in SUPERFLUOUS:  # every layer is a copy of the whole
            shutil.rmtree(Path(root) / path, ignore_errors=True)
        self("umount", container)
        return self.commit(container, name)

    def commit(self, container: str, name: str) -> str:
        """Make an image of a container and remove the container; returns the image's full name."""
        image = f"localhost/{name}"  # a bare name such as debian may be an alias of a registry's image
        self("commit", "--rm", container, image)
        return image

    def build(
        self, tag: str, *, target: str, arguments: Mapping[str, str], check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Build ``target`` of the Dockerfile."""
        values = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        return self(
            "build", "--isolation", "chroot", "--format", "docker", *self._host(), *values,
            "--target", target, "--tag", tag, ROOT, check=check,
        )  # fmt: skip

    def container(self, image: str) -> str:
        """A container to run commands in."""
        return self("from", image).stdout.strip()

    def run(self, container: str, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in it, as its user and with its environment."""
        values = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
        # Chroot isolation drops what a process wrote just before its end, on a busy machine: seen once in ten. So
        # it ends a moment later, and again where its last line is not there even so.
        lingering = ("sh", "-c", f'"$@"; code=$?; echo "{_LAST}"; sleep 0.3; exit $code', "sh", *command)
        for _ in range(5):
            done = self("run", "--isolation", "chroot", *values, container, "--", *lingering, check=False)
            done.stdout, whole, _ = done.stdout.partition(_LAST)
            if whole:
                break
        return done

    def close(self) -> None:
        """Remove containers, images and storage."""
        self("rm", "--all", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _host(self) -> list[str]:
        """This machine's certificates and settings of pip and uv, read-only, for the build alone."""
        uv = self.folder / "uv.toml"
        uv.write_text("native-tls = true\n")
        pairs = [(Path(p), p) for p in ("/etc/ssl/certs", "/etc/pip.conf")] + [(uv, "/etc/uv/uv.toml")]
        return [
            word for host, inside in pairs if host.exists() for word in ("--volume", f"{host}:{inside}:ro")
        ]
