"""One self-contained source from a kernel and our headers, for run-time compilation.

Every `#include "x.h"` of a header beside the kernel, or of one that all of csrc shares,
is replaced by its text, once. The toolkit's own header, kernel_operator.h, stays an
include.
"""

import re
import sys
from pathlib import Path

SHARED = Path(__file__).parents[1]
INCLUDE = re.compile(r'^#include "([^"]+)"\n', re.MULTILINE)


def flatten(source: Path, seen: set[str] | None = None) -> str:
    """The text of `source` with our headers in place of their includes."""
    seen = set() if seen is None else seen

    def text_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if Path(name).name in seen:
            return ""
        seen.add(Path(name).name)
        places = (folder / name for folder in (source.parent, SHARED))
        header = next((place for place in places if place.exists()), None)
        return match.group() if header is None else flatten(header, seen)

    return INCLUDE.sub(text_of, source.read_text())


if __name__ == "__main__":
    sys.stdout.write(flatten(Path(sys.argv[1])))
