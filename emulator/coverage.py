"""The names of Ascend C that the headers declare, as the README lists them.

python emulator/coverage.py           prints the list
python emulator/coverage.py --write   puts it into the README
"""

import re
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
BEGIN, END = "<!-- covered -->\n", "<!-- /covered -->\n"
TITLES = {
    "copy.h": "Copies and the atomic mode",
    "vector.h": "Element by element",
    "cast.h": "Conversions",
    "compare.h": "Comparing",
    "gather.h": "Between lanes",
    "reduce.h": "Sums over lanes",
    "advanced.h": "Composite calls",
    "sync.h": "Flags, barriers, meetings",
    "mask.h": "Mask registers",
    "tensor.h": "Tensors",
    "tpipe.h": "Buffers and queues",
    "scalar.h": "Scalar unit",
    "helpers.h": "Helpers",
}
DECLARED = (
    r"^(?:inline |constexpr )*[\w:]+(?:<\w+>)?[&*]? (\w+)\(",  # a function
    r"^class (\w+)",
    r"^API_(?:BINARY|UNARY|SCALAR)\((\w+),",
)


def names(header: str) -> list[str]:
    """What a header declares in namespace AscendC, in order."""
    text = (HERE / "core" / "api" / header).read_text()
    parts = re.findall(r"^namespace AscendC \{\n(.*?)^\}  //", text, re.M | re.S)
    code = re.sub(r"\\\n", " ", "\n".join(parts))
    found = [
        (match.start(), name)
        for pattern in DECLARED
        for match in re.finditer(pattern, code, re.M)
        for name in match.groups()
    ]
    return list(dict.fromkeys(name for _, name in sorted(found)))


def listed() -> str:
    """The list, a line or more for each family."""
    lines = []
    for header, title in TITLES.items():
        text = f"* {title}: " + ", ".join(f"`{name}`" for name in names(header))
        lines += textwrap.wrap(text, 118, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the list, or puts it into the README."""
    if sys.argv[1:] != ["--write"]:
        print(listed(), end="")
        return
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(before + BEGIN + listed() + END + after)


if __name__ == "__main__":
    main()
