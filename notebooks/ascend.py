# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ascend: lowering, a run under emulation, a judge, and a model of time
#
# **Nothing of this has run on an NPU.** jda's Ascend C kernels run here on the CPU, on
# an [emulator](../emulator/README.md) that was built from public documentation and has
# never been compared with a card. Its judge tells which documented rules a kernel
# breaks. Its times are a model. [docs/ascend.md](../docs/ascend.md) says what has run
# where, and what to install on the host of a card.
#
# The notebook needs a checkout of jda and a C++ compiler.

# %%
import json
import logging
import os
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

os.environ["JDA_ASCEND_DRIVER"] = "emulated"
os.environ["JDA_ASCEND_CACHE"] = "../build/ascend/notebook"
sys.path.append("..")
import jda
from tests.ascend import emulated

shutil.rmtree(os.environ["JDA_ASCEND_CACHE"], ignore_errors=True)  # to see it compile

bs, cam, anchor, pts, c, group = 1, 6, 96, 8, 64, 8
random = np.random.default_rng(0)
pyramid = [
    random.normal(size=(bs, cam, c, *s)).astype("f") for s in [(16, 44), (8, 22)]
]
packed = jda.pack_feature_maps(pyramid, layout="bkchw")
locations = random.uniform(-0.5, 1.5, size=(bs, anchor, pts, cam, 2)).astype("f")
weight = random.normal(size=(bs, anchor, pts, cam, 2, group)).astype("f")

# %% [markdown]
# ## Lowering
#
# A program can be lowered for the platform `ascend` on any machine. The operator is one
# call forward, and one backward that gives all gradients.


# %%
def loss(packed, locations, weight, implementation=None):
    out = jda.deformable_aggregation(
        *packed, locations, weight, implementation=implementation
    )
    return jnp.sum(out**2), out


gradient = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
traced = jax.jit(gradient).trace(packed, locations, weight)
program = traced.lower(lowering_platforms=("ascend",)).as_text()
for line in program.splitlines():
    if "custom_call @jda" in line:
        call, _, types = line.partition("{")
        takes, gives = types.rpartition("} : ")[2].split(" -> ")
        takes = textwrap.fill(takes, 90, subsequent_indent="    ")
        print(call.strip(), takes, f"-> {gives}", sep="\n    ")

# %% [markdown]
# ## A run under emulation
#
# `implementation="ascend"` on the CPU platform: arrays are copied to the card, computed
# there, and copied back. The card is an emulated one, and it is told as that wherever
# it is named. The first call compiles the kernels, which the logger `jda` tells.

# %%
log = logging.getLogger("jda")
log.addHandler(logging.StreamHandler(sys.stdout))
log.setLevel(logging.INFO)

both = jax.jit(gradient, static_argnums=3)
(_, out), grads = jax.block_until_ready(both(packed, locations, weight, "ascend"))
found = jda.implementations()["ascend"].detail
print("then:", found[found.index("emulated card") :])

# %% [markdown]
# The CPU kernels, which share no code with those for Ascend, give the same result and
# the same gradients, but for rounding.

# %%
(_, right), right_grads = both(packed, locations, weight, "cpu")
names = ["result", *(f"gradient of {n}" for n in ("maps", "locations", "weight"))]
pairs = zip([out, *grads], [right, *right_grads], strict=True)
for name, (found, other) in zip(names, pairs, strict=True):
    found, other = (jax.tree.leaves(each)[0] for each in (found, other))
    print(f"{name:>22}: {np.abs(found - other).max() / np.abs(other).max():.0e}")

# %% [markdown]
# ## The judge
#
# On a vector core, copies in (MTE2), arithmetic (V) and copies out (MTE3) run at the
# same time, and only flags keep them apart. One flag of the forward kernel says: the
# sums of an anchor are computed, they may be stored. Here it is taken out of a copy of
# the kernel.

# %%
FLAG = "Flag<HardEvent::V_MTE3>(kSumsEvent + packet.block);"

folder = Path(tempfile.mkdtemp())
shutil.copytree(emulated.KERNELS, folder / "kernels")
source = folder / "kernels" / "deformable_aggregation.cpp"
lines = source.read_text().splitlines()
source.write_text("\n".join("" if FLAG in line else line for line in lines))
print("removed:", *(line for line in lines if FLAG in line), sep="\n")

whole = emulated.library()
without_flag = emulated.library_of(folder / "kernels", folder / "build")
shutil.rmtree(folder)

# %% [markdown]
# The judge's report, first on the kernel as it is, then on the one without the flag. A
# finding names the rule, the line that breaks it, and the line that it clashes with.

# %%
arrays = [np.asarray(array) for array in (*packed, locations, weight)]

for name, library in {"as it is": whole, "without the flag": without_flag}.items():
    findings = emulated.emulate(library, arrays, cores=4).findings or "no findings"
    print(f"{name}: ", end="")
    for line in findings.splitlines():
        print(textwrap.fill(line, 90, subsequent_indent="    "))

# %% [markdown]
# Does it matter? In program order the result is right all the same. The emulator also
# runs the pipes against each other, in random orders that the remaining flags allow.
# The kernel as it is gives the same bits in all of them.

# %%
ORDERS = range(12)
kernels = {"as it is": whole, "without the flag": without_flag}
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (name, library), colour in zip(
    kernels.items(), ["#00c2ff", "tab:red"], strict=True
):
    results = [
        emulated.emulate(library, arrays, cores=4, seed=seed).results[0]
        for seed in ORDERS
    ]
    errors = [np.abs(result - right).max() for result in results]
    axes.semilogy(ORDERS, errors, "o", color=colour, label=name)
    different = len({result.tobytes() for result in results})
    print(f"{name}: {len(ORDERS)} orders give {different} different results")
axes.set(xlabel="order of execution (0: program order)", ylabel="largest error")
axes.set(xticks=ORDERS, ylim=(1e-7, 1e2))
axes.axhline(np.abs(right).max(), color="0.6", zorder=0, label="largest result")
axes.legend(loc="center right")
caption = figure.suptitle("emulated, not an NPU", fontsize="medium")

# %% [markdown]
# ## Where the time would go
#
# The emulator has a model of time, made of published figures and marked assumptions
# ([cost.h](../emulator/core/machine/cost.h)). This is one of two cores in the forward
# pass: a row for each pipe, a colour for each part of the kernel, by the file that it
# is in. Below, the piece on grey is magnified: feature rows and weights (`corners.h`,
# `weights.h`) for the next sums are copied in while the ones before are computed.


# %%
def timeline(cores):
    """(pipe, file, begin, end) of all instructions of core 0, in modelled cycles."""
    with tempfile.NamedTemporaryFile() as file:
        emulated.emulate(whole, arrays, cores=cores, trace=file.name.encode())
        events = json.loads(Path(file.name).read_text())["traceEvents"]
    pipes = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    for event in events:
        if event["ph"] == "X" and event["pid"] == 0:
            file = event["args"]["at"].partition(":")[0]
            yield pipes[event["tid"]], file, event["ts"], event["ts"] + event["dur"]


PIPES = {
    "MTE2": "copies in\n(MTE2)",
    "V": "arithmetic\n(V)",
    "MTE3": "copies out\n(MTE3)",
}
instructions = list(timeline(cores=2))
files = sorted({file for _, file, *_ in instructions})
colours = {file: f"C{n}" for n, file in enumerate(files)}

figure, panels = plt.subplots(2, figsize=(9, 5.2), layout="constrained")
middle = max(end for *_, end in instructions) // 2
for axes, span in zip(panels, [(0, 2 * middle), (middle, middle + 2500)], strict=True):
    for row, pipe in enumerate(PIPES):
        for file in files:
            spans = [
                (b, e - b) for p, f, b, e in instructions if (p, f) == (pipe, file)
            ]
            axes.broken_barh(spans, (row - 0.4, 0.8), color=colours[file], label=file)
    axes.set(yticks=range(3), yticklabels=PIPES.values(), xlim=span)
    axes.invert_yaxis()
panels[0].axvspan(middle, middle + 2500, color="0.85", zorder=0)
panels[1].set(xlabel="modelled cycles: a model, not a measurement")
handles = [plt.Rectangle((0, 0), 1, 1, color=colours[file]) for file in files]
legend = figure.legend(
    handles, files, loc="outside right upper", title="part of the kernel"
)

# %% [markdown]
# More cores share the work. At this small size the floor is soon reached: what every
# core does before it begins.

# %%
COUNTS = (1, 2, 4, 8, 16, 24, 32, 40, 48)
answers = [emulated.emulate(whole, arrays, cores=cores).answer for cores in COUNTS]
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot(COUNTS, [answer.microseconds for answer in answers], "o-", color="#00c2ff")
axes.set(xlabel="vector cores", ylabel="modelled time [µs]", ylim=(0, None))
caption = figure.suptitle("forward pass: a model, not a measurement", fontsize="medium")
