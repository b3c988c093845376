"""A C++ file that holds the kernels' source as a string: embed.py SOURCE RESULT."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from flatten import flatten

PIECE = 10_000  # characters: compilers need not take longer literals than 65536

if __name__ == "__main__":
    source, result = map(Path, sys.argv[1:])
    text = flatten(source)
    pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    literal = "\n".join(f'    R"jda({piece})jda"' for piece in pieces)
    result.write_text(
        '#include "kernel_source.h"\n\n'
        "namespace jda_ascend {\n\n"
        f"const char kKernelSource[] =\n{literal};\n\n"
        "}  // namespace jda_ascend\n"
    )
