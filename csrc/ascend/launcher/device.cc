#include "device.h"

#include <map>
#include <memory>

#include "environment.h"
#include "error.h"

namespace jda_ascend {
namespace {

constexpr char kSupported[] = "Ascend910B";
constexpr size_t kKeptShare = 16;  // calls from the host keep a sixteenth of the card's memory

struct Devices {
  std::mutex mutex;
  std::map<int, std::unique_ptr<Device>> of_card;
};

// Never freed: other libraries may have taken the runtime down before this one's destructors run.
Devices& TheDevices() {
  static auto* devices = new Devices;
  return *devices;
}

void CheckCard(const Driver& driver, int card) {
  uint32_t count = 0;
  driver.aclrtGetDeviceCount(&count);
  if (count == 0) throw Error(JDA_ASCEND_UNAVAILABLE, "there is no Ascend card");
  if (card < 0 || static_cast<uint32_t>(card) >= count) {
    throw Error(JDA_ASCEND_UNAVAILABLE, "there is no Ascend card " + std::to_string(card) +
                                            "; the last one is " + std::to_string(count - 1));
  }
}

std::string SocName(const Driver& driver) {
  const char* name = driver.aclrtGetSocName();
  if (name == nullptr) {
    throw Error(JDA_ASCEND_INTERNAL, "aclrtGetSocName failed: it returned no name");
  }
  const std::string soc = name;
  if (soc.rfind(kSupported, 0) != 0) {
    throw Error(JDA_ASCEND_FAILED_PRECONDITION, "the card is " + soc + "; jda has kernels for " +
                                                    kSupported +
                                                    " only (Atlas A2, architecture dav-2201)");
  }
  return soc;
}

// Vector cores, for toolkits that cannot be asked.
int UsualCores(const std::string& soc) {
  const std::string kind = soc.substr(sizeof(kSupported) - 1, 1);
  if (kind == "1" || kind == "2") return 48;
  if (kind == "3" || kind == "4") return 40;
  throw Error(JDA_ASCEND_FAILED_PRECONDITION,
              "this CANN does not tell how many vector cores " + soc + " has");
}

int CardsCores(const Driver& driver, int card, const std::string& soc) {
  if (!driver.aclrtGetDeviceInfo.found()) return UsualCores(soc);
  int64_t cores = 0;
  driver.aclrtGetDeviceInfo(static_cast<uint32_t>(card), ACL_DEV_ATTR_VECTOR_CORE_NUM, &cores);
  return cores > 0 ? static_cast<int>(cores) : UsualCores(soc);
}

// Those that this process may use. All blocks of a kernel wait for each other: more blocks than that
// would wait for ever.
int VectorCores(const Driver& driver, int card, const std::string& soc) {
  const int cores = CardsCores(driver, card, soc);
  if (!driver.aclrtGetDeviceResLimit.found()) return cores;
  uint32_t limit = 0;
  const auto& ask = driver.aclrtGetDeviceResLimit;
  const aclError code = ask.Try(card, ACL_RT_DEV_RES_VECTOR_CORE, &limit);
  if (code == ACL_ERROR_RT_FEATURE_NOT_SUPPORT) return cores;
  if (code != ACL_SUCCESS) RaiseCallError(ask.name(), code);
  return limit > 0 && limit < static_cast<uint32_t>(cores) ? static_cast<int>(limit) : cores;
}

// The thread's current card, if it has one.
std::optional<int32_t> CardOfThread() {
  const auto& ask = TheDriver().aclrtGetDevice;
  int32_t card = 0;
  const aclError code = ask.Try(&card);
  if (code == ACL_ERROR_RT_CONTEXT_NULL) return std::nullopt;
  if (code != ACL_SUCCESS) RaiseCallError(ask.name(), code);
  return card;
}

}  // namespace

CurrentCard::CurrentCard(int card) {
  const std::optional<int32_t> now = CardOfThread();
  if (now == card) return;
  TheDriver().aclrtSetDevice(card);
  previous_ = now;
}

CurrentCard::~CurrentCard() {
  if (previous_) TheDriver().aclrtSetDevice.Try(*previous_);
}

Device::Properties Device::Ask(int card) {
  const Driver& driver = TheDriver();
  CheckCard(driver, card);
  const CurrentCard current(card);
  const std::string soc = SocName(driver);
  size_t free = 0, total = 0;
  driver.aclrtGetMemInfo(ACL_HBM_MEM, &free, &total);
  return {soc, VectorCores(driver, card, soc), total};
}

Device::Device(int card) : Device(card, Ask(card)) {}

Device::Device(int card, const Properties& properties)
    : lanes(properties.bytes / kKeptShare),
      card_(card),
      soc_(properties.soc),
      cores_(properties.cores) {}

const Kernels& Device::kernels() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!kernels_) kernels_ = LoadKernels(soc_);
  return *kernels_;
}

std::string Device::kernel_origin() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return kernels_ ? kernels_->origin : "";
}

int ConfiguredCard() { return EnvironmentNumber("JDA_ASCEND_DEVICE", 0); }

int ThreadsCard() {
  const std::optional<int32_t> card = CardOfThread();
  return card ? *card : ConfiguredCard();
}

Device& TheDevice(int card) {
  Devices& devices = TheDevices();
  const std::lock_guard<std::mutex> lock(devices.mutex);
  std::unique_ptr<Device>& device = devices.of_card[card];
  if (device == nullptr) device = std::make_unique<Device>(card);
  return *device;
}

void TrimDevices() {
  Devices& devices = TheDevices();
  const std::lock_guard<std::mutex> lock(devices.mutex);
  for (const auto& [card, device] : devices.of_card) {
    if (device == nullptr) continue;
    const CurrentCard current(card);
    device->workspaces.Trim();
    device->lanes.Trim();
  }
}

}  // namespace jda_ascend
