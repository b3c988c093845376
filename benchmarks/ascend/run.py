"""Modelled times of the Ascend C kernels against naively written ones.

A model, not a measurement. Both kernels run under the
emulator, whose cost model and its sources are in emulator/core/machine/cost.h.
"""

import ctypes
import itertools

import ml_dtypes
import numpy as np

from benchmarks.ascend import problems
from tests.ascend import emulated
from tests.support import cases, cxx

LATENCIES = (0, 500, 1000)


def build() -> ctypes.CDLL:
    return ctypes.CDLL(
        str(cxx.build("kernels_with_naive") / "ascend/kernels_with_naive.so")
    )


def cleared(inputs: cases.Inputs, cotangent: np.ndarray | None, naive: int) -> int:
    """Bytes of results that the host clears before the launch.

    Both kernels add to the gradient of the maps. The naive one leaves the other
    gradients of what is invisible as it finds them; ours clears them itself.
    """
    if cotangent is None:
        return 0
    arrays = [inputs.feature_maps]
    if naive:
        arrays += [inputs.sample_locations, inputs.weight]
    return sum(array.nbytes for array in arrays)


def agree(ours: emulated.Run, other: emulated.Run) -> bool:
    pairs = zip(ours.results, other.results, strict=True)
    return all(
        a is None or np.allclose(a, b, rtol=1e-3, atol=1e-2 * np.abs(b).max())
        for a, b in pairs
    )


def report(library: object, name: str, shape: cases.Shape) -> None:
    inputs = cases.make(shape)
    locations, scales = inputs.sample_locations, inputs.spatial_shape.shape[1]
    visible = ((locations > 0) & (locations < 1)).all(axis=-1)
    samples = int(visible.sum()) * scales
    floor = problems.floor_microseconds(samples, shape.channels)
    print(
        f"\n{name}: {visible.mean():.0%} visible, {samples} samples, 48 cores (MODEL)"
    )
    print(f"forward's floor from corner rows at L2 rate: {floor:.1f} us")
    print(
        "| pass | exposed latency | naive us | ours us | ratio | naive MB | ours MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for label, cotangent in (
        ("forward", None),
        ("backward", cases.make_cotangent(inputs)),
    ):
        for latency in LATENCIES:
            ours, naive = (
                emulated.emulate(
                    library,
                    inputs,
                    cotangent,
                    dma_latency=latency,
                    naive=which,
                    automatic_sync=which,
                )
                for which in (0, 1)
            )
            assert not ours.findings, ours.findings
            # Two of its cores write into one block of GM, which no document forbids.
            assert "(error)" not in naive.findings, naive.findings
            assert agree(ours, naive)
            a, b = ours.answer, naive.answer
            mb = [
                (x.bytes_in + x.bytes_out + cleared(inputs, cotangent, which)) / 1e6
                for x, which in ((b, 1), (a, 0))
            ]
            print(
                f"| {label} | {latency} cycles | {b.microseconds:.1f} | "
                f"{a.microseconds:.1f} | {b.microseconds / a.microseconds:.1f} | "
                f"{mb[0]:.2f} | {mb[1]:.2f} |",
                flush=True,
            )


def report_formats(library: object, name: str, shape: cases.Shape) -> None:
    """Maps and weights of 16 bits, against float32; with what is cleared before."""
    wide = cases.make(shape)
    print(f"\n{name}: 48 cores (MODEL)")
    print("| pass | exposed latency | float32 us | bfloat16 us | ratio | MB | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    narrow = cases.narrowed(wide, ml_dtypes.bfloat16)
    for label, latency in itertools.product(("forward", "backward"), LATENCIES):
        runs = [
            emulated.emulate(
                library,
                inputs,
                cases.make_cotangent(inputs) if label == "backward" else None,
                dma_latency=latency,
            )
            for inputs in (wide, narrow)
        ]
        assert not any(run.findings for run in runs)
        answers = [run.answer for run in runs]
        a, b = (x.microseconds + x.set_microseconds for x in answers)
        moved = [f"{(x.bytes_in + x.bytes_out) / 1e6:.2f}" for x in answers]
        print(
            f"| {label} | {latency} cycles | {a:.1f} | {b:.1f} | {b / a:.2f} | "
            f"{' | '.join(moved)} |",
            flush=True,
        )


if __name__ == "__main__":
    built = build()
    for title, problem in problems.PROBLEMS.items():
        report(built, title, problem)
    for title, problem in problems.IN_16_BITS.items():
        report_formats(built, title, problem)
