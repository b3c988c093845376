"""Checks a release that lies in a folder, without installing it.

    python release/check.py dist                 what is in it, and what it needs
    python release/check.py dist --same-as OTHER and that another build gave the same

The tools of the package indexes have their say too: auditwheel, twine and
check-wheel-contents.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEWEST_GLIBC = (2, 28)
NOT_SHIPPED = (".ci/",)
MADE_BY_THE_BUILD = {"PKG-INFO"}
LIBRARIES = {"jda/ffi/libjda_cpu.so", "jda/ffi/libjda_ascend.so"}


def run(*command: str | Path) -> str:
    """What a command prints; it must succeed."""
    print("+", *command, flush=True)
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return told.stdout


def tool(name: str, *arguments: str | Path) -> str:
    """The same, of a program beside this Python."""
    return run(Path(sys.executable).with_name(name), *arguments)


def expect(found: object, wanted: object, what: str) -> None:
    """Ends the program with both if they differ."""
    if found != wanted:
        raise SystemExit(f"{what}:\n{found}\nwanted:\n{wanted}")


def expect_names(found: set[str], wanted: set[str], what: str) -> None:
    """Ends the program with what is missing and what is too much."""
    for excess, of_what in ((wanted - found, "missing"), (found - wanted, "too many")):
        expect(sorted(excess), [], f"{what}, {of_what}")


def tracked(*folders: str) -> set[str]:
    """Files of the tree that a release holds."""
    listed = run("git", "-C", ROOT, "ls-files", *folders).splitlines()
    return {name for name in listed if not name.startswith(NOT_SHIPPED)}


def check_sdist(sdist: Path) -> None:
    """It holds what git tracks, less CI's own."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expect_names(names - MADE_BY_THE_BUILD, tracked(), f"files of {sdist.name}")


def check_version(sdist: Path) -> None:
    """The package and what it is cited as are of one version."""
    (cited,) = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)
    expect(sdist.name, f"jda-{cited}.tar.gz", "the version, here and in CITATION.cff")


def check_wheel(wheel: Path) -> None:
    """It holds the package, and two libraries that old systems can load, or none."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    has_kernels = not wheel.stem.endswith("-any")
    wanted = tracked("jda") | (LIBRARIES if has_kernels else set())
    expect_names(names, wanted, f"files of {wheel.name}")
    tool("check-wheel-contents", wheel)
    if has_kernels:
        told = " ".join(tool("auditwheel", "show", wheel).split())
        (newest,) = re.findall(r'platform tag: "manylinux_(\d+)_(\d+)_', told)[:1]
        oldest_system = tuple(map(int, newest))
        print(wheel.name, "loads on glibc", *oldest_system)
        if oldest_system > NEWEST_GLIBC:
            raise SystemExit(f"{wheel.name} needs glibc {oldest_system}: {told}")


def check_readme(wheel: Path) -> None:
    """It has no link to a file that an index does not have."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [x for x in archive.namelist() if x.endswith("METADATA")]
        shown = archive.read(name).decode()
    expect("# jda" in shown, True, f"whether {wheel.name} has a readme")
    elsewhere = r'\]\((?!https?://)[^)]*\)|(?:src|href)="(?!https?://)'
    relative = re.findall(elsewhere, shown)
    expect(relative, [], f"links in the readme of {wheel.name} that lead nowhere")


def check_same(built: Sequence[Path], again: Path) -> None:
    """Every file of the release has the same bytes as one of another build."""
    differing = [
        p.name for p in built if p.read_bytes() != (again / p.name).read_bytes()
    ]
    expect(differing, [], f"files that differ between two builds, {again}")


def main() -> None:
    """Checks the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--same-as", type=Path)
    arguments = parser.parse_args()
    sdists = sorted(arguments.folder.glob("*.tar.gz"))
    wheels = sorted(arguments.folder.glob("*.whl"))
    expect(len(sdists), 1, f"source distributions in {arguments.folder}")
    expect(bool(wheels), True, f"wheels in {arguments.folder}")
    check_sdist(*sdists)
    check_version(*sdists)
    for wheel in wheels:
        check_wheel(wheel)
        check_readme(wheel)
    tool("twine", "check", "--strict", *sdists, *wheels)
    if arguments.same_as:
        check_same([*sdists, *wheels], arguments.same_as)
    print("release: as it should be,", *(path.name for path in [*sdists, *wheels]))


if __name__ == "__main__":
    main()
