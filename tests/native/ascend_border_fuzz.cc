// The same of the Ascend launcher, on the emulated driver: a call of one of its four handlers, with
// arrays of the host or of a card. It is refused or computed, whatever order the cores work in; the
// emulation finds no broken rule, neither in the launcher nor in the kernels; and no memory stays behind.
// Index arrays that are on a card hold what nobody has checked.
//
// JDA_ASCEND_DRIVER names the folder of the driver.

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "ascend/launcher/acl.h"
#include "ascend/launcher/launcher.h"
#include "border.h"

namespace border {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::printf("%s\n", what);
  std::fflush(stdout);
  std::abort();
}

void* opened(const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  require(library != nullptr, library ? "" : dlerror());
  return library;
}

template <typename Function>
Function* found(void* library, const char* name) {
  void* const function = dlsym(library, name);
  require(function != nullptr, name);
  return reinterpret_cast<Function*>(function);
}

struct Driver {
  explicit Driver(void* library)
#define JDA_FOUND(name) name(found<std::remove_pointer_t<decltype(name)>>(library, #name))
      : JDA_FOUND(aclrtSetDevice),
        JDA_FOUND(aclrtMalloc),
        JDA_FOUND(aclrtFree),
        JDA_FOUND(aclrtMemcpyAsync),
        JDA_FOUND(aclrtCreateStream),
        JDA_FOUND(aclrtDestroyStream),
        JDA_FOUND(aclrtSynchronizeStream),
        JDA_FOUND(jda_emulated_set),
        JDA_FOUND(jda_emulated_reset),
        JDA_FOUND(jda_emulated_findings),
        JDA_FOUND(jda_emulated_live) {
  }
#undef JDA_FOUND

  aclError (*aclrtSetDevice)(int32_t);
  aclError (*aclrtMalloc)(void**, size_t, aclrtMemMallocPolicy);
  aclError (*aclrtFree)(void*);
  aclError (*aclrtMemcpyAsync)(void*, size_t, const void*, size_t, aclrtMemcpyKind, aclrtStream);
  aclError (*aclrtCreateStream)(aclrtStream*);
  aclError (*aclrtDestroyStream)(aclrtStream);
  aclError (*aclrtSynchronizeStream)(aclrtStream);
  int (*jda_emulated_set)(const char*, int64_t);
  void (*jda_emulated_reset)();
  const char* (*jda_emulated_findings)();
  int64_t (*jda_emulated_live)(const char*);
};

// The launcher and the driver that it has open.
struct Libraries {
  XLA_FFI_Handler* handlers[2][2];  // on the host or on a card; forward or backward
  int (*trim)();
  const char* (*error)();
  Driver driver;

  Libraries() : Libraries(opened(JDA_LAUNCHER), named(std::getenv("JDA_ASCEND_DRIVER"))) {}

 private:
  static std::string named(const char* folder) {
    require(folder != nullptr, "JDA_ASCEND_DRIVER is not set");
    return folder;
  }

  Libraries(void* launcher, const std::string& folder)
      : handlers{{found<XLA_FFI_Handler>(launcher, "jda_ascend_host_forward"),
                  found<XLA_FFI_Handler>(launcher, "jda_ascend_host_backward")},
                 {found<XLA_FFI_Handler>(launcher, "jda_ascend_device_forward"),
                  found<XLA_FFI_Handler>(launcher, "jda_ascend_device_backward")}},
        trim(found<int()>(launcher, "jda_ascend_trim")),
        error(found<const char*()>(launcher, "jda_ascend_error")),
        driver(opened(folder + "/libacl_rt.so")) {
    require(found<decltype(jda_ascend_open)>(launcher, "jda_ascend_open")(folder.c_str()) == 0,
            error());
    jda_ascend_description card;
    require(found<decltype(jda_ascend_describe)>(launcher, "jda_ascend_describe")(&card) == 0,
            error());
    require(card.problem == nullptr, card.problem);
    require(driver.aclrtSetDevice(0) == 0, "there is no card");
  }
};

Libraries& libraries() {
  static Libraries* const libraries = new Libraries;
  return *libraries;
}

// A call's arrays on the card, while this lives, and a stream for it.
class OnCard {
 public:
  OnCard(const Driver& driver, Call& call) : driver_(driver), call_(call) {
    require(driver_.aclrtCreateStream(&stream_) == 0, "there is no stream");
    visit([this](Array& array) {
      const size_t bytes = array.first.size();
      array.is_on_card = true;
      if (bytes == 0) return;  // null, as of XLA
      require(driver_.aclrtMalloc(&array.on_card, bytes, ACL_MEM_MALLOC_HUGE_FIRST) == 0,
              "the card is out of memory");
      copy(array.on_card, array.first.data(), bytes, ACL_MEMCPY_HOST_TO_DEVICE);
    });
  }

  ~OnCard() {
    visit([this](Array& array) {
      if (array.on_card) driver_.aclrtFree(array.on_card);
      array.on_card = nullptr;
    });
    driver_.aclrtDestroyStream(stream_);
  }

  aclrtStream stream() const { return stream_; }

  // Into the memory of the host, where results are looked for.
  void fetch() {
    for (Array& array : call_.results)
      if (array.on_card)
        copy(array.memory.get(), array.on_card, array.first.size(), ACL_MEMCPY_DEVICE_TO_HOST);
    require(driver_.aclrtSynchronizeStream(stream_) == 0, driver_.jda_emulated_findings());
  }

 private:
  template <typename Visit>
  void visit(const Visit& visit) {
    for (Array& array : call_.arguments) visit(array);
    for (Array& array : call_.results) visit(array);
  }

  void copy(void* to, const void* from, size_t bytes, aclrtMemcpyKind kind) {
    require(driver_.aclrtMemcpyAsync(to, bytes, from, bytes, kind, stream_) == 0,
            "a copy was refused");
  }

  const Driver& driver_;
  Call& call_;
  aclrtStream stream_ = nullptr;
};

bool run_on_card(Call& call) {
  OnCard card(libraries().driver, call);
  const bool computed = run(call, 1, card.stream());
  card.fetch();
  return computed;
}

void judge() {
  const Driver& driver = libraries().driver;
  const char* const findings = driver.jda_emulated_findings();
  require(*findings == 0, findings);
  require(libraries().trim() == 0, libraries().error());
  for (const char* what : {"device", "pinned"})
    require(driver.jda_emulated_live(what) == 0, "memory stays behind");
  driver.jda_emulated_reset();
}

}  // namespace

void one_input(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  const bool is_backward = bytes.next() & 1, is_on_card = bytes.next() & 1;
  const bool is_spoiled = bytes.next() > 190;
  const int64_t seed = bytes.next();
  const int64_t deterministic = bytes.rarely() ? bytes.number<int64_t>() : bytes.below(2);
  const int64_t types = bytes.next() < 128 ? 1 : 4;  // of the others, many are refused
  Call call = aggregation(is_backward ? 2 : 0, types, bytes);
  call.attributes.insert(call.attributes.begin(),
                         {"deterministic", XLA_FFI_DataType_S64, {deterministic}, false});
  call.handler = libraries().handlers[is_on_card][is_backward];
  if (is_spoiled) spoil(bytes.next() & 1 ? call.arguments : call.results, bytes);
  const auto once = [&](int64_t seed) {
    libraries().driver.jda_emulated_set("seed", seed);
    return is_on_card ? run_on_card(call) : run(call, 1);
  };
  const bool computed = once(0);
  computed_calls += computed;
  const auto in_order = results_of(call);
  require(computed == once(seed), "whether it is computed depends on the order of cores");
  if (computed && (deterministic || !is_backward))
    require(in_order == results_of(call), "the result depends on the order of cores");
  judge();
}

}  // namespace border
