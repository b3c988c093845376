// Copies and fills: submitted with what they look like now, done when the stream comes to them.

#include "machine/machine.h"
#include "memory.h"

using namespace emulated;

namespace {

// Where `what` is. Refuses what no card could do.
Place checked_place(Driver& driver, const Stream& stream, const void* at, uint64_t bytes,
                    const std::string& what) {
  const Place place = place_of(driver, at, bytes);
  const bool elsewhere = place.device && place.device != stream.device;
  if (place.problem.empty() && !elsewhere) return place;
  driver.books.refuse(
      "copy-bounds", ACL_ERROR_RT_PARAM_INVALID,
      what + " is " + (place.problem.empty() ? "memory of another device" : place.problem));
}

void check_room(size_t bytes, size_t room) {
  if (bytes <= room) return;
  refuse(ACL_ERROR_RT_PARAM_INVALID, text_of(bytes) + " bytes do not fit into " + text_of(room));
}

// Memory may have been freed between the call and now.
void check_again(Driver& driver, const void* at, uint64_t bytes, Place::Kind kind,
                 const std::string& text) {
  const Place place = place_of(driver, at, bytes);
  if (place.kind == kind && place.problem.empty()) return;
  driver.books.refuse(
      "use-after-free", ACL_ERROR_RT_DEVICE_MEM_ERROR,
      text + " touches " + (place.problem.empty() ? "freed memory of the host" : place.problem));
}

aclrtMemcpyKind kind_of(const Place& to, const Place& from) {
  const bool into = to.kind == Place::kDevice, out_of = from.kind == Place::kDevice;
  return into ? (out_of ? ACL_MEMCPY_DEVICE_TO_DEVICE : ACL_MEMCPY_HOST_TO_DEVICE)
              : (out_of ? ACL_MEMCPY_DEVICE_TO_HOST : ACL_MEMCPY_HOST_TO_HOST);
}

const char* name_of(aclrtMemcpyKind kind) {
  constexpr const char* kNames[] = {"host to host", "host to device", "device to host",
                                    "device to device", "default"};
  return kNames[kind];
}

// What the host must leave alone until the copy is complete.
Watch watch(Driver& driver, aclrtMemcpyKind kind, uint8_t* to, const uint8_t* from,
            uint64_t bytes) {
  if (kind == ACL_MEMCPY_HOST_TO_DEVICE) {
    return {from, std::vector<uint8_t>(from, from + bytes), "source-changed"};
  }
  const bool in_use = !driver.user_of(range(to, bytes)).empty();
  if (kind != ACL_MEMCPY_DEVICE_TO_HOST || in_use) return {};
  emulator::poison(to, bytes);
  return {to, std::vector<uint8_t>(to, to + bytes), "destination-changed"};
}

Effects copy(Driver& driver, Device& device, aclrtMemcpyKind kind, uint8_t* to, const uint8_t* from,
             uint64_t bytes, const std::string& text) {
  if (kind != ACL_MEMCPY_HOST_TO_DEVICE && !device.gm.defined(from, bytes)) {
    driver.books.find("copy-uninitialised", text + " reads bytes that nothing has written");
  }
  if (kind == ACL_MEMCPY_DEVICE_TO_HOST) {
    device.gm.read(to, from, bytes);
  } else if (kind == ACL_MEMCPY_HOST_TO_DEVICE) {
    device.gm.write(to, from, bytes);
  } else {
    std::vector<uint8_t> between(bytes);
    device.gm.read(between.data(), from, bytes);
    device.gm.write(to, between.data(), bytes);
  }
  return {range(from, bytes), range(to, bytes)};
}

Ranges both(const void* a, const void* b, uint64_t bytes) {
  return a < b ? Ranges{range(a, bytes)[0], range(b, bytes)[0]}
               : Ranges{range(b, bytes)[0], range(a, bytes)[0]};
}

}  // namespace

aclError aclrtMemcpyAsync(void* to, size_t to_bytes, const void* from, size_t bytes,
                          aclrtMemcpyKind kind, aclrtStream handle) {
  const std::string arguments = text_of(bytes) + ", " + std::to_string(kind);
  return call("aclrtMemcpyAsync", arguments, [&](Driver& driver, Lock& lock) {
    if (bytes == 0) return;
    if (!to || !from || kind < ACL_MEMCPY_HOST_TO_HOST || kind > ACL_MEMCPY_DEFAULT) {
      refuse(ACL_ERROR_INVALID_PARAM, "a null pointer, or no such kind");
    }
    check_room(bytes, to_bytes);
    Stream& stream = stream_of(driver, handle);
    const Place target = checked_place(driver, stream, to, bytes, "the destination");
    const Place source = checked_place(driver, stream, from, bytes, "the source");
    const aclrtMemcpyKind real = kind_of(target, source);
    if (kind == ACL_MEMCPY_HOST_TO_HOST || real == ACL_MEMCPY_HOST_TO_HOST) {
      refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "asynchronous copies from host to host");
    }
    if (kind != ACL_MEMCPY_DEFAULT && kind != real) {
      driver.books.refuse(
          "copy-kind", ACL_ERROR_RT_PARAM_INVALID,
          std::string("a copy ") + name_of(real) + " was called one " + name_of(kind));
    }
    const auto misaligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 64; };
    if (real == ACL_MEMCPY_DEVICE_TO_DEVICE && (misaligned(to) || misaligned(from))) {
      driver.books.find("copy-alignment",
                        "a copy device to device of addresses that are no multiples of 64");
    }
    const bool waits = target.kind == Place::kPageable || source.kind == Place::kPageable;
    Operation operation("copy", "copy of " + text_of(bytes) + " bytes " + name_of(real),
                        both(to, from, bytes));
    auto* out = static_cast<uint8_t*>(to);
    const auto* in = static_cast<const uint8_t*>(from);
    if (!waits) operation.watch = watch(driver, real, out, in, bytes);
    operation.run = [&driver, &device = *stream.device, real, out, in, bytes, target, source,
                     text = operation.text] {
      check_again(driver, out, bytes, target.kind, text);
      check_again(driver, in, bytes, source.kind, text);
      return copy(driver, device, real, out, in, bytes, text);
    };
    const uint64_t number = submit(driver, stream, std::move(operation));
    // With memory that is not pinned, the call returns when the copy is complete.
    if (waits) synchronise(driver, lock, stream, number);
  });
}

aclError aclrtMemsetAsync(void* pointer, size_t pointer_bytes, int32_t value, size_t bytes,
                          aclrtStream handle) {
  return call("aclrtMemsetAsync", text_of(bytes), [&](Driver& driver, Lock&) {
    if (bytes == 0) return;
    if (!pointer) refuse(ACL_ERROR_INVALID_PARAM, "a null pointer");
    check_room(bytes, pointer_bytes);
    Stream& stream = stream_of(driver, handle);
    const Place place = checked_place(driver, stream, pointer, bytes, "what is set");
    if (place.kind != Place::kDevice) {
      refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "setting memory of the host is not emulated");
    }
    Operation operation("set", "set of " + text_of(bytes) + " bytes", range(pointer, bytes));
    operation.run = [&driver, &device = *stream.device, pointer, bytes, value,
                     text = operation.text]() -> Effects {
      check_again(driver, pointer, bytes, Place::kDevice, text);
      device.gm.fill(pointer, static_cast<uint8_t>(value), bytes);
      return {{}, range(pointer, bytes)};
    };
    submit(driver, stream, std::move(operation));
  });
}
