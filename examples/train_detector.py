"""Trains a small Sparse4D on streets that never repeat, from nothing.

    pip install -e '.[examples]'
    python examples/train_detector.py              # twelve minutes on two free cores
    python examples/train_detector.py --resume     # goes on where it was interrupted
    python examples/train_detector.py --devices 2  # the batch split over two devices
    python examples/train_detector.py --quick      # a minute: a falling loss, no more

Losses, checkpoints, the mean average precision and a picture are in the folder.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from detector import picture, training, world
from detector.losses import Losses
from detector.model import ModelConfig
from detector.training import TrainConfig, TrainState
from tqdm import tqdm

import jda

FULL = ModelConfig(), TrainConfig()
QUICK = (
    ModelConfig(channels=32, stem=(8, 16), anchors=50, kept=30, decoders=2),
    TrainConfig(steps=60, batch=2, warm_up=10),
)
SHOWN = 10  # steps, over which the losses that are shown are averaged


def train(
    config: ModelConfig,
    how: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    until: int | None = None,
    devices: int = 1,
    save_every: int = 100,
    implementation: str | None = None,
) -> TrainState:
    """Trains to the end, or only until some step; gives the last state.

    In ``folder`` are the checkpoints, and the losses of every step.
    """
    places = training.Devices.of(devices, how)
    step = training.make_step(config, how, implementation)
    last = how.steps if until is None else until
    with (
        checkpoints(folder, save_every) as saved,
        (folder / "losses.txt").open("a") as log,
    ):
        if saved.latest_step() is not None and not resume:
            raise SystemExit(
                f"{folder} holds checkpoints: --resume goes on from the last one, "
                "another --folder starts afresh"
            )
        state = training.init(jax.random.key(0), config, how)
        state = jax.device_put(state, places.state)
        if resume:
            like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            state = saved.restore(None, args=ocp.args.StandardRestore(like))
        found: list[Losses] = []
        steps = tqdm(range(int(state.step), last), unit="step")
        for number in steps:
            frames = jax.device_put(training.batch(how, number), places.frames)
            state, losses = step(state, frames)
            found.append(losses)
            if len(found) == SHOWN or number + 1 == last:
                values = np.array(found)
                steps.set_postfix(zip(Losses._fields, values.mean(axis=0), strict=True))
                first = number + 1 - len(found)
                numbers = np.arange(first, number + 1)[:, None]
                np.savetxt(log, np.hstack([numbers, values]), "%.9g")
                log.flush()
                found.clear()
            is_last = number + 1 == last
            saved.save(number + 1, args=ocp.args.StandardSave(state), force=is_last)
    return state


def checkpoints(folder: Path, save_every: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, save_interval_steps=save_every
    )
    return ocp.CheckpointManager((folder / "checkpoints").resolve(), options=options)


def losses_of(folder: Path) -> np.ndarray:
    """Losses [step, 3]; of a step that was done twice the later ones."""
    rows = np.loadtxt(folder / "losses.txt", ndmin=2)
    found = np.full((int(rows[:, 0].max()) + 1, rows.shape[1] - 1), np.nan)
    found[rows[:, 0].astype(int)] = rows[:, 1:]
    return found


def main() -> None:
    arguments = parsed()
    if arguments.devices > 1:
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    print(jda.implementations())
    config, how = QUICK if arguments.quick else FULL
    how = replace(how, steps=arguments.steps or how.steps)
    default = tempfile.mkdtemp() if arguments.quick else "build/detector"
    folder = arguments.folder or Path(default)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter(), time.process_time()
    state = train(
        config, how, folder, resume=arguments.resume, devices=arguments.devices
    )
    wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
    print(f"trained for {wall / 60:.1f} minutes, {cpu / 60:.1f} minutes of CPU time")

    total = losses_of(folder).sum(axis=1)
    part = max(len(total) // 5, 1)
    first, final = total[:part].mean(), total[-part:].mean()
    print(f"loss: {first:.2f} at first, {final:.2f} at last")
    if not final < first:
        raise SystemExit("the loss has not fallen")
    if arguments.quick:
        return
    params = jax.device_get(state.params)
    mean, each = training.evaluate(params, config, arguments.scenes)
    by_class = dict(zip(world.CLASSES, each, strict=True))
    print(f"mean average precision in {arguments.scenes} held-out scenes: {mean:.3f}")
    print("  " + ", ".join(f"{name} {value:.3f}" for name, value in by_class.items()))
    picture.draw(folder / "detector.png", params, config, losses_of(folder))
    print(f"wrote {folder / 'detector.png'}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--folder", type=Path, help="default: build/detector; of --quick a new one")
    add("--resume", action="store_true", help="go on from the last checkpoint")
    add("--devices", type=int, default=1, help="devices that share the batch")
    add("--steps", type=int, help="how many; the learning rate falls until the last")
    add("--scenes", type=int, default=64, help="held out, for the precision")
    add("--quick", action="store_true", help="small and short: the loss falls")
    return parser.parse_args()


if __name__ == "__main__":
    main()
