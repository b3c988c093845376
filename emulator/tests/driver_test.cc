// The emulated driver: what its calls answer, what it finds, and its controls.

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "../driver/acl.h"
#include "../driver/controls.h"
#include "../driver/kernel.h"
#include "test.h"

namespace {

constexpr size_t kCount = 256, kBytes = kCount * sizeof(float);

const char kKernels[] = R"(
#include "kernel_operator.h"
using namespace AscendC;

struct Tiling {
  int64_t count;
  float term;
  int32_t unused;
};

/* extern "C" __global__ void not_a_kernel(GM_ADDR) */
extern "C" __global__ __aicore__ void increment(GM_ADDR in, GM_ADDR out, Tiling tiling) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 4096);
  LocalTensor<float> x = buffer.Get<float>();
  GlobalTensor<float> source, target;
  source.SetGlobalBuffer((__gm__ float*)in);
  target.SetGlobalBuffer((__gm__ float*)out);
  DataCopy(x, source, tiling.count);
  SetFlag<HardEvent::MTE2_V>(0);
  WaitFlag<HardEvent::MTE2_V>(0);
  Adds(x, x, tiling.term, tiling.count);
  SetFlag<HardEvent::V_MTE3>(0);
  WaitFlag<HardEvent::V_MTE3>(0);
  DataCopy(target, x, tiling.count);
}

extern "C" __global__ __aicore__ void count_blocks(GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 4096);
  LocalTensor<float> x = buffer.Get<float>();
  GlobalTensor<float> target;
  target.SetGlobalBuffer((__gm__ float*)out);
  Duplicate(x, 1.0f, 8);
  SetFlag<HardEvent::V_MTE3>(0);
  WaitFlag<HardEvent::V_MTE3>(0);
  SetAtomicAdd<float>();
  DataCopy(target, x, 8);
  SetAtomicNone();
}

// By a macro, of which there may be several forms.
#ifdef NOT_HERE
#define A_KERNEL extern "C" \
    __global__ __aicore__
#define SAYS(what) nothing(what)
#else
#define A_KERNEL extern "C" __global__
#define SAYS(what)
#endif

A_KERNEL void meet(GM_ADDR counters) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 4096);
  GlobalTensor<int32_t> zeros;
  zeros.SetGlobalBuffer((__gm__ int32_t*)counters);
  SyncAll(zeros, buffer.Get<int32_t>());
}

extern "C" __global__
__aicore__ void fails (int32_t how) {
  TPipe pipe;
  if (how == 0) WaitFlag<HardEvent::MTE2_V>(0);
  if (how == 1) ascendc_assert(how == 0);
}
)";

void* const kNone = nullptr;

std::string findings() { return jda_emulated_findings(); }
bool clean() { return jda_emulated_finding_count() == 0; }
bool found(const std::string& rule) {
  return ("\n" + findings()).find("\n" + rule + ": ") != std::string::npos;
}

// The kernels, compiled once for all tests.
const std::string& binary() {
  static const std::string data = [] {
    aclrtcProg program = nullptr;
    const char* options[] = {"--npu-arch=dav-2201", "--cce-auto-sync=off"};
    CHECK(aclrtcCreateProg(&program, kKernels, "kernels.asc", 0, nullptr, nullptr) == 0);
    CHECK(aclrtcCompileProg(program, 2, options) == 0);
    size_t bytes = 0;
    CHECK(aclrtcGetCompileLogSize(program, &bytes) == 0);
    std::string log(bytes, ' ');
    CHECK(aclrtcGetCompileLog(program, log.data()) == 0);
    if (bytes > 1) std::puts(log.c_str());
    CHECK(aclrtcGetBinDataSize(program, &bytes) == 0);
    std::string made(bytes, ' ');
    CHECK(aclrtcGetBinData(program, made.data()) == 0);
    CHECK(jda_emulated_live("programs") == 1);
    CHECK(aclrtcDestroyProg(&program) == 0 && program == nullptr);
    CHECK(jda_emulated_live("programs") == 0);
    return made;
  }();
  return data;
}

// Loads the kernels with a magic; 0: with none. Null: they are refused.
aclrtBinHandle load(uint32_t magic = ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE) {
  aclrtBinaryLoadOption option = {};
  option.type = ACL_RT_BINARY_LOAD_OPT_MAGIC;
  option.value.magic = magic;
  const aclrtBinaryLoadOptions options = {&option, 1};
  aclrtBinHandle loaded = nullptr;
  aclrtBinaryLoadFromData(binary().data(), binary().size(), magic ? &options : nullptr, &loaded);
  return loaded;
}

struct Tiling {
  int64_t count = kCount;
  float term = 1.5f;
  int32_t unused = 0;
};

aclrtEvent event(uint32_t flags = ACL_EVENT_SYNC) {
  aclrtEvent made = nullptr;
  CHECK(aclrtCreateEventExWithFlag(&made, flags) == 0);
  return made;
}

// Device 0 with a stream; afterwards a device as if new.
struct Card {
  aclrtStream stream = nullptr;
  explicit Card(int64_t workers = 0) {
    jda_emulated_reset();
    CHECK(jda_emulated_set("workers", workers));
    aclInit(nullptr);
    CHECK(aclrtSetDevice(0) == 0);
    CHECK(aclrtCreateStream(&stream) == 0);
  }
  ~Card() {
    CHECK(aclrtResetDevice(0) == 0);
    for (const char* what : {"device", "device_bytes", "streams", "events", "binaries"}) {
      CHECK(jda_emulated_live(what) == 0);
    }
  }
  float* device(size_t bytes = kBytes) {
    void* memory = nullptr;
    CHECK(aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST) == 0);
    return static_cast<float*>(memory);
  }
  aclrtFuncHandle kernel(const char* name) {
    if (!loaded_) {
      jda_emulated_set("kernel_parameters", 1);
      loaded_ = load();
    }
    aclrtFuncHandle function = nullptr;
    CHECK(aclrtBinaryGetFunction(loaded_, name, &function) == 0);
    return function;
  }
  aclError up(void* to, const void* from, size_t bytes = kBytes) {
    return aclrtMemcpyAsync(to, bytes, from, bytes, ACL_MEMCPY_HOST_TO_DEVICE, stream);
  }
  aclError down(void* to, const void* from, size_t bytes = kBytes) {
    return aclrtMemcpyAsync(to, bytes, from, bytes, ACL_MEMCPY_DEVICE_TO_HOST, stream);
  }
  // An event behind a copy to the card.
  aclrtEvent copied(void* to, const void* from) {
    const aclrtEvent behind = event();
    CHECK(up(to, from) == 0 && aclrtRecordEvent(behind, stream) == 0);
    return behind;
  }
  aclError increment(void* in, void* out, Tiling tiling = {}, uint32_t blocks = 1) {
    void* arguments[] = {&in, &out, &tiling};
    return aclrtLaunchKernelWithArgsArray(kernel("increment"), blocks, stream, nullptr, arguments);
  }
  aclError fails(int32_t how) {
    void* arguments[] = {&how};
    return aclrtLaunchKernelWithArgsArray(kernel("fails"), 1, stream, nullptr, arguments);
  }
  aclError synchronise() { return aclrtSynchronizeStream(stream); }
  aclrtBinHandle loaded() const { return loaded_; }

 private:
  aclrtBinHandle loaded_ = nullptr;
};

// Pinned memory that holds 0, 1, 2, ...
struct Pinned {
  float* data = nullptr;
  Pinned() {
    void* memory = nullptr;
    CHECK(aclrtMallocHost(&memory, kBytes) == 0);
    data = static_cast<float*>(memory);
    for (size_t i = 0; i < kCount; ++i) data[i] = i;
  }
  ~Pinned() {
    if (data) CHECK(aclrtFreeHost(data) == 0);
  }
};

aclrtStream stream() {
  aclrtStream made = nullptr;
  CHECK(aclrtCreateStream(&made) == 0);
  return made;
}

bool dies_of_reading(const void* at) {
  const pid_t child = fork();
  if (child == 0) _exit(*static_cast<const volatile char*>(at) & 0);
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0;
}

// ---- devices and threads

TEST(calls_before_initialisation) {
  uint32_t count = 0;
  CHECK(aclrtGetDeviceCount(&count) == ACL_ERROR_UNINITIALIZE && found("not-initialised"));
  CHECK(aclrtSetDevice(0) == ACL_ERROR_UNINITIALIZE);
  CHECK(aclInit(nullptr) == 0 && aclrtGetDeviceCount(&count) == 0 && count == 1);
}

TEST(initialisation) {
  Card card;
  CHECK(aclInit(nullptr) == ACL_ERROR_REPEAT_INITIALIZE);
  CHECK(std::string(jda_emulated_driver()).find("emulated") == 0);
  aclCANNPackageVersion version;
  CHECK(aclsysGetCANNVersion(ACL_PKG_NAME_CANN, &version) == 0);
  CHECK(std::string(version.version).find("emulated-") == 0);
}

TEST(errors_are_told_to_their_thread_once) {
  Card card;
  aclGetRecentErrMsg();
  CHECK(aclGetRecentErrMsg() == nullptr);
  CHECK(aclrtFree(nullptr) == ACL_ERROR_INVALID_PARAM);
  std::thread([] { CHECK(aclGetRecentErrMsg() == nullptr); }).join();
  const char* text = aclGetRecentErrMsg();
  CHECK(text && std::strstr(text, "aclrtFree") && std::strstr(text, "100000"));
  CHECK(aclGetRecentErrMsg() == nullptr);
}

TEST(every_thread_chooses_its_device) {
  Card card;
  jda_emulated_set("devices", 2);
  float* here = card.device();
  std::thread([&] {
    int32_t id = -1;
    void* memory;
    CHECK(aclrtGetDevice(&id) == ACL_ERROR_RT_CONTEXT_NULL);
    CHECK(aclrtMalloc(&memory, 64, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_ERROR_RT_CONTEXT_NULL);
    CHECK(aclrtSetDevice(2) == ACL_ERROR_RT_INVALID_DEVICEID);
    CHECK(aclrtSetDevice(1) == 0 && aclrtGetDevice(&id) == 0 && id == 1);
    CHECK(card.synchronise() == ACL_ERROR_RT_STREAM_CONTEXT);
    CHECK(aclrtMemsetAsync(here, kBytes, 0, kBytes, nullptr) == ACL_ERROR_RT_PARAM_INVALID);
    CHECK(found("copy-bounds"));
    CHECK(aclrtResetDevice(1) == 0);
    CHECK(aclrtGetDevice(&id) == ACL_ERROR_RT_CONTEXT_NULL);
  }).join();
  int32_t id = -1;
  CHECK(aclrtGetDevice(&id) == 0 && id == 0);
  jda_emulated_set("devices", 0);
  uint32_t count = 1;
  CHECK(aclrtGetDeviceCount(&count) == 0 && count == 0);
  CHECK(aclrtSetDevice(0) == ACL_ERROR_RT_NO_DEVICE);
  CHECK(aclrtGetSocName() == nullptr);
  jda_emulated_set("devices", 1);
}

TEST(what_a_device_is) {
  Card card;
  int64_t cores = 0;
  CHECK(aclrtGetDeviceInfo(0, ACL_DEV_ATTR_VECTOR_CORE_NUM, &cores) == 0 && cores == 48);
  CHECK(!std::strcmp(aclrtGetSocName(), "Ascend910B1"));
  jda_emulated_set("cores", 8);
  jda_emulated_set_soc("Ascend910B4");
  CHECK(aclrtGetDeviceInfo(0, ACL_DEV_ATTR_VECTOR_CORE_NUM, &cores) == 0 && cores == 8);
  CHECK(!std::strcmp(aclrtGetSocName(), "Ascend910B4"));
  CHECK(jda_emulated_set("no such number", 1) == 0);
}

// ---- memory

TEST(device_memory) {
  Card card;
  void* none = nullptr;
  CHECK(aclrtMalloc(&none, 0, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_ERROR_INVALID_PARAM);
  CHECK(aclrtMalloc(nullptr, 1, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_ERROR_INVALID_PARAM);
  CHECK(aclrtFree(nullptr) == ACL_ERROR_INVALID_PARAM);
  size_t before = 0, after = 0, total = 0;
  CHECK(aclrtGetMemInfo(ACL_HBM_MEM, &before, &total) == 0 && before == total);
  float* memory = card.device(100);
  CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0);
  CHECK(aclrtGetMemInfo(ACL_HBM_MEM, &after, &total) == 0 && before - after == 160);
  CHECK(jda_emulated_live("device") == 1 && jda_emulated_live("device_bytes") == 160);
  CHECK(dies_of_reading(memory));
  CHECK(clean());
  CHECK(aclrtFree(memory) == 0);
  CHECK(aclrtGetMemInfo(ACL_HBM_MEM, &after, &total) == 0 && after == total);
  CHECK(jda_emulated_live("device_peak") == 160);
  CHECK(clean());
  CHECK(aclrtFree(memory) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(found("free-unknown"));
}

TEST(device_memory_ends) {
  Card card;
  jda_emulated_set("memory", 1000);
  void* memory = nullptr;
  CHECK(aclrtMalloc(&memory, 1000, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_ERROR_RT_MEMORY_ALLOCATION);
  float* first = card.device(600);
  CHECK(aclrtMalloc(&memory, 600, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_ERROR_RT_MEMORY_ALLOCATION);
  CHECK(aclrtFree(first) == 0);
  card.device(600);
  CHECK(clean());
}

// Bytes of this process that are in memory.
size_t resident() {
  size_t total = 0, pages = 0;
  std::ifstream("/proc/self/statm") >> total >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

TEST(freed_device_memory_goes_back_to_the_host) {
  Card card;
  const size_t bytes = 16 << 20, before = resident();
  for (int i = 0; i < 16; ++i) {
    void* memory = nullptr;
    CHECK(aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST) == 0);
    CHECK(aclrtFree(memory) == 0);
  }
  CHECK(resident() < before + 4 * bytes);
}

TEST(pinned_memory) {
  Card card;
  void* memory = nullptr;
  CHECK(aclrtMallocHost(&memory, 0) == ACL_ERROR_INVALID_PARAM);
  CHECK(aclrtMallocHost(&memory, 100) == 0);
  CHECK(jda_emulated_live("pinned") == 1 && jda_emulated_live("pinned_bytes") == 100);
  CHECK(std::isnan(*static_cast<float*>(memory)));
  CHECK(aclrtFreeHost(memory) == 0 && jda_emulated_live("pinned") == 0);
  CHECK(aclrtFreeHost(nullptr) == ACL_ERROR_INVALID_PARAM);
  CHECK(clean());
  CHECK(aclrtFreeHost(memory) == ACL_ERROR_RT_PARAM_INVALID && found("free-unknown"));
}

// ---- copies

TEST(copies_come_late) {
  Card card;
  Pinned from, to;
  float* memory = card.device();
  CHECK(card.up(memory, from.data) == 0);
  CHECK(card.down(to.data, memory) == 0);
  CHECK(std::isnan(to.data[7]));
  CHECK(card.synchronise() == 0);
  CHECK(to.data[7] == 7 && to.data[255] == 255);
  from.data[7] = 0;
  CHECK(aclrtFree(memory) == 0);
  CHECK(clean());
}

TEST(the_source_is_left_alone) {
  Card card;
  Pinned from, to;
  float* memory = card.device();
  CHECK(card.up(memory, from.data) == 0);
  from.data[7] = 70;
  CHECK(clean());
  CHECK(card.down(to.data, memory) == 0 && card.synchronise() == 0);
  CHECK(to.data[7] == 70 && found("source-changed"));
}

TEST(the_destination_is_left_alone) {
  Card card;
  Pinned from, to;
  float* memory = card.device();
  CHECK(card.up(memory, from.data) == 0 && card.down(to.data, memory) == 0);
  to.data[7] = 70;
  CHECK(card.synchronise() == 0);
  CHECK(to.data[7] == 7 && found("destination-changed"));
}

TEST(a_stream_may_reuse_host_memory) {
  Card card;
  Pinned from;
  float *a = card.device(), *b = card.device(), *c = card.device();
  CHECK(card.up(a, from.data) == 0 && card.increment(a, b) == 0);
  CHECK(card.down(from.data, b) == 0 && card.up(c, from.data) == 0);
  CHECK(card.down(from.data, c) == 0 && card.synchronise() == 0);
  CHECK(from.data[7] == 8.5f && clean());
}

TEST(memory_that_is_not_pinned_is_copied_at_once) {
  Card card;
  std::vector<float> from(kCount, 3), to(kCount);
  float* memory = card.device();
  CHECK(card.up(memory, from.data()) == 0);
  from[0] = 4;
  CHECK(card.down(to.data(), memory) == 0);
  CHECK(to[0] == 3 && clean());
}

TEST(bad_copies) {
  Card card;
  Pinned host;
  std::vector<float> other(kCount);
  float* memory = card.device();
  const auto copy = [&](void* to, size_t to_bytes, const void* from, size_t bytes, int kind) {
    return aclrtMemcpyAsync(to, to_bytes, from, bytes, static_cast<aclrtMemcpyKind>(kind),
                            card.stream);
  };
  CHECK(copy(nullptr, 0, nullptr, 0, 1) == 0);
  CHECK(copy(memory, kBytes, nullptr, kBytes, 1) == ACL_ERROR_INVALID_PARAM);
  CHECK(copy(memory, kBytes, host.data, kBytes, 7) == ACL_ERROR_INVALID_PARAM);
  CHECK(copy(memory, kBytes - 1, host.data, kBytes, 1) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(copy(other.data(), kBytes, host.data, kBytes, 0) == ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
  CHECK(copy(other.data(), kBytes, host.data, kBytes, 4) == ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
  CHECK(copy(memory, kBytes, host.data, kBytes, 4) == 0 && card.synchronise() == 0);
  CHECK(clean());
  CHECK(copy(memory, kBytes, host.data, kBytes, 2) == ACL_ERROR_RT_PARAM_INVALID &&
        found("copy-kind"));
  CHECK(copy(memory + 1, kBytes, host.data, kBytes, 1) == ACL_ERROR_RT_PARAM_INVALID &&
        found("copy-bounds"));
}

TEST(copies_within_a_device) {
  Card card;
  Pinned host;
  float *a = card.device(), *b = card.device();
  const auto within = [&](float* to, float* from, size_t bytes) {
    return aclrtMemcpyAsync(to, bytes, from, bytes, ACL_MEMCPY_DEVICE_TO_DEVICE, card.stream);
  };
  CHECK(card.up(a, host.data) == 0 && within(b, a, kBytes) == 0);
  CHECK(card.down(host.data, b) == 0 && card.synchronise() == 0);
  CHECK(host.data[9] == 9 && clean());
  CHECK(within(b, a + 8, 64) == 0 && found("copy-alignment"));
}

TEST(bytes_that_nothing_wrote) {
  Card card;
  Pinned host;
  float* memory = card.device();
  CHECK(aclrtMemsetAsync(memory, kBytes, 0, kBytes - 4, card.stream) == 0);
  CHECK(card.down(host.data, memory, kBytes - 4) == 0 && card.synchronise() == 0);
  CHECK(host.data[9] == 0 && clean());
  CHECK(card.down(host.data, memory) == 0 && card.synchronise() == 0);
  CHECK(found("copy-uninitialised"));
}

TEST(memory_is_freed_when_it_is_done_with) {
  Card card;
  Pinned host;
  float *a = card.device(), *b = card.device();
  CHECK(card.up(a, host.data) == 0 && card.increment(a, b) == 0);
  CHECK(card.synchronise() == 0);
  CHECK(aclrtFree(b) == 0 && clean());
  CHECK(card.up(a, host.data) == 0 && aclrtFree(a) == 0);
  CHECK(found("free-in-use") && !found("use-after-free"));
  CHECK(card.synchronise() == ACL_ERROR_RT_DEVICE_MEM_ERROR && found("use-after-free"));
}

TEST(a_kernels_memory_is_freed_when_it_is_done_with) {
  Card card;
  Pinned host;
  float *a = card.device(), *b = card.device();
  CHECK(card.up(a, host.data) == 0 && card.increment(a, b) == 0);
  CHECK(aclrtFree(b) == 0 && found("free-in-use"));
  CHECK(card.synchronise() == ACL_ERROR_RT_VECTOR_CORE_EXCEPTION);
  CHECK(findings().find("gm-released") != std::string::npos);
}

TEST(pinned_memory_is_freed_when_it_is_done_with) {
  Card card;
  float* memory = card.device();
  {
    Pinned host;
    CHECK(card.up(memory, host.data) == 0 && card.synchronise() == 0);
  }
  CHECK(clean());
  {
    Pinned host;
    CHECK(card.up(memory, host.data) == 0);
  }
  CHECK(found("free-in-use"));
  CHECK(card.synchronise() == ACL_ERROR_RT_DEVICE_MEM_ERROR && found("use-after-free"));
}

// What another stream's synchronisation has driven to its end is still not known to be complete.
TEST(work_that_happens_to_be_complete_is_not_synchronised) {
  Card card;
  Pinned host;
  float *a = card.device(), *b = card.device();
  const aclrtStream other = stream();
  const aclrtEvent copied = card.copied(a, host.data);
  CHECK(card.increment(a, b) == 0);
  CHECK(aclrtStreamWaitEvent(other, copied) == 0 && aclrtSynchronizeStream(other) == 0);
  CHECK(clean());
  CHECK(aclrtFree(a) == 0 && found("free-in-use"));
}

// A copy that happens to be complete is still the driver's until the host has waited for it.
TEST(the_host_waits_for_what_it_touches) {
  for (const bool waits : {false, true}) {
    Card card(1);
    Pinned from, to;
    float* memory = card.device();
    const aclrtEvent copied = event();
    CHECK(card.up(memory, from.data) == 0 && card.down(to.data, memory) == 0);
    CHECK(aclrtRecordEvent(copied, card.stream) == 0);
    if (waits) CHECK(aclrtSynchronizeEvent(copied) == 0);
    while (jda_emulated_calls("copy") < 2) std::this_thread::yield();
    from.data[7] = to.data[7] = 70;
    CHECK(card.synchronise() == 0);
    CHECK(found("source-changed") != waits && found("destination-changed") != waits);
  }
}

// ---- streams and events

TEST(streams_need_an_order) {
  for (const bool ordered : {false, true}) {
    Card card;
    Pinned host;
    float* a = card.device();
    const aclrtStream other = stream();
    const aclrtEvent copied = card.copied(a, host.data);
    if (ordered) {
      CHECK(aclrtStreamWaitEvent(other, copied) == 0 && aclrtDestroyEvent(copied) == 0);
    }
    CHECK(aclrtMemsetAsync(a, kBytes, 0, kBytes, other) == 0);
    CHECK(aclrtSynchronizeStream(other) == 0 && card.synchronise() == 0);
    CHECK(found("stream-race") != ordered && clean() == ordered);
  }
}

TEST(the_host_orders_streams) {
  Card card;
  Pinned host;
  float* a = card.device();
  const aclrtStream other = stream();
  CHECK(card.up(a, host.data) == 0 && card.synchronise() == 0);
  CHECK(aclrtMemsetAsync(a, kBytes, 0, kBytes, other) == 0);
  CHECK(aclrtSynchronizeStream(other) == 0);
  CHECK(clean());
}

TEST(kernels_of_two_streams_may_share_an_allocation) {
  for (const size_t apart : {kCount, kCount - 8}) {
    Card card;
    Pinned host;
    float *a = card.device(), *b = card.device(2 * kBytes);
    CHECK(card.up(a, host.data) == 0 && card.synchronise() == 0);
    const aclrtStream first = card.stream, second = stream();
    CHECK(card.increment(a, b) == 0);
    card.stream = second;
    CHECK(card.increment(a, b + apart) == 0 && card.synchronise() == 0);
    CHECK(aclrtSynchronizeStream(first) == 0);
    CHECK(found("stream-race") == (apart != kCount) && clean() == (apart == kCount));
  }
}

TEST(a_wait_takes_the_record_before_it) {
  Card card;
  Pinned host;
  float* a = card.device();
  const aclrtEvent marked = card.copied(a, host.data);
  float* b = card.device();
  const aclrtStream other = stream();
  CHECK(aclrtStreamWaitEvent(other, marked) == 0);
  CHECK(aclrtMemsetAsync(b, kBytes, 0, kBytes, card.stream) == 0);
  CHECK(aclrtRecordEvent(marked, card.stream) == 0);
  CHECK(aclrtMemsetAsync(a, kBytes, 0, kBytes, other) == 0);
  CHECK(aclrtSynchronizeStream(other) == 0 && clean());
  // `other` does not know of the second record.
  CHECK(aclrtMemsetAsync(b, kBytes, 0, kBytes, other) == 0);
  CHECK(aclrtSynchronizeEvent(marked) == 0 && aclrtSynchronizeStream(other) == 0);
  CHECK(found("stream-race"));
}

TEST(events) {
  Card card;
  Pinned host;
  float* memory = card.device();
  aclrtEventRecordedStatus status;
  aclrtEvent marked = event();
  CHECK(aclrtQueryEventStatus(marked, &status) == 0 &&
        status == ACL_EVENT_RECORDED_STATUS_COMPLETE);
  CHECK(card.up(memory, host.data) == 0 && card.down(host.data, memory) == 0);
  CHECK(aclrtRecordEvent(marked, card.stream) == 0);
  int asked = 0;
  do {
    CHECK(aclrtQueryEventStatus(marked, &status) == 0);
  } while (++asked < 10 && status == ACL_EVENT_RECORDED_STATUS_NOT_READY);
  CHECK(asked > 1 && asked < 10);
  CHECK(aclrtFree(memory) == 0 && clean());
  CHECK(aclrtCreateEventExWithFlag(&marked, 0) == ACL_ERROR_INVALID_PARAM);
  const aclrtEvent timing = event(ACL_EVENT_TIME_LINE), fresh = event();
  CHECK(aclrtRecordEvent(timing, card.stream) == 0);
  CHECK(aclrtStreamWaitEvent(card.stream, timing) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(clean());
  CHECK(aclrtStreamWaitEvent(card.stream, fresh) == 0 && found("event-not-recorded"));
  CHECK(aclrtDestroyEvent(fresh) == 0);
  CHECK(aclrtRecordEvent(fresh, card.stream) == ACL_ERROR_RT_INVALID_HANDLE &&
        found("event-unknown"));
}

TEST(streams) {
  Card card;
  Pinned host;
  float* memory = card.device();
  CHECK(aclrtMemsetAsync(memory, kBytes, 0, kBytes, nullptr) == 0);
  CHECK(aclrtSynchronizeStream(nullptr) == 0);
  const aclrtStream made = stream();
  CHECK(jda_emulated_live("streams") == 2);
  CHECK(aclrtDestroyStream(made) == 0 && clean());
  CHECK(aclrtSynchronizeStream(made) == ACL_ERROR_RT_INVALID_HANDLE && found("stream-unknown"));
  const aclrtStream busy = stream();
  CHECK(aclrtMemsetAsync(memory, kBytes, 0, kBytes, busy) == 0);
  CHECK(aclrtDestroyStream(busy) == 0 && found("destroy-in-use"));
}

TEST(threads_of_streams) {
  Card card(1);
  Pinned from, to;
  float *a = card.device(), *b = card.device();
  const aclrtEvent copied = card.copied(a, from.data);
  card.stream = stream();
  CHECK(aclrtStreamWaitEvent(card.stream, copied) == 0);
  CHECK(card.increment(a, b) == 0 && card.down(to.data, b) == 0 && card.synchronise() == 0);
  CHECK(to.data[7] == 8.5f && clean());
}

// Both are under way at once, and the calls have returned: however slow the machine is.
TEST(transfers_of_two_streams_overlap) {
  Card card(1);
  constexpr int64_t kAnHour = 3600000000;
  jda_emulated_set("transfer_microseconds", kAnHour);
  Pinned first, second;
  float *a = card.device(), *b = card.device();
  const aclrtStream one = card.stream;
  CHECK(card.up(a, first.data) == 0);
  card.stream = stream();
  CHECK(card.up(b, second.data) == 0);
  while (jda_emulated_live("transfers") < 2) std::this_thread::yield();
  CHECK(jda_emulated_calls("copy") == 0);
  jda_emulated_set("transfer_microseconds", 0);
  CHECK(card.synchronise() == 0 && aclrtSynchronizeStream(one) == 0);
  CHECK(jda_emulated_calls("copy") == 2 && jda_emulated_live("transfers") == 0);
  CHECK(clean());
}

// ---- run-time compilation and binaries

TEST(compilation) {
  Card card;
  aclrtcProg program = nullptr;
  const char* header = "x.h";
  CHECK(aclrtcCreateProg(&program, nullptr, "x", 0, nullptr, nullptr) ==
        ACL_ERROR_RTC_INVALID_INPUT);
  CHECK(aclrtcCreateProg(&program, "", "x", 1, &header, &header) == ACL_ERROR_RTC_INVALID_INPUT);
  CHECK(aclrtcCompileProg(program, 0, nullptr) == ACL_ERROR_RTC_INVALID_PROG);
  CHECK(aclrtcCreateProg(&program, "\nnonsense;", "bad.asc", 0, nullptr, nullptr) == 0);
  size_t bytes = 0;
  CHECK(aclrtcGetBinDataSize(program, &bytes) == ACL_ERROR_RTC_INVALID_INPUT);
  const char *right = "--npu-arch=dav-2201", *wrong = "--npu-arch=dav-3101";
  CHECK(aclrtcCompileProg(program, 0, nullptr) == ACL_ERROR_RTC_INVALID_OPTION);
  CHECK(aclrtcCompileProg(program, 1, &wrong) == ACL_ERROR_RTC_INVALID_OPTION);
  CHECK(aclrtcCompileProg(program, 1, &right) == ACL_ERROR_RTC_COMPILATION);
  CHECK(aclrtcGetCompileLogSize(program, &bytes) == 0);
  std::string log(bytes, ' ');
  CHECK(aclrtcGetCompileLog(program, log.data()) == 0);
  CHECK(log.find("bad.asc:2") != std::string::npos && log.back() == '\0');
  const aclrtcProg again = program;
  CHECK(aclrtcDestroyProg(&program) == 0);
  CHECK(aclrtcCompileProg(again, 1, &right) == ACL_ERROR_RTC_INVALID_PROG);
}

TEST(binaries) {
  Card card;
  aclrtBinHandle loaded = nullptr;
  aclrtFuncHandle function = nullptr;
  const auto try_to_load = [&](const std::string& data) {
    return aclrtBinaryLoadFromData(data.data(), data.size(), nullptr, &loaded);
  };
  CHECK(try_to_load(std::string(1000, 'x')) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(try_to_load(binary().substr(0, 1000)) == ACL_ERROR_RT_PARAM_INVALID);
  std::string damaged = binary();
  damaged[damaged.size() / 2] ^= 1;
  CHECK(try_to_load(damaged) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(try_to_load("") == ACL_ERROR_RT_PARAM_INVALID);
  // Of another build, and not damaged.
  std::string other = binary();
  const std::string build = std::string(jda_emulated_driver()).substr(23);
  const size_t at = other.find(build);
  CHECK(at != std::string::npos);
  other[at] = '!';
  const size_t size = other.size() - sizeof(uint64_t);
  const uint64_t sum = emulated::checksum(other.data(), size);
  std::memcpy(other.data() + size, &sum, sizeof sum);
  CHECK(try_to_load(other) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(jda_emulated_live("binaries") == 0);
  const char path[] = "kernels.o";
  unlink(path);
  CHECK(aclrtBinaryLoadFromFile(path, nullptr, &loaded) == ACL_ERROR_RT_PARAM_INVALID);
  std::ofstream(path, std::ios::binary) << binary();
  CHECK(aclrtBinaryLoadFromFile(path, nullptr, &loaded) == 0);
  CHECK(aclrtBinaryGetFunction(loaded, "not_a_kernel", &function) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(aclrtBinaryGetFunction(loaded, "count_blocks", &function) == 0);
  CHECK(aclrtBinaryUnLoad(loaded) == 0 && clean());
  CHECK(aclrtBinaryGetFunction(loaded, "count_blocks", &function) == ACL_ERROR_RT_INVALID_HANDLE);
  CHECK(found("binary-unknown"));
  jda_emulated_reset();
  CHECK(aclrtBinaryUnLoad(loaded) == ACL_ERROR_RT_INVALID_HANDLE && found("binary-unknown"));
}

TEST(binaries_may_have_kernels_of_the_same_name) {
  const char source[] = R"(
#include "kernel_operator.h"
extern "C" __global__ __aicore__ void fails(int64_t a, int64_t b, double c) {
  ascendc_assert(a + b + c == 6.5);
})";
  Card card;
  CHECK(card.fails(2) == 0 && card.synchronise() == 0);
  aclrtcProg program = nullptr;
  const char* option = "--npu-arch=dav-2201";
  CHECK(aclrtcCreateProg(&program, source, "other.asc", 0, nullptr, nullptr) == 0);
  CHECK(aclrtcCompileProg(program, 1, &option) == 0);
  size_t bytes = 0;
  CHECK(aclrtcGetBinDataSize(program, &bytes) == 0);
  std::string data(bytes, ' ');
  CHECK(aclrtcGetBinData(program, data.data()) == 0 && aclrtcDestroyProg(&program) == 0);
  aclrtBinHandle loaded = nullptr;
  aclrtFuncHandle function = nullptr;
  jda_emulated_set("kernel_types", 1);
  CHECK(aclrtBinaryLoadFromData(data.data(), bytes, nullptr, &loaded) == 0);
  CHECK(aclrtBinaryGetFunction(loaded, "fails", &function) == 0);
  int64_t a = 1, b = 2;
  double c = 3.5;
  void* arguments[] = {&a, &b, &c};
  CHECK(aclrtLaunchKernelWithArgsArray(function, 1, card.stream, nullptr, arguments) == 0);
  CHECK(card.synchronise() == 0 && clean());
}

// Of a binary that does not say so, the magic has to: nothing else tells a chip with vector and cube
// cores where its kernels belong.
TEST(kernels_say_which_cores_they_are_for) {
  constexpr uint32_t kMagics[] = {ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE,
                                  ACL_RT_BINARY_MAGIC_ELF_AICORE, ACL_RT_BINARY_MAGIC_ELF_CUBE_CORE,
                                  0};
  for (const bool types : {false, true}) {
    for (const uint32_t magic : kMagics) {
      Card card;
      jda_emulated_set("kernel_types", types);
      const aclrtBinHandle loaded = load(magic);
      aclrtFuncHandle function = nullptr;
      CHECK(aclrtBinaryGetFunction(loaded, "fails", &function) == 0);
      int32_t how = 2;
      CHECK(aclrtLaunchKernelWithHostArgs(function, 1, card.stream, nullptr, &how, sizeof how,
                                          nullptr, 0) == 0);
      CHECK(card.synchronise() == 0);
      const bool right = types || magic == ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE;
      CHECK(found("kernel-cores") != right && clean() == right);
      const bool mixed = findings().find("a mixed kernel") != std::string::npos;
      CHECK(mixed == (!types && magic == ACL_RT_BINARY_MAGIC_ELF_AICORE));
    }
  }
}

TEST(a_magic_is_one_of_three_and_no_matter_of_files) {
  Card card;
  CHECK(load(0x12345678) == nullptr);
  std::ofstream("kernels.o", std::ios::binary) << binary();
  aclrtBinaryLoadOption option = {};
  option.type = ACL_RT_BINARY_LOAD_OPT_MAGIC;
  option.value.magic = ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE;
  aclrtBinaryLoadOptions options = {&option, 1};
  aclrtBinHandle loaded = nullptr;
  CHECK(aclrtBinaryLoadFromFile("kernels.o", &options, &loaded) == ACL_ERROR_RT_PARAM_INVALID);
  option.type = ACL_RT_BINARY_LOAD_OPT_LAZY_LOAD;
  option.value.isLazyLoad = 0;
  CHECK(aclrtBinaryLoadFromFile("kernels.o", &options, &loaded) == 0 && clean());
}

TEST(an_array_of_arguments_needs_parameter_information) {
  for (const bool described : {false, true}) {
    Card card;
    jda_emulated_set("kernel_parameters", described);
    const aclrtBinHandle loaded = load();
    // What counts is the binary, not what comes after it.
    jda_emulated_set("kernel_parameters", !described);
    aclrtFuncHandle function = nullptr;
    CHECK(aclrtBinaryGetFunction(loaded, "fails", &function) == 0);
    int32_t how = 2;
    void* arguments[] = {&how};
    aclGetRecentErrMsg();
    CHECK(aclrtLaunchKernelWithArgsArray(function, 1, card.stream, nullptr, arguments) ==
          (described ? ACL_SUCCESS : ACL_ERROR_RT_PARAM_INVALID));
    const char* text = aclGetRecentErrMsg();
    CHECK((text == nullptr) == described);
    CHECK(!text || std::strstr(text, "does not have parameter information"));
    CHECK(aclrtLaunchKernelWithHostArgs(function, 1, card.stream, nullptr, &how, sizeof how,
                                        nullptr, 0) == 0);
    CHECK(card.synchronise() == 0 && clean());
  }
}

TEST(binaries_stay_until_their_kernels_are_done) {
  Card card;
  Pinned host;
  float* memory = card.device();
  CHECK(card.up(memory, host.data) == 0 && card.increment(memory, memory) == 0);
  CHECK(aclrtBinaryUnLoad(card.loaded()) == 0 && found("unload-in-use"));
  CHECK(card.down(host.data, memory) == 0 && card.synchronise() == 0 && host.data[1] == 2.5f);
}

// ---- kernels

TEST(kernels) {
  Card card;
  Pinned host;
  float *a = card.device(), *b = card.device();
  const aclrtFuncHandle increment = card.kernel("increment");
  CHECK(card.up(a, host.data) == 0);
  struct {
    float *in, *out;
    Tiling tiling;
  } packed = {a, b, {}};
  CHECK(aclrtLaunchKernelWithHostArgs(increment, 1, card.stream, nullptr, &packed, sizeof packed,
                                      nullptr, 0) == 0);
  CHECK(aclrtLaunchKernelWithHostArgs(increment, 1, card.stream, nullptr, &packed, 16, nullptr,
                                      0) == ACL_ERROR_RT_PARAM_INVALID);
  // Arguments are taken at the call.
  Tiling tiling = {8, 100, 0};
  CHECK(card.increment(b, b, tiling) == 0);
  tiling.term = 0;
  CHECK(card.down(host.data, b) == 0 && card.synchronise() == 0);
  CHECK(host.data[7] == 108.5f && host.data[8] == 9.5f);
  CHECK(card.increment(a, b, {}, 0) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(clean());
  void* arguments[] = {&a, &b, &tiling};
  CHECK(aclrtLaunchKernelWithArgsArray(kNone, 1, card.stream, nullptr, arguments) ==
        ACL_ERROR_RT_INVALID_HANDLE);
  CHECK(found("function-unknown"));
}

TEST(blocks_run_on_cores_in_any_order) {
  for (const int seed : {0, 5}) {
    Card card;
    Pinned host;
    jda_emulated_set("cores", 4);
    jda_emulated_set("seed", seed);
    float* out = card.device(32);
    void* arguments[] = {&out};
    CHECK(aclrtMemsetAsync(out, 32, 0, 32, card.stream) == 0);
    CHECK(aclrtLaunchKernelWithArgsArray(card.kernel("count_blocks"), 10, card.stream, nullptr,
                                         arguments) == 0);
    CHECK(card.down(host.data, out, 32) == 0 && card.synchronise() == 0);
    CHECK(host.data[0] == 10 && clean());
  }
}

TEST(blocks_that_wait_for_each_other_start_at_once) {
  Card card;
  jda_emulated_set("cores", 4);
  float* counters = card.device(128);
  const auto launch = [&](const char* name, uint32_t blocks, uint32_t mode) {
    aclrtLaunchKernelAttr attribute = {};
    attribute.id = ACL_RT_LAUNCH_KERNEL_ATTR_SCHEM_MODE;
    attribute.value.schemMode = mode;
    aclrtLaunchKernelCfg config = {&attribute, 1};
    void* arguments[] = {&counters};
    CHECK(aclrtMemsetAsync(counters, 128, 0, 128, card.stream) == 0);
    const aclError code = aclrtLaunchKernelWithArgsArray(card.kernel(name), blocks, card.stream,
                                                         mode ? &config : nullptr, arguments);
    CHECK(card.synchronise() == 0);
    return code;
  };
  // One block waits for nobody; blocks that never meet may come one by one.
  CHECK(launch("meet", 4, 1) == 0 && launch("meet", 1, 0) == 0);
  CHECK(launch("count_blocks", 5, 0) == 0 && clean());
  CHECK(launch("meet", 2, 0) == 0 && launch("meet", 3, 0) == 0 && found("blocks-apart"));
  CHECK(jda_emulated_finding_count() == 1);
  CHECK(launch("meet", 5, 1) == ACL_ERROR_RT_PARAM_INVALID && found("blocks-above-cores"));
}

TEST(a_kernels_findings_are_the_drivers) {
  Card card;
  Pinned host;
  float *a = card.device(), *b = card.device();
  CHECK(card.increment(a, b) == 0 && card.synchronise() == 0);
  CHECK(found("kernel") && findings().find("gm-uninitialised") != std::string::npos);
}

TEST(a_fault_ends_the_context) {
  Card card;
  Pinned host, to;
  float *a = card.device(), *b = card.device();
  void* more = nullptr;
  constexpr aclError kFault = ACL_ERROR_RT_VECTOR_CORE_EXCEPTION;
  CHECK(card.up(a, host.data) == 0 && card.increment(a, b, {2 * kCount, 1, 0}) == 0);
  CHECK(card.down(to.data, a) == 0);
  CHECK(card.synchronise() == kFault && found("kernel"));
  const char* text = aclGetRecentErrMsg();
  CHECK(text && std::strstr(text, "gm-bounds"));
  CHECK(std::isnan(to.data[0]));
  CHECK(card.synchronise() == kFault && card.up(a, host.data) == kFault);
  CHECK(aclrtMalloc(&more, 64, ACL_MEM_MALLOC_HUGE_FIRST) == kFault);
  CHECK(aclrtFree(a) == 0);
  CHECK(aclrtResetDevice(0) == 0 && aclrtSetDevice(0) == 0);
  CHECK(aclrtFree(b) == ACL_ERROR_RT_PARAM_INVALID);
  CHECK(aclrtCreateStream(&card.stream) == 0);
  a = card.device();
  CHECK(card.up(a, host.data) == 0 && card.synchronise() == 0);
}

TEST(kernels_that_hang_or_assert) {
  const aclError codes[] = {ACL_ERROR_RT_VECTOR_CORE_TIMEOUT,
                            ACL_ERROR_RT_VECTOR_CORE_TRAP_EXCEPTION};
  for (int how = 0; how < 2; ++how) {
    Card card;
    CHECK(card.fails(how) == 0 && card.synchronise() == codes[how]);
  }
  Card card;
  CHECK(card.fails(2) == 0 && card.synchronise() == 0 && clean());
}

TEST(arguments_point_into_the_device) {
  Card card;
  Pinned host;
  float* memory = card.device();
  CHECK(card.increment(host.data, memory) == 0 && found("kernel-argument"));
  CHECK(card.synchronise() == ACL_ERROR_RT_VECTOR_CORE_EXCEPTION);
}

// ---- controls and books

TEST(failures_on_demand) {
  Card card;
  Pinned host;
  void* memory = nullptr;
  const auto allocate = [&] { return aclrtMalloc(&memory, 64, ACL_MEM_MALLOC_HUGE_FIRST); };
  jda_emulated_fail("aclrtMalloc", 2, ACL_ERROR_RT_MEMORY_ALLOCATION);
  CHECK(allocate() == 0 && allocate() == ACL_ERROR_RT_MEMORY_ALLOCATION && allocate() == 0);
  CHECK(jda_emulated_live("device") == 2 && jda_emulated_calls("aclrtMalloc") == 3);
  // Each of them counts every call, those that fail too.
  jda_emulated_fail("aclrtMalloc", 1, 111111);
  jda_emulated_fail("aclrtMalloc", 2, 222222);
  CHECK(allocate() == 111111 && allocate() == 222222 && allocate() == 0);
  jda_emulated_fail("aclrtMalloc", 0, 123456);
  CHECK(allocate() == 123456 && allocate() == 123456);
  jda_emulated_reset();
  CHECK(allocate() == 0);
  jda_emulated_fail("aclrtcCreateProg", 1, ACL_ERROR_RTC_PROG_CREATION_FAILURE);
  aclrtcProg program = nullptr;
  CHECK(aclrtcCreateProg(&program, "", "x", 0, nullptr, nullptr) ==
        ACL_ERROR_RTC_PROG_CREATION_FAILURE);
  jda_emulated_fail("aclrtGetSocName", 1, 1);
  CHECK(aclrtGetSocName() == nullptr && aclrtGetSocName() != nullptr);
  float *a = card.device(), *b = card.device();
  jda_emulated_fail("kernel", 2, ACL_ERROR_RT_AICORE_TIMEOUT);
  CHECK(card.up(a, host.data) == 0 && card.increment(a, b) == 0 && card.synchronise() == 0);
  CHECK(card.increment(a, b) == 0 && card.synchronise() == ACL_ERROR_RT_AICORE_TIMEOUT);
  CHECK(clean());
}

TEST(the_trace) {
  Card card;
  Pinned host;
  float* memory = card.device();
  jda_emulated_reset();
  CHECK(card.up(memory, host.data) == 0 && card.synchronise() == 0);
  CHECK(aclrtFree(nullptr) != 0);
  const std::string trace = jda_emulated_trace();
  const char* lines[] = {"aclrtMemcpyAsync(", "copy of 1024 bytes host to device",
                         "aclrtSynchronizeStream()", "aclrtFree() = 100000"};
  size_t at = 0;
  for (const char* line : lines) {
    at = trace.find(line, at);
    CHECK(at != std::string::npos);
  }
  CHECK(jda_emulated_calls("copy") == 1 && jda_emulated_calls("aclrtMemcpyAsync") == 1);
  CHECK(jda_emulated_live("no such number") == -1);
}

}  // namespace

int main() { return run_tests(); }
