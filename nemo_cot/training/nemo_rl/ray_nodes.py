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
    """Run the node; returns its exit code: on the head the commands', or 75 (try again) without all nodes."""
    with open(path) as handle:
        spec = json.load(handle)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(soft, most) if soft != resource.RLIM_INFINITY else soft, hard)
    )
    # Since Ray 2.47 a worker started by `uv run` makes an environment of its own, in every one of them.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ.pop("UV_CACHE_DIR", None)  # the submitting shell's, which would hide the container's
    return head(spec) if role == "head" else worker(spec)


def head(spec):
    """Start Ray, wait for the nodes, run the commands. A Ray that does not come up is started again."""
    address, attempt = f"{spec['address']}:{spec['port']}", 0
    deadline = time.monotonic() + spec["wait_seconds"]
    while True:
        # A folder of each attempt's own: Ray refuses one with the state of another session.
        place = [f"--port={spec['port']}", f"--node-ip-address={spec['address']}"]
        own = ["--head", *place, "--include-dashboard=false", f"--temp-dir={spec['temporary']}-{attempt}"]
        ray = start(spec, own)
        try:
            if all_there(spec, address, ray, deadline):
                return run_all(spec["commands"], address)
            if ray.poll() is None or time.monotonic() > deadline:
                return 75
        finally:
            end(ray)
        attempt += 1


def run_all(commands, address):
    """One after another; the exit code of the first that fails, or 0."""
    for command in commands:
        environment = {**os.environ, **command["environment"], "RAY_ADDRESS": address}
        code = run(command["argv"], command["directory"], environment)
        if code:
            return code
    return 0


def all_there(spec, address, ray, deadline):
    """Whether every node has joined before the deadline."""
    shown = -1
    while time.monotonic() < deadline and ray.poll() is None:
        there = joined([spec["ray"], "status", f"--address={address}"])
        if there != shown:
            print(f"ray: {there} of {spec['nodes']} nodes are there", flush=True)
            shown = there
        if there >= spec["nodes"]:
            return True
        time.sleep(_PAUSE_SECONDS)
    if ray.poll() is None:
        what = f"has {max(shown, 0)} of {spec['nodes']} nodes after {spec['wait_seconds']} s"
        fix = "look at the lines above; where containers start slowly, raise train.ray_wait_seconds"
        print(f"error: Ray {what}. Fix: {fix}", file=sys.stderr, flush=True)
    else:
        print(f"ray: ended with exit code {ray.poll()}", file=sys.stderr, flush=True)
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
    """Join, again and again until the deadline, for the head may come later; then stay."""
    deadline = time.monotonic() + spec["wait_seconds"]
    while True:
        ray = start(spec, [f"--address={spec['address']}:{spec['port']}"])
        try:
            code = ray.wait()
        finally:
            end(ray)
        if time.monotonic() > deadline:
            return code
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
