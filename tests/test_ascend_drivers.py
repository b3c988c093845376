"""The promise: drivers of all kinds, each opened by a process of its own.

On the emulated driver, and on no hardware. A test that takes a launcher of its own sees
what a new process would: no card and no kernel is known yet.
"""

import subprocess
from pathlib import Path

import pytest

from tests.launcher.calls import FAILED_PRECONDITION, INTERNAL, Call
from tests.support import cases
from tests.support.launched import DRIVER, output, require_driver, start, succeed

require_driver()


def driver_without(folder: Path, *functions: str, name: str = "libacl_rt.so") -> Path:
    """A driver that lacks functions."""
    folder.mkdir()
    library = (DRIVER / "libacl_rt.so").read_bytes()
    for function in functions:
        exported = function.encode() + b"\0"
        assert exported in library
        library = library.replace(exported, exported[:-2] + b"X\0")
    (folder / name).write_bytes(library)
    return folder


def test_an_old_toolkit(compiled, tmp_path):
    """No compiler: kernels built ahead. No count of cores: what the name tells."""
    driver = driver_without(
        tmp_path / "lib64",
        "aclrtBinaryLoadFromData",
        "aclrtLaunchKernelWithArgsArray",
        "aclrtGetDeviceInfo",
        "aclrtGetDeviceResLimit",
        name="libascendcl.so",
    )
    kernels = tmp_path / "kernels.o"
    kernels.write_bytes(compiled)
    source = """
    before = one.describe()
    print(before.compiler, before.cores, attempt(), one.describe().text("kernels"))
    """
    told = output(start(source, tmp_path, driver, JDA_ASCEND_KERNELS=str(kernels)))
    assert told == [f"None 48 right {kernels}"]
    lines = output(start("print(attempt())", tmp_path, driver, JDA_ASCEND_KERNELS=""))
    assert lines[0] == (
        f"{FAILED_PRECONDITION} no kernels: JDA_ASCEND_KERNELS names no file that was "
        "built ahead, and this CANN cannot compile kernels at run time; tried"
    )
    assert lines[1].startswith(f"  {driver}/libacl_rtc.so: cannot open")


LAUNCHES = ("aclrtLaunchKernelWithHostArgs", "aclrtLaunchKernelWithArgsArray")
UNDESCRIBED = f"{INTERNAL} {LAUNCHES[1]} failed with code 107000: invalid parameter"


@pytest.mark.parametrize("described", [0, 1])
@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ((), ("right", "right")),
        (LAUNCHES[1:], ("right", "right")),
        (LAUNCHES[:1], (UNDESCRIBED, "right")),
        (LAUNCHES, (f"{FAILED_PRECONDITION} no driver for Ascend cards is open",) * 2),
    ],
)
def test_kernels_are_launched_by_what_there_is(
    missing, told, described, compiled, tmp_path
):
    """Only one of the two functions wants kernels that describe their parameters."""
    kernels = tmp_path / "kernels.o"
    kernels.write_bytes(compiled)
    line, *_ = output(
        start(
            "print(attempt()); print(one.error())",
            tmp_path / "x",
            driver_without(tmp_path / "lib64", *missing),
            JDA_ASCEND_KERNELS=str(kernels),
            JDA_EMULATED=f"kernel_parameters={described}",
        )
    )
    assert line.startswith(told[described])
    if told[described] == UNDESCRIBED:
        assert line.endswith("the kernel does not have parameter information")


def test_kernels_built_ahead_need_not_say_what_they_are(
    compiled, launcher, books, tmp_path, monkeypatch
):
    """Neither which cores they are for nor what their parameters are."""
    kernels = tmp_path / "kernels.o"
    kernels.write_bytes(compiled)
    monkeypatch.setenv("JDA_ASCEND_KERNELS", str(kernels))
    one = launcher()
    succeed(one)
    assert one.describe().text("kernels") == str(kernels)
    assert not books.findings()
    for path in (tmp_path / "none", tmp_path):
        monkeypatch.setenv("JDA_ASCEND_KERNELS", str(path))
        one = launcher()
        assert one.compute(Call(cases.case("one map"))) == FAILED_PRECONDITION
        assert one.error() == (
            f"the kernels of JDA_ASCEND_KERNELS={path} do not load: "
            "there is no such file, or it is empty"
        )


def test_a_library_that_lacks_functions(tmp_path):
    lib64 = tmp_path / "lib64"
    lib64.mkdir()
    source = tmp_path / "empty.c"
    source.write_text("int aclInit(const char* config) { return 0; }\n")
    library = lib64 / "libacl_rt.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    told = output(start("print(one.opened, one.error())", tmp_path, lib64))
    assert told[0].startswith(f"{FAILED_PRECONDITION} CANN's runtime was not found")
    assert told[1].startswith(f"  {library}: lacks aclrtSetDevice, aclrtGetDevice, ")


@pytest.mark.parametrize("variable", ["ASCEND_HOME_PATH", "LD_LIBRARY_PATH"])
def test_the_driver_is_found_as_the_environment_says(variable, tmp_path):
    (tmp_path / "lib64").symlink_to(DRIVER)
    value = tmp_path / "lib64" if variable == "LD_LIBRARY_PATH" else tmp_path
    source = """
    found = one.describe()
    print(one.opened, found.text("runtime"), found.text("compiler"), attempt())
    """
    told = output(start(source, tmp_path / "x", "", **{variable: str(value)}))
    runtime, compiler = (tmp_path / "lib64" / f"libacl_{x}.so" for x in ("rt", "rtc"))
    assert told == [f"0 {runtime} {compiler} right"]


def test_one_driver_in_a_process(tmp_path):
    source = f"""
    for folder in ({str(DRIVER)!r}, "/elsewhere", ""):
        print(one.library.jda_ascend_open(folder.encode()), one.error())
    print(attempt())
    """
    told = output(start(source, tmp_path))
    taken = f"{FAILED_PRECONDITION} the driver of {DRIVER}/libacl_rt.so is open"
    assert told[0] == "0 " and told[3] == "right"
    assert told[1].startswith(taken) and told[2].startswith(taken)


def test_a_forked_process_is_told(tmp_path):
    source = """
    import os
    print(attempt(), flush=True)
    if os.fork() == 0:
        print(attempt(), flush=True)
        os._exit(0)
    os.wait()
    print(attempt())
    """
    told = output(start(source, tmp_path))
    forked = f"{FAILED_PRECONDITION} this process was forked after its parent had used"
    assert told[0] == told[2] == "right"
    assert told[1].startswith(forked)


def test_after_a_fault_on_the_card_memory_is_not_lost(tmp_path):
    """The error comes to who waits; what the launcher holds does not grow."""
    source = f"""
    from tests.support.emulated_books import EmulatedDriver
    driver, runtime = EmulatedDriver(), Runtime(Path({str(DRIVER)!r}))
    on_card = OnCard(runtime, call)
    stream = runtime.stream()
    driver.fail("kernel", 1, 507035)
    print(one.enqueue(call, on_card, stream), one.error())
    print(runtime.library.aclrtSynchronizeStream(ctypes.c_void_p(stream)))
    kept = []
    for _ in range(3):
        print(one.enqueue(call, on_card, stream), one.error())
        kept.append(driver.live()["device"])
    print(kept[0] >= kept[-1])
    """
    told = output(start(source, tmp_path))
    assert told[0] == "0 "
    assert told[1] == "507035"
    for line in told[2:-1]:
        assert line.startswith(f"{INTERNAL} aclrt") and "507035" in line
    assert told[-1] == "True"
