"""Changed calls of the CPU library's border for as long as one likes, under Clang.

libFuzzer keeps what reaches new code in build/fuzz; `--merge` takes over into
tests/native/corpus, which the test suite runs, what the corpus does not reach yet.

    python -m tests.native.fuzz --seconds 3600
"""

import argparse
import subprocess
from pathlib import Path

from tests.support import cxx

HERE = Path(__file__).parent
FOUND = cxx.TESTS.parent / "build" / "fuzz"
FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def clang() -> str:
    """The newest Clang: packages of one version have its number in the name."""
    names = ("clang++", *(f"clang++-{version}" for version in range(30, 12, -1)))
    found = next(filter(None, map(cxx.tool, names)), None)
    if found is None:
        raise SystemExit("clang++ is not installed; libFuzzer comes with it")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--merge", action="store_true")
    arguments = parser.parse_args()
    built = cxx.build(
        "border_fuzz",
        source=HERE,
        folder=cxx.BUILDS / "fuzz",
        CMAKE_CXX_COMPILER=clang(),
        CMAKE_CXX_FLAGS=FLAGS,
        JDA_LIBFUZZER="ON",
        JDA_XLA_FFI_INCLUDE=cxx.xla_headers(),
    )
    FOUND.mkdir(parents=True, exist_ok=True)
    program, corpus = built / "border_fuzz", HERE / "corpus"
    limits = ("-rss_limit_mb=4096", "-max_len=8192", f"-artifact_prefix={FOUND}/")
    spent = f"-max_total_time={arguments.seconds}"
    subprocess.run([program, FOUND, corpus, spent, *limits], check=True)
    if arguments.merge:
        subprocess.run([program, "-merge=1", corpus, FOUND, *limits], check=True)


if __name__ == "__main__":
    main()
