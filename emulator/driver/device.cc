// Devices: what there is, and which one a thread has chosen.

#include <algorithm>
#include <cstring>

#include "binary.h"

namespace emulated {

namespace {

struct Chosen {
  int device = -1;
  uint64_t generation = 0;
};
thread_local Chosen chosen;

void need_initialisation(Driver& driver) {
  if (driver.initialised) return;
  driver.books.refuse("not-initialised", ACL_ERROR_UNINITIALIZE, "a call before aclInit");
}

// Everything that belongs to the context goes with it.
void destroy_context(Driver& driver, Device& device) {
  const auto here = [&](const auto& owned) { return owned.device == &device; };
  driver.each_stream([&](Stream& stream) {
    if (!here(stream)) return;
    stream.ended = true;
    driver.host.learn(stream.id, stream.submitted);
    stream.pending.clear();
  });
  drop(driver.streams, here);
  drop(driver.events, here);
  drop(driver.functions, here);
  drop(driver.binaries, here);
  for (const auto& [address, taken] : device.memory) {
    device.gm.release(address);
    driver.device_bytes -= taken;
  }
  device.memory.clear();
  device.used = 0;
  device.standard.reset();
  device.fault = ACL_SUCCESS;
  device.fault_text.clear();
  ++device.generation;
  driver.changed.notify_all();
}

}  // namespace

Device& Driver::device(int id) {
  need_initialisation(*this);
  if (id < 0 || id >= settings["devices"]) {
    refuse(settings["devices"] ? ACL_ERROR_RT_INVALID_DEVICEID : ACL_ERROR_RT_NO_DEVICE,
           "device " + std::to_string(id) + " of " + text_of(settings["devices"]));
  }
  auto& slot = devices[id];
  if (!slot) slot = std::make_unique<Device>(id);
  return *slot;
}

Device& Driver::device() {
  need_initialisation(*this);
  const auto known = devices.find(chosen.device);
  if (known == devices.end() || known->second->generation != chosen.generation) {
    refuse(ACL_ERROR_RT_CONTEXT_NULL, "this thread has no device: aclrtSetDevice is missing");
  }
  return *known->second;
}

}  // namespace emulated

using namespace emulated;

aclError aclInit(const char* config_path) {
  return call("aclInit", config_path ? config_path : "", [&](Driver& driver, Lock&) {
    if (driver.initialised) refuse(ACL_ERROR_REPEAT_INITIALIZE, "initialised before");
    driver.initialised = true;
  });
}

aclError aclsysGetCANNVersion(aclCANNPackageName name, aclCANNPackageVersion* version) {
  return call("aclsysGetCANNVersion", "", [&](Driver&, Lock&) {
    if (name != ACL_PKG_NAME_CANN || !version) refuse(ACL_ERROR_INVALID_PARAM, "no such package");
    *version = {};
    std::strcpy(version->version, "emulated-" JDA_EMULATED_BUILD);
    std::strcpy(version->majorVersion, "0");
    std::strcpy(version->minorVersion, "0");
  });
}

aclError aclrtSetDevice(int32_t id) {
  return call("aclrtSetDevice", std::to_string(id), [&](Driver& driver, Lock&) {
    Device& device = driver.device(id);
    ++device.references;
    if (!device.standard) device.standard = make_stream(driver, device);
    chosen = {id, device.generation};
  });
}

aclError aclrtResetDevice(int32_t id) {
  return call("aclrtResetDevice", std::to_string(id), [&](Driver& driver, Lock&) {
    Device& device = driver.device(id);
    if (device.references == 0) refuse(ACL_ERROR_RT_CONTEXT_NULL, "the device was not set");
    if (--device.references == 0) destroy_context(driver, device);
  });
}

aclError aclrtGetDevice(int32_t* id) {
  return call("aclrtGetDevice", "", [&](Driver& driver, Lock&) {
    if (!id) refuse(ACL_ERROR_INVALID_PARAM, "nowhere to put the result");
    *id = driver.device().id;
  });
}

aclError aclrtGetDeviceCount(uint32_t* count) {
  return call("aclrtGetDeviceCount", "", [&](Driver& driver, Lock&) {
    need_initialisation(driver);
    if (!count) refuse(ACL_ERROR_INVALID_PARAM, "nowhere to put the result");
    *count = static_cast<uint32_t>(driver.settings["devices"]);
  });
}

aclError aclrtGetDeviceInfo(uint32_t id, aclrtDevAttr attribute, int64_t* value) {
  const std::string arguments = text_of(id) + ", " + std::to_string(attribute);
  return call("aclrtGetDeviceInfo", arguments, [&](Driver& driver, Lock&) {
    driver.device(static_cast<int>(id));
    if (!value || attribute != ACL_DEV_ATTR_VECTOR_CORE_NUM) {
      refuse(ACL_ERROR_INVALID_PARAM, "this attribute is not emulated");
    }
    *value = driver.settings["cores"];
  });
}

aclError aclrtGetDeviceResLimit(int32_t id, aclrtDevResLimitType type, uint32_t* value) {
  const std::string arguments = std::to_string(id) + ", " + std::to_string(type);
  return call("aclrtGetDeviceResLimit", arguments, [&](Driver& driver, Lock&) {
    driver.device(id);
    if (!value || type != ACL_RT_DEV_RES_VECTOR_CORE) {
      refuse(ACL_ERROR_INVALID_PARAM, "only ACL_RT_DEV_RES_VECTOR_CORE is emulated");
    }
    const int64_t cores = driver.settings["cores"], limit = driver.settings["core_limit"];
    *value = static_cast<uint32_t>(limit > 0 ? std::min(limit, cores) : cores);
  });
}

const char* aclrtGetSocName(void) {
  thread_local std::string name;
  const aclError code = call("aclrtGetSocName", "", [&](Driver& driver, Lock&) {
    if (driver.settings["devices"] == 0) refuse(ACL_ERROR_RT_NO_DEVICE, "there is no device");
    name = driver.settings.soc;
  });
  return code == ACL_SUCCESS ? name.c_str() : nullptr;
}

aclError aclrtGetMemInfo(aclrtMemAttr attribute, size_t* free, size_t* total) {
  return call("aclrtGetMemInfo", std::to_string(attribute), [&](Driver& driver, Lock&) {
    const Device& device = driver.device();
    if (attribute != ACL_HBM_MEM || !free || !total) {
      refuse(ACL_ERROR_INVALID_PARAM, "only ACL_HBM_MEM, and both results, are emulated");
    }
    *total = driver.settings["memory"];
    *free = *total - std::min<uint64_t>(*total, device.used);
  });
}
