"""The promise: `implementation="ascend"` is a route from JAX to the Ascend C kernels.

Lowering needs no driver and is checked for the platform of a card. What runs, runs on
the CPU platform through the emulated driver: the kernels as they are, on no hardware.
"""

import functools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jda
from jda.ffi import ascend
from tests.npu import launches
from tests.support import cases, cxx, lowered, on_card, oracle
from tests.support.cases import FLOATS
from tests.support.emulated_books import FOLDER, EmulatedDriver
from tests.support.implementations import REQUIRE_CPU, ROOT, enable_x64
from tests.support.lowered import gradient

INPUTS = cases.case("two cameras")
CARDS = ("ascend", "ASCEND")
TARGETS = ("jda_ascend_forward", "jda_ascend_backward")


def operator(*inputs, **keywords):
    return jda.deformable_aggregation(*inputs, **keywords)


lower = functools.partial(lowered.lower, inputs=INPUTS)


def calls(text):
    """(target, types of the operands, types of the results) of our custom calls."""
    found = re.findall(r"custom_call @(jda\w+)\(.*\} : \((.*)\) -> (.*)", text)
    return [
        (target, *(re.findall(r"tensor<([^>]+)>", types) for types in (left, right)))
        for target, left, right in found
    ]


def type_of(array, dtype=None):
    words = {"float": "f", "int": "i", "bfloat": "bf"}
    word, bits = re.fullmatch(r"(\D+)(\d+)", dtype or array.dtype.name).groups()
    name = words[word] + bits
    return "".join(f"{size}x" for size in array.shape) + name


OPERANDS = [type_of(array) for array in INPUTS]
RESULT = type_of(np.empty((2, 5, 8), np.float32))
GRADIENTS = [OPERANDS[i] for i in FLOATS]
FORWARD = (TARGETS[0], OPERANDS, [RESULT])
COTANGENT = (TARGETS[1], [*OPERANDS, RESULT], GRADIENTS)


@pytest.mark.parametrize("platform", CARDS)
@pytest.mark.parametrize("name", [None, "ascend"])
@pytest.mark.parametrize("differentiation", ["reverse", "both"])
def test_one_call_each_way(platform, name, differentiation):
    keywords = {"implementation": name, "differentiation": differentiation}
    forward = lower(lambda *x: operator(*x, **keywords), platform)
    assert calls(forward) == [FORWARD]
    assert len(re.findall(r"stablehlo\.", forward)) == 1, "nothing but the call"
    both = lower(lambda *x: gradient(*x, **keywords), platform)
    assert calls(both) == [FORWARD, COTANGENT]


def test_a_linear_loss_needs_no_forward_call():
    linear = jax.grad(lambda *x: operator(*x).sum(), FLOATS)
    assert calls(lower(linear, "ascend")) == [COTANGENT]


@pytest.mark.parametrize("wanted", [(0,), (3,), (4,), (0, 4), (3, 4)])
def test_only_wanted_gradients_have_elements(wanted):
    text = lower(lambda *x: gradient(*x, wanted=wanted), "ascend")
    results = [OPERANDS[i] if i in wanted else "0xf32" for i in FLOATS]
    assert calls(text) == [FORWARD, (*COTANGENT[:2], results)]


@pytest.mark.parametrize(("order", "y_axis"), [("yx", 0), ("xy", 1)])
def test_the_coordinate_order_reaches_both_kernels(order, y_axis):
    text = lower(lambda *x: gradient(*x, coordinate_order=order), "ascend")
    assert text.count(f"y_axis = {y_axis} : i64") == 2


@pytest.mark.parametrize(("value", "flag"), [(None, 0), ("", 0), ("0", 0), ("1", 1)])
def test_determinism_is_asked_for_when_a_program_is_lowered(value, flag, monkeypatch):
    monkeypatch.delenv("JDA_ASCEND_DETERMINISTIC", raising=False)
    if value is not None:
        monkeypatch.setenv("JDA_ASCEND_DETERMINISTIC", value)
    text = lower(lambda *x: gradient(*x), "ascend")  # JAX remembers old functions
    assert text.count(f"deterministic = {flag} : i64") == 2


def test_determinism_by_another_word_is_refused(monkeypatch):
    """It would be off, and nobody would know."""
    monkeypatch.setenv("JDA_ASCEND_DETERMINISTIC", "true")
    message = "^JDA_ASCEND_DETERMINISTIC is 'true'; it may be '0' or '1'$"
    with pytest.raises(ValueError, match=message):
        lower(lambda *x: gradient(*x), "ascend")


@pytest.mark.parametrize("weights", [None, np.float32], ids=["narrow", "float32"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_not_converted(dtype, weights):
    narrow = cases.narrowed(INPUTS, dtype, weights)
    result = type_of(np.empty((2, 5, 8), dtype))
    forward = (TARGETS[0], [type_of(np.asarray(array)) for array in narrow], [result])
    text = lower(operator, "ascend", inputs=narrow)
    assert calls(text) == [forward]
    assert "stablehlo.convert" not in text
    text = lower(gradient, "ascend", inputs=narrow)
    grads = [type_of(np.asarray(narrow[i])) for i in (0, 3, 4)]
    assert calls(text) == [forward, (TARGETS[1], [*forward[1], result], grads)]


def test_float64_has_no_kernels():
    """Asked for by name they are refused; otherwise the reference serves."""
    with enable_x64():
        inputs = cases.case("two cameras", np.float64)
        text = lower(gradient, "ascend", inputs=inputs)
        assert calls(text) == [] and "stablehlo.gather" in text
        with pytest.raises(TypeError, match="dtype float64, implementation='ascend'"):
            lower(
                lambda *x: operator(*x, implementation="ascend"),
                "ascend",
                inputs=inputs,
            )


def test_a_mapped_axis_becomes_one_call():
    locations = jnp.stack([INPUTS.sample_locations] * 3)
    mapped = jax.vmap(operator, (None, None, None, 0, None))
    text = lower(mapped, "ascend", inputs=(*INPUTS[:3], locations, INPUTS.weight))
    ((target, operands, results),) = calls(text)
    assert target == TARGETS[0]
    assert operands[0] == OPERANDS[0], "shared feature maps are not copied"
    assert operands[3] == "2x15x3x2x2xf32" and results == ["2x15x8xf32"]


def test_an_exported_program_holds_the_calls():
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]
    exporter = export.export(
        jax.jit(gradient), platforms=("ascend",), disabled_checks=checks
    )
    exported = exporter(*map(jnp.asarray, INPUTS))
    assert exported.platforms == ("ascend",)
    assert calls(exported.mlir_module()) == [FORWARD, COTANGENT]


def test_one_program_for_cpu_and_card():
    text = lower(gradient, "cpu", "ascend")
    assert FORWARD in calls(text) and COTANGENT in calls(text)
    on_card = [target for target, *_ in calls(text) if target in TARGETS]
    assert on_card == list(TARGETS), "one call each, for the card alone"


@pytest.mark.parametrize("platforms", [("cuda",), ("tpu",), ("ascend", "rocm")])
def test_other_platforms_are_refused(platforms):
    message = "'ascend' serves the platforms ascend, ASCEND, cpu, but"
    for function in (operator, gradient):
        with pytest.raises(RuntimeError, match=message):
            lower(lambda *x, f=function: f(*x, implementation="ascend"), *platforms)


# What runs, through the emulated driver.


@pytest.fixture(scope="session")
def driver():
    found = jda.implementations()["ascend"]
    if not (found.available and "emulated" in found.detail):
        if REQUIRE_CPU:
            pytest.fail(f"JDA_REQUIRE_CPU=1, but no emulated driver: {found.detail}")
        pytest.skip(f"no emulated driver: {found.detail}")
    return EmulatedDriver()


@pytest.fixture
def books(driver):
    """The driver, which finds no broken rule, whatever the test does with it."""
    driver.reset()
    yield driver
    findings = driver.findings()
    driver.reset()
    assert not findings


on_emulation = pytest.mark.usefixtures("books")


@on_emulation
@pytest.mark.parametrize("name", cases.ON_A_CARD)
def test_zoo(name):
    on_card.check_zoo(name)


@on_emulation
@pytest.mark.parametrize("name", cases.BOTH_ORDERS)
def test_other_order(name):
    on_card.check_other_order(name)


def test_only_wanted_gradients_leave_the_card(books):
    inputs, judged = cases.case("rig"), cases.judged_case("rig")
    for position, right, scale in zip(
        FLOATS, judged.grads, judged.grad_scales, strict=True
    ):
        books.reset()
        call = on_card.program(wanted=(position,))
        _, (grad,) = jax.device_get(call(tuple(inputs), judged.cotangent))
        where = judged.settled if position == 3 else ...
        oracle.assert_within(grad[where], right[where], scale[where])
        home = [judged.out.size * 4, inputs[position].nbytes]
        assert books.copies("device") == home


@pytest.mark.parametrize("weights", [None, np.float32], ids=["narrow", "float32"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_rounded_once(dtype, weights, books):
    inputs, cotangent = cases.case("rig"), cases.judged_case("rig").cotangent
    narrow = cases.narrowed(inputs, dtype, weights)
    bar = jnp.asarray(cotangent, dtype)
    call = on_card.program()
    out, grads = jax.block_until_ready(call(tuple(narrow), bar))
    dtypes = [array.dtype for array in (out, *grads)]
    assert dtypes == [dtype, dtype, "float32", weights or dtype]
    wide = [jnp.asarray(array, jnp.float32) for array in (*narrow, bar)]
    wide[1:3] = narrow[1:3]
    sizes = [np.asarray(array).nbytes for array in (*narrow, bar)]
    assert books.copies("host") == [*sizes[:5], *sizes], "as they are"
    assert books.copies("device") == [sizes[5], sizes[0], sizes[3], sizes[4]]
    wide_out, wide_grads = call(tuple(wide[:5]), wide[5])
    for got, exact in zip((out, *grads), (wide_out, *wide_grads), strict=True):
        np.testing.assert_array_equal(got, exact.astype(got.dtype))


def test_a_mapped_axis_is_one_launch(books):
    inputs = cases.case("rig clustered")
    others = [cases.make(cases.ZOO["rig clustered"], seed) for seed in (1, 2, 3)]
    locations = jnp.stack([other.sample_locations for other in others])
    call = functools.partial(operator, implementation="ascend")
    mapped = jax.jit(jax.vmap(call, (None, None, None, 0, None)))
    out = jax.block_until_ready(mapped(*inputs[:3], locations, inputs.weight))
    (kernel,) = books.kernels()
    assert kernel.startswith("deformable_aggregation ")
    for got, other in zip(out, others, strict=True):
        judged = cases.judge(inputs._replace(sample_locations=other.sample_locations))
        oracle.assert_within(got, judged.out, judged.out_scale)


@on_emulation
def test_forward_mode_goes_through_the_reference():
    inputs = cases.case("one map")

    def derivative(name):
        keywords = {"implementation": name, "differentiation": "both"}
        call = functools.partial(operator, *inputs[:4], **keywords)
        return jax.jvp(call, (inputs.weight,), (jnp.ones_like(inputs.weight),))

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, derivative("ascend"), derivative("reference"))


@on_emulation
def test_threads():
    on_card.check_threads()


def test_determinism(books, monkeypatch):
    """Each run in another order of execution, which changes sums that atomics make."""
    on_card.check_determinism(monkeypatch, lambda i: books.set(seed=i))
    monkeypatch.setenv("JDA_ASCEND_DETERMINISTIC", "0")
    inputs, cotangent = cases.case("rig clustered"), np.ones((1, 9, 32), np.float32)
    call, features = on_card.program(wanted=(0,)), []
    for seed in range(4):
        books.set(seed=seed)
        features.append(np.asarray(call(tuple(inputs), cotangent)[1][0]))
    assert any((other != features[0]).any() for other in features[1:])


def test_training_takes_no_more_and_more_memory(books):
    kept = []
    on_card.check_training(100, after_step=lambda _: kept.append(books.live()))
    assert len(kept) == 100
    assert all(live == kept[1] for live in kept[2:])
    assert books.calls()["aclrtLaunchKernelWithHostArgs"] == 200


@on_emulation
def test_the_default_on_the_cpu_never_is_the_card(driver):
    inputs, judged = cases.case("rig"), cases.judged_case("rig")
    oracle.assert_within(operator(*inputs), judged.out, judged.out_scale)
    assert driver.trace() == ""


@on_emulation
def test_an_exported_program_runs():
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]
    call = functools.partial(operator, implementation="ascend")
    exporter = export.export(jax.jit(call), platforms=("cpu",), disabled_checks=checks)
    inputs, judged = cases.case("rig"), cases.judged_case("rig")
    out = exporter(*map(jnp.asarray, inputs)).call(*inputs)
    oracle.assert_within(out, judged.out, judged.out_scale)


# JAX raises the first when a program runs for the first time, the second later.
FAILED = (jax.errors.JaxRuntimeError, ValueError)


@pytest.fixture(scope="session")
def warm(driver):
    """A compiled program that has run, and what must come out of it."""
    inputs, judged = cases.case("two cameras"), cases.judged_case("two cameras")
    call = on_card.program()

    def run():
        return jax.device_get(call(tuple(inputs), judged.cotangent))

    def check():
        out, grads = run()
        oracle.assert_within(out, judged.out, judged.out_scale)
        cases.assert_gradients_within(grads, judged)

    check()
    return run, check


@pytest.mark.parametrize("first", [False, True])
def test_every_call_may_fail(first, books, warm):
    """It is told, the next program is right, and nothing more is kept than before."""
    run, check = warm

    def start():
        if first:  # as if nothing had run before: memory, streams and events are made
            assert ascend._load().jda_ascend_trim() == 0
        books.reset()

    assert ascend._load().jda_ascend_trim() == 0
    check()
    start()
    check()
    kept, calls = books.live(), books.calls()
    assert kept["streams"] == 1
    made = {"aclrtMalloc", "aclrtMallocHost", "aclrtCreateStream"}
    assert calls["aclrtMemcpyAsync"] > 10 and (made <= set(calls)) == first
    for untold in (
        "aclrtGetDevice",
        "aclrtFree",
    ):  # no card yet is fine; a lost release
        calls.pop(untold, None)
    for function, count in calls.items():
        for n in range(1, count + 1):
            start()
            books.fail(function, n, 107000)
            message = f"jda: {function} failed with code 107000: invalid parameter; the"
            with pytest.raises(FAILED, match=message):
                run()
            check()
            assert books.live() == kept, (function, n)
            assert not books.findings(), (function, n)


def test_a_card_without_memory(books, warm):
    _, check = warm
    check()
    books.set(memory=1 << 20)
    large = cases.make(cases.Shape((((64, 64),),), channels=128))
    with pytest.raises(
        FAILED,
        match=r"RESOURCE_EXHAUSTED: jda: aclrtMalloc failed with"
        r" code 207001: out of memory.*; asked for \d+ bytes where \d+ of"
        r" 1048576 are free",
    ):
        jax.block_until_ready(operator(*large, implementation="ascend"))
    check()


def test_maps_known_only_at_run_time_are_checked(books):
    inputs = cases.case("two cameras")
    bad = inputs._replace(scale_start_index=inputs.scale_start_index + 1000)
    programs = [
        jax.jit(functools.partial(function, implementation="ascend"))
        for function in (operator, gradient)
    ]
    for program in programs:
        with pytest.raises(
            FAILED,
            match=r"scale_start_index\[0, 0\] is .* ends at row \d+, .* num_feat",
        ):
            jax.block_until_ready(program(*map(jnp.asarray, bad)))
    assert not books.kernels()


def test_a_limit_of_the_kernels_is_named(books):
    many = cases.make(cases.Shape((((1, 1),),) * 1025, anchors=1, points=1))
    with pytest.raises(FAILED, match=r"cam \* scale=1025 on Ascend, .*at most 1024"):
        jax.block_until_ready(operator(*many, implementation="ascend"))
    assert not books.kernels()


NUMBER = "it may be a whole number from 0 to 2147483647"


def test_another_card(books, monkeypatch, warm):
    run, check = warm
    books.set(devices=3)
    monkeypatch.setenv("JDA_ASCEND_DEVICE", "2")
    check()
    assert "emulated card 2 is an" in jda.implementations()["ascend"].detail
    assert books.calls()["aclrtSetDevice"] >= 1
    for value, message in {
        "3": "there is no Ascend card 3; the last one is 2",
        "-1": f"JDA_ASCEND_DEVICE is '-1'; {NUMBER}",
        "two": f"JDA_ASCEND_DEVICE is 'two'; {NUMBER}",
        " 1": f"JDA_ASCEND_DEVICE is ' 1'; {NUMBER}",
        "2147483648": f"JDA_ASCEND_DEVICE is '2147483648'; {NUMBER}",
    }.items():
        monkeypatch.setenv("JDA_ASCEND_DEVICE", value)
        with pytest.raises(FAILED, match=message):
            run()
        found = jda.implementations()["ascend"]
        assert not found.available
        assert message in found.detail and "emulated driver" in found.detail


def test_the_emulation_never_looks_like_a_card(driver, warm):
    found = jda.implementations()["ascend"]
    assert found.available and found.platforms == (*CARDS, "cpu")
    runtime = re.escape(str(FOLDER / "libacl_rt.so"))
    compiler = re.escape(str(FOLDER / "libacl_rtc.so"))
    assert re.fullmatch(
        rf"emulated driver {runtime} and {compiler}, toolkit emulated\S+, emulated "
        r"card 0 is an Ascend910B1, 48 vector cores, kernels compiled "
        r"(by this process|before, from the cache)",
        found.detail,
    )


@on_emulation
def test_a_driver_that_cannot_be_described(monkeypatch):
    """No text, and bytes that are not UTF-8: it is not available, on one line."""
    launcher = ascend._load()

    class Silent:
        jda_ascend_open = launcher.jda_ascend_open
        jda_ascend_describe = staticmethod(lambda _: 13)
        jda_ascend_error = staticmethod(lambda: b"no memory \xff\n  on the host")

    monkeypatch.setattr(ascend, "_load", Silent)
    found = jda.implementations()["ascend"]
    assert (found.available, found.detail) == (False, "no memory \ufffd; on the host")


def test_a_problem_of_many_lines_is_told_on_one(books, monkeypatch):
    launcher = ascend._load()

    def describe(reference):
        code = launcher.jda_ascend_describe(reference)
        reference._obj.problem = b"the card is \xff\n  its log: ..."
        return code

    class Troubled:
        jda_ascend_open = launcher.jda_ascend_open
        jda_ascend_describe = staticmethod(describe)

    monkeypatch.setattr(ascend, "_load", Troubled)
    told = str(jda.implementations()["ascend"])
    assert "not available, the card is \ufffd; its log: ... (emulated driver" in told
    assert len(told.splitlines()) == 1


# In a process of its own: what decides when the library is first used.


def python(source, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SAY = """
    import jax, jda
    from tests import test_ascend_route as t
    def attempt(name):
        try:
            out = t.operator(*t.INPUTS, implementation=name)
            t.oracle.assert_within(out, *t.cases.judged_case("two cameras")[1:3])
            print(name, "is right")
        except Exception as error:
            print(type(error).__name__, error)
"""


def attempts(*names: str, **environment: str) -> list[str]:
    """What a process of its own says of a call of each of these implementations."""
    calls = "".join(f"\n    attempt({name!r})" for name in names)
    return python(SAY + calls, **environment).splitlines()


def test_without_cann(tmp_path):
    """Errors where it would run; lowering for a card, and the CPU, are as ever."""
    told = python(
        SAY
        + """
    print(jda.implementations()["ascend"])
    print(jda.implementations()["ascend"].searched)
    attempt("ascend")
    attempt("cpu")
    assert t.calls(t.lower(t.gradient, "ascend")) == [t.FORWARD, t.COTANGENT]
    """,
        JDA_ASCEND_DRIVER=str(tmp_path),
    )
    missing = "CANN's runtime was not found (source its set_env.sh)"
    paths = f"{tmp_path}/libacl_rt.so, {tmp_path}/libascendcl.so"
    tried = f"{paths}: cannot open shared object file: No such file or directory"
    assert told.splitlines() == [
        f"ascend (ascend, ASCEND, cpu): not available, {missing}",
        str((tried,)),
        f"RuntimeError implementation='ascend' is not available: {missing}; tried",
        f"  {tried}",
        "cpu is right",
    ]


def test_a_person_without_cann_reads_short_lines(tmp_path):
    """Who asks is told which paths were tried."""
    told = python(
        """
    import jda
    found = jda.implementations()
    print(found)
    print(repr(found["ascend"]))
    """,
        JDA_ASCEND_DRIVER=str(tmp_path),
    ).splitlines()
    assert [line.split()[0] for line in told[:3]] == ["reference", "cpu", "ascend"]
    assert len(told) == 4
    assert not any(str(tmp_path) in line or "cannot open" in line for line in told)


def test_a_driver_of_an_unknown_word():
    told = python(
        SAY
        + """
    print(jda.implementations()["ascend"].detail)
    attempt("ascend")
    attempt("cpu")
    assert t.calls(t.lower(t.gradient, "ascend")) == [t.FORWARD, t.COTANGENT]
    """,
        JDA_ASCEND_DRIVER="emulate",
    ).splitlines()
    assert told[0] == (
        "JDA_ASCEND_DRIVER is 'emulate'; it may be a folder that holds libacl_rt.so "
        "or, where jda is built for development, 'emulated'"
    )
    assert told[1] == (
        f"RuntimeError implementation='ascend' is not available: {told[0]}"
    )
    assert told[2] == "cpu is right"


@pytest.mark.usefixtures("driver")
def test_a_path_that_is_not_utf8(tmp_path):
    """The driver is found there, and the loader's messages about it can be read."""
    folder = os.fsencode(tmp_path) + b"/\xe4"
    (tmp_path / os.fsdecode(b"\xe4")).symlink_to(FOLDER)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / os.fsdecode(b"\xe4")).mkdir()
    empty = os.fsencode(tmp_path) + b"/empty/\xe4"
    wrong = folder + b"/x"
    for path, start in (
        (folder, "available, "),
        (empty, "not available, "),
        (wrong, "not available, "),
    ):
        told = python(
            """
        import jda
        found = jda.implementations()["ascend"]
        print(f"{found} {found.searched}".encode("ascii", "replace").decode())
        """,
            JDA_ASCEND_DRIVER=os.fsdecode(path),
        )
        assert told.startswith(f"ascend (ascend, ASCEND, cpu): {start}"), told
        assert "/?/" in told and len(told.splitlines()) == 1


@pytest.mark.usefixtures("driver")
def test_without_a_card():
    told = attempts("ascend", "cpu", JDA_EMULATED="devices=0")
    assert told[0].startswith("RuntimeError implementation='ascend' is not available: ")
    assert "there is no Ascend card (emulated driver" in told[0]
    assert told[1] == "cpu is right"


@pytest.mark.usefixtures("driver")
def test_after_a_kernel_fault_the_process_lives():
    told = attempts("ascend", "ascend", "cpu", JDA_EMULATED_FAIL="kernel:1:507035")
    assert "failed with code 507035: the kernel failed on a vector core" in told[0]
    assert "deformable_aggregation" in told[0]
    assert "507035" in told[1], "the card is lost for this process"
    assert told[-1] == "cpu is right"


def test_kernels_are_compiled_once_for_all_processes(warm):
    told = python(
        SAY
        + """
    print(jda.implementations()["ascend"].detail)
    attempt("ascend")
    print(jda.implementations()["ascend"].detail)
    """
    ).splitlines()
    assert told[0].endswith("kernels not compiled yet")
    assert told[1] == "ascend is right"
    assert told[2].endswith("kernels compiled before, from the cache")


@pytest.mark.usefixtures("driver")
def test_a_kernel_file_that_is_none(tmp_path):
    path = tmp_path / "kernels.o"
    path.write_text("no kernels")
    told = python(
        SAY
        + """
    print(jda.implementations()["ascend"])
    attempt("ascend")
    """,
        JDA_ASCEND_KERNELS=str(path),
    )
    assert f"kernels to be loaded from {path}" in told
    assert "RuntimeError INTERNAL: jda: " in told
    assert f"the kernels of JDA_ASCEND_KERNELS={path} do not load" in told


@pytest.mark.usefixtures("driver")
def test_a_toolkit_that_cannot_compile(tmp_path):
    (tmp_path / "libacl_rt.so").symlink_to(FOLDER / "libacl_rt.so")
    told = python(
        SAY
        + """
    attempt("ascend")
    attempt("cpu")
    """,
        JDA_ASCEND_DRIVER=str(tmp_path),
    )
    message = "RuntimeError implementation='ascend' is not available: this CANN cannot"
    assert told.startswith(f"{message} compile kernels at run time, and JDA_ASCEND_KER")
    assert "emulated driver" in told and "cpu is right" in told


# The comparison with another implementation on the same card, exercised without one.


@pytest.mark.parametrize(
    "wrong", [None, "order of the locations", "order of a gradient"]
)
def test_the_judge_of_a_comparison_notices_a_wrong_order(wrong):
    inputs = cases.swap_order(cases.case("rig"))
    judged = cases.judge(inputs, "xy")
    order = "yx" if wrong == "order of the locations" else "xy"
    arrays = [np.asarray(array) for array in inputs]
    out = oracle.forward(arrays, order)
    grads = list(oracle.gradients(arrays, judged.cotangent, order))
    if wrong == "order of a gradient":
        grads[1] = grads[1][..., ::-1]
    theirs = (out, grads)
    found = on_card.errors(theirs, judged)
    assert (max(found.values()) <= 1) == (wrong is None), found
    apart = on_card.disagreement((judged.out, list(judged.grads)), theirs)
    assert (max(apart.values()) < 1e-4) == (wrong is None), apart


def test_kernels_on_arrays_that_are_on_the_card(books):
    """What the comparison takes its times of: launches without JAX and copies."""
    books.reset()
    inputs = cases.swap_order(cases.case("rig"))
    judged = cases.judge(inputs, "xy")
    results = [
        np.zeros_like(a) for a in (judged.cotangent, *(inputs[i] for i in FLOATS))
    ]
    arrays = [*inputs, judged.cotangent, *results]
    with books.memory(arrays) as (pointers, stream, fetch):
        named = dict(zip(launches.ARRAYS, pointers, strict=True))
        launches.enqueue(inputs, named, stream)
        out, *grads = fetch()[6:]
    assert max(on_card.errors((out, grads), judged).values()) <= 1


def test_the_kernels_are_built_ahead_from_the_same_source(tmp_path):
    """With a stand-in for CANN's CMake functions, which copies what they compile."""
    root = Path(__file__).parents[1]
    functions = tmp_path / "cann" / "compiler" / "tikcpp" / "ascendc_kernel_cmake"
    functions.mkdir(parents=True)
    (functions / "ascendc.cmake").write_text(
        """
        function(ascendc_fatbin_library name source)
          set(target ${CMAKE_INSTALL_PREFIX}/${name}-${SOC_VERSION}-${RUN_MODE})
          file(COPY_FILE ${source} ${target})
        endfunction()
        function(ascendc_compile_definitions name)
          file(WRITE ${CMAKE_INSTALL_PREFIX}/${name}-definitions "${ARGN}")
        endfunction()
        """
    )
    kernels, folder = root / "csrc" / "ascend", tmp_path / "build"
    command = [cxx.tool("cmake"), "-S", kernels, "-B", folder]
    environment = os.environ | {"ASCEND_HOME_PATH": str(tmp_path / "cann")}
    for options, rc in ([], 1), (["-DSOC_VERSION=Ascend910B3"], 0):
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True
        )
        assert done.returncode == rc, done.stderr
    built = (tmp_path / "build" / "jda_kernels-Ascend910B3-npu").read_text()
    source = "csrc/ascend/launcher/kernels.cpp"
    flatten = [sys.executable, "csrc/ascend/flatten.py", source]
    assert built == subprocess.check_output(flatten, cwd=root, text=True)
    definitions = (tmp_path / "build" / "jda_kernels-definitions").read_text()
    assert definitions == "PRIVATE;ASCENDC_DUMP=0;JDA_PROJECT_BUILD"
