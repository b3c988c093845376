"""Changed calls of a library's border for as long as one likes, under Clang.

libFuzzer keeps what reaches new code in build/fuzz; `--merge` takes over into the
corpus, which the test suite runs, what the corpus does not reach yet.

    python -m tests.native.fuzz --seconds 3600
    python -m tests.native.fuzz --seconds 3600 --library ascend
"""

import argparse
import os
import subprocess
from pathlib import Path

from tests.support import cxx
from tests.support.emulated_books import FOLDER

HERE = Path(__file__).parent
FOUND = cxx.TESTS.parent / "build" / "fuzz"
PROGRAMS = {"cpu": "border_fuzz", "ascend": "ascend_border_fuzz"}
CORPORA = {"cpu": HERE / "corpus", "ascend": HERE / "ascend_corpus"}
# Of the Ascend launcher, which needs a driver.
ENVIRONMENT = {
    "JDA_ASCEND_DRIVER": str(FOLDER),
    "JDA_ASCEND_CACHE": str(cxx.TESTS.parent / "build" / "ascend" / "cache"),
}
# Less what AddressSanitizer sees as well, in code that is inlined a thousand times: a
# file of kernels then takes one minute, and not five. The test suite has all, by g++.
FLAGS = (
    "-O1 -gline-tables-only -fsanitize=address,undefined"
    " -fno-sanitize=null,alignment,object-size,pointer-overflow"
    " -fno-sanitize-recover=undefined"
)


def clang() -> str:
    """The newest Clang: packages of one version have its number in the name."""
    names = ("clang++", *(f"clang++-{version}" for version in range(30, 12, -1)))
    found = next(filter(None, map(cxx.tool, names)), None)
    if found is None:
        raise SystemExit("clang++ is not installed; libFuzzer comes with it")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", choices=PROGRAMS, default="cpu")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--merge", action="store_true")
    arguments = parser.parse_args()
    name = PROGRAMS[arguments.library]
    built = cxx.build(
        name,
        source=HERE,
        folder=cxx.BUILDS / "fuzz",
        CMAKE_CXX_COMPILER=clang(),
        CMAKE_CXX_FLAGS=FLAGS,
        JDA_LIBFUZZER="ON",
        JDA_XLA_FFI_INCLUDE=cxx.xla_headers(),
    )
    corpus, found = CORPORA[arguments.library], FOUND / arguments.library
    found.mkdir(parents=True, exist_ok=True)
    limits = ("-rss_limit_mb=4096", "-max_len=8192", f"-artifact_prefix={found}/")
    environment = ENVIRONMENT | os.environ

    def fuzz(*options: str | Path) -> None:
        command = [built / name, *options, *limits]
        subprocess.run(command, check=True, env=environment)

    fuzz(found, corpus, f"-max_total_time={arguments.seconds}")
    if arguments.merge:
        fuzz("-merge=1", corpus, found)


if __name__ == "__main__":
    main()
