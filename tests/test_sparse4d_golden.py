"""The whole head against what the public PyTorch head of Sparse4D v3 gave.

`data/sparse4d_golden.py` draws parameters and inputs from seeds and says what
`data/sparse4d_golden.npz` holds.
"""

import ast
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import sparse4d
from tests.data import sparse4d_golden as golden

DATA = Path(__file__).parent / "data"

CONFIG = sparse4d.DecoderConfig(
    layer=sparse4d.LayerConfig(freeze=False),  # the golden gradients are of everything
    num_anchor=golden.N,
    num_temp_instances=golden.NT,
)
FRAMES = range(golden.FRAMES)
INDEX = jda.pack_feature_maps([np.zeros((1, 6, 1, *size)) for size in golden.MAPS])[1:]


@pytest.fixture(scope="module")
def known() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "sparse4d_golden.npz"))


@pytest.fixture(scope="module")
def state_dict(known) -> dict[str, np.ndarray]:
    shapes = map(ast.literal_eval, known["shapes"].tolist())
    return golden.parameters(known["names"].tolist(), list(shapes))


def rows_of(maps) -> jax.Array:
    return jda.pack_feature_maps(maps, layout="bkchw").feature_maps


def metas_of(frames: list[dict], dtype) -> sparse4d.Metas:
    """Of a sequence, with an axis of frames."""
    stacked = {
        name: np.stack([frame[name] for frame in frames])
        for name in ("projection_mat", "image_wh", "timestamp", "T_global")
    }
    motion = sparse4d.sequence_motion(stacked["timestamp"], stacked["T_global"], dtype)
    matrices = (stacked["projection_mat"], stacked["image_wh"])
    return sparse4d.Metas(*(jnp.asarray(x, dtype) for x in (*matrices, *motion)))


@partial(jax.jit, static_argnames="config")
def run(params, rows, metas, state, config=CONFIG):
    outputs, state = sparse4d.decoder.apply(
        params, config, (rows, *INDEX), metas, state
    )
    last = [out[-1] for out in outputs[:3]]
    boxes = sparse4d.decode(*last, outputs.instance_id, num_output=golden.BOXES)
    return outputs, boxes, state


def assert_close(found, wanted, tolerance=1e-8) -> None:
    if wanted.dtype == np.int64:
        np.testing.assert_array_equal(found, wanted)
    else:
        error = np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max()
        assert error <= tolerance


def found_and_wanted(found, known, frame):
    """Pairs of what a frame gave and what it should have, by name."""
    outputs, boxes, state = found
    named = {"instance_id": outputs.instance_id}
    for d in range(6):
        named[f"prediction.{d}"] = outputs.prediction[d]
        if d in (0, 5):
            named[f"classification.{d}"] = outputs.classification[d]
            named[f"quality.{d}"] = outputs.quality[d]
    for name in ("boxes_3d", "scores_3d", "labels_3d", "instance_ids"):
        named[f"decode.{name}"] = getattr(boxes, name)
    for name in ("anchor", "feature", "confidence"):
        named[f"cache.{name}"] = getattr(state, name)
    of_frame = {name for name in known if name.startswith(f"f{frame}.")}
    assert of_frame == {f"f{frame}.{name}" for name in named}
    return {name: (x, known[f"f{frame}.{name}"]) for name, x in named.items()}


def test_sequence(float64, known, state_dict):
    """Five frames in one scan, the first of them known as such by a flag alone."""
    params = sparse4d.params_from_state_dict(state_dict, CONFIG)
    frames = [golden.inputs(frame) for frame in FRAMES]
    rows = jnp.stack([rows_of(frame["maps"]) for frame in frames])

    def step(state, frame):
        *found, state = run(params, *frame, state)
        return state, (*found, state)

    start = sparse4d.init_state(CONFIG, golden.B, jnp.float64)
    _, found = jax.lax.scan(step, start, (rows, metas_of(frames, np.float64)))
    for frame in FRAMES:
        of_frame = jax.tree.map(lambda x, f=frame: x[f], found)
        for pair in found_and_wanted(of_frame, known, frame).values():
            assert_close(*pair)


def test_first_frame(float64, known, state_dict):
    """The same where it is known when the function is traced."""
    params = sparse4d.params_from_state_dict(state_dict, CONFIG)
    inputs = golden.inputs(0)
    metas = jax.tree.map(lambda x: x[0], metas_of([inputs], np.float64))[:2]
    found = run(params, rows_of(inputs["maps"]), sparse4d.Metas(*metas), None)
    for pair in found_and_wanted(found, known, 0).values():
        assert_close(*pair)


def test_float32(known, state_dict):
    """One frame at a time, each from the golden cache of the frame before.

    Rounding parameters and inputs to float32 moves a velocity, of up to 73 m/s, by
    1.5e-3 in itself: computed in float64 from there.
    """
    narrow = {name: x.astype(np.float32) for name, x in state_dict.items()}
    params = sparse4d.params_from_state_dict(narrow, CONFIG)
    frames = [golden.inputs(frame) for frame in FRAMES]
    metas = metas_of(frames, np.float32)
    state = sparse4d.init_state(CONFIG, golden.B)
    for frame in FRAMES:
        if frame:
            cached = {
                name: jnp.asarray(known[f"f{frame - 1}.cache.{name}"], jnp.float32)
                for name in ("feature", "anchor", "confidence")
            }
            state = state._replace(**cached, valid=jnp.ones(golden.B, bool))
        rows = rows_of([x.astype(np.float32) for x in frames[frame]["maps"]])
        here = jax.tree.map(lambda x, f=frame: x[f], metas)
        found = found_and_wanted(run(params, rows, here, state), known, frame)
        for name, (x, wanted) in found.items():
            if name.partition(".")[0] in ("prediction", "classification", "quality"):
                error = np.abs(np.asarray(x, np.float64) - wanted)
                assert np.quantile(error, 0.999) <= 1e-3
                assert error.max() <= 4e-3


def test_gradients(float64, known, state_dict):
    params = sparse4d.params_from_state_dict(state_dict, CONFIG)
    inputs, cotangents = golden.inputs(0), golden.cotangents()

    @partial(jax.value_and_grad, argnums=(0, 1, 2))
    def loss(params, smallest, projection_mat):
        rows = rows_of([*inputs["maps"][:3], smallest])
        metas = sparse4d.Metas(projection_mat, jnp.asarray(inputs["image_wh"]))
        outputs, *_ = run(params, rows, metas, None)
        return sum(
            jnp.vdot(out[-1], cotangent)
            for out, cotangent in zip(outputs[:3], cotangents, strict=True)
        )

    value, (of_params, of_maps, of_matrices) = jax.jit(loss)(
        params, jnp.asarray(inputs["maps"][3]), jnp.asarray(inputs["projection_mat"])
    )
    assert_close(value, known["loss"])
    assert_close(of_maps, known["grad.maps.3"])
    assert_close(of_matrices, known["grad.projection_mat"])
    assert_close(of_params["instance_bank"]["anchor"], known["grad.anchor"])
    named = sparse4d.state_dict_from_params(of_params)
    norms = np.array([np.linalg.norm(named[name]) for name in known["names"]])
    wanted = np.nan_to_num(known["grad.norm"])  # NaN where nothing flows
    np.testing.assert_allclose(norms, wanted, rtol=1e-8)


def test_state_dict_there_and_back(known, state_dict):
    """Bit by bit, under the names of a checkpoint of the whole detector."""
    given = {f"head.{name}": x.astype(np.float32) for name, x in state_dict.items()}
    given["img_neck.lateral_convs.0.conv.weight"] = np.zeros((256, 256, 1, 1))
    params = sparse4d.params_from_state_dict(given, CONFIG, prefix="head.")
    back = sparse4d.state_dict_from_params(params, prefix="head.")
    assert sorted(back) == [f"head.{name}" for name in known["names"]]
    for name, x in back.items():
        assert x.dtype == np.float32
        assert x.tobytes() == given[name].tobytes()


def test_real_sizes():
    """479 arrays and 21 303 045 numbers in the head of the published model."""
    config = sparse4d.DecoderConfig()
    shapes = jax.eval_shape(
        partial(sparse4d.decoder.init, config=config), jax.random.key(0)
    )
    sizes = jax.tree.leaves(jax.tree.map(lambda x: x.size, shapes))
    assert (len(sizes), sum(sizes)) == (479, 21_303_045)
    trained = jax.tree.map(
        lambda x, is_trained: x.size * is_trained, shapes, sparse4d.trainable(shapes)
    )
    assert sum(jax.tree.leaves(trained)) == 21_072_516
