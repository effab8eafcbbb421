"""One node of a Ray cluster over the nodes of a Slurm job: `python3 ray_nodes.py head|worker RAY.json`.

srun starts it in NeMo-RL's container, once per node. The head's node starts Ray, waits until the others are
there, runs the commands one after another, and ends Ray; the others join, and stay until Ray ends. NeMo-RL's
ray.sub does the same in bash: commands run beside the head, because a driver finds Ray's sockets in the files
of its own container. Standard library only, of any Python 3.8 or later: it imports nothing of this package.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

MARK = "nemo_cot_nodes"
"""A resource of which every node has one, so that `ray status` counts those that are there."""
_FILES = 65535
"""Open files, as Ray's guide for large clusters wants; fewer where the system allows no more."""
_GRACE_SECONDS = 30
_PAUSE_SECONDS = 2


def main(role, path):
    """Run the node; returns its exit code: on the head the commands', or 75 (try again) when nodes did not come."""
    with open(path) as handle:
        spec = json.load(handle)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most) if soft != resource.RLIM_INFINITY else soft, hard))
    # Since Ray 2.47 a worker started by `uv run` makes an environment of its own, in every one of them.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ.pop("UV_CACHE_DIR", None)  # the submitting shell's, which would hide the container's
    return head(spec) if role == "head" else worker(spec)


def head(spec):
    """Start Ray, wait for the nodes, run the commands."""
    own = ["--head", f"--port={spec['port']}", "--include-dashboard=false", f"--temp-dir={spec['temporary']}",
           f"--node-ip-address={spec['address']}"]  # fmt: skip
    address = f"{spec['address']}:{spec['port']}"
    ray = start(spec, own)
    try:
        if not all_there(spec, address, ray):
            return 75
        for command in spec["commands"]:
            environment = {**os.environ, **command["environment"], "RAY_ADDRESS": address}
            code = run(command["argv"], command["directory"], environment)
            if code:
                return code
        return 0
    finally:
        end(ray)


def all_there(spec, address, ray):
    """Whether every node has joined before the deadline."""
    deadline, shown = time.monotonic() + spec["wait_seconds"], -1
    while time.monotonic() < deadline and ray.poll() is None:
        there = joined([spec["ray"], "status", f"--address={address}"])
        if there != shown:
            print(f"ray: {there} of {spec['nodes']} nodes are there", flush=True)
            shown = there
        if there >= spec["nodes"]:
            return True
        time.sleep(_PAUSE_SECONDS)
    what = f"ended with {ray.poll()}" if ray.poll() is not None else f"has {max(shown, 0)} of {spec['nodes']} nodes"
    print(
        f"error: Ray {what} after {spec['wait_seconds']} s. Fix: look at the lines above; a slow start of the "
        "container: raise train.ray_wait_seconds",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return False


def joined(status):
    """How many nodes `ray status` counts."""
    try:
        said = subprocess.run(status, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60).stdout
    except subprocess.TimeoutExpired:
        return 0
    found = re.search(rf"/([\d.]+) {MARK}\b", said.decode(errors="replace"))
    return int(float(found.group(1))) if found else 0


def worker(spec):
    """Join, again and again until the head is there; then stay."""
    deadline = time.monotonic() + spec["wait_seconds"]
    while True:
        began = time.monotonic()
        ray = start(spec, [f"--address={spec['address']}:{spec['port']}"])
        try:
            code = ray.wait()
        finally:
            end(ray)
        if time.monotonic() > deadline or time.monotonic() - began > _GRACE_SECONDS:
            return code  # it was there: Ray has ended
        time.sleep(_PAUSE_SECONDS)


def start(spec, own):
    """`ray start` as a child, which ends Ray on this node when it ends."""
    resources = json.dumps({MARK: 1})
    common = [f"--num-gpus={spec['gpus']}", f"--resources={resources}", "--disable-usage-stats", "--block"]
    return subprocess.Popen([spec["ray"], "start", *own, *common], stdin=subprocess.DEVNULL)


def run(argv, directory, environment):
    """The command's exit code; it ends with this process."""
    process = subprocess.Popen(argv, cwd=directory or None, env=environment, stdin=subprocess.DEVNULL)
    try:
        code = process.wait()
    finally:
        end(process)
    return code if code >= 0 else 128 - code


def end(process):
    """SIGTERM, and SIGKILL where that does not help."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
