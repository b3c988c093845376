"""Builds a release: the source distribution, and from it a wheel for each platform.

    python release/build.py --outdir dist
    python release/build.py --outdir dist --only x86_64

For Linux on x86-64 and aarch64 there are wheels with kernels, which load on glibc 2.28
and newer; the wheel for every other platform has the reference alone. The same sources
give the same bytes, wherever they are built with the same compiler.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLCHAIN = "release/toolchain.cmake"
WITH_KERNELS = ("x86_64", "aarch64")
PURE = "any"


def settings(platform: str) -> dict[str, str]:
    """What scikit-build-core is told for a wheel."""
    if platform == PURE:
        return {"wheel.cmake": "false"}
    return {
        "wheel.tags": f"py3-none-manylinux_2_28_{platform}",
        "cmake.toolchain-file": TOOLCHAIN,
        "cmake.define.JDA_ARCH": platform,
    }


def build(kind: str, source: Path, outdir: Path, **told: str) -> Path:
    """Builds an "sdist" or a "wheel" and returns its file."""
    with tempfile.TemporaryDirectory(dir=outdir) as fresh:
        options = [f"-C{name}={value}" for name, value in told.items()]
        command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation"]
        subprocess.run([*command, "--outdir", fresh, *options, source], check=True)
        (made,) = Path(fresh).iterdir()
        return made.rename(outdir / made.name)


def date_archives() -> None:
    """Files in archives get the time of the last commit, or else builds differ."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    time = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if time:  # a tree without git has the times of its files
        os.environ.setdefault("SOURCE_DATE_EPOCH", time)


def main() -> None:
    """Builds what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outdir", type=Path, required=True)
    platforms = (*WITH_KERNELS, PURE)
    parser.add_argument("--only", choices=platforms, action="append")
    arguments = parser.parse_args()
    outdir = arguments.outdir.resolve()
    outdir.mkdir(parents=True, exist_ok=True)
    # cmake and ninja are beside this Python.
    beside = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])

    date_archives()
    sdist = build("sdist", ROOT, outdir)
    for platform in arguments.only or platforms:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
            (source,) = Path(folder).iterdir()
            build("wheel", source, outdir, **settings(platform))


if __name__ == "__main__":
    main()
