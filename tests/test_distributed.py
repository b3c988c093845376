"""The promise: devices of several processes are devices like all others."""

import os
import socket
import subprocess
import sys

from tests.support.implementations import ROOT

PROGRAM = "tests.eight_devices.one_of_two_processes"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes():
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", PROGRAM, str(rank), port],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    print(*outputs, sep="\n")
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0
        for axis in ("batch", "anchor", "camera"):
            assert f"right: {axis}" in output
