// Binaries: shared objects of kernels, loaded from a file or from memory, and their launches.

#include "binary.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "memory.h"

using namespace emulated;

namespace {

std::string path_of(int file) { return "/proc/self/fd/" + std::to_string(file); }

std::shared_ptr<Loaded> load(Device& device, const std::string& data) {
  const auto refused = [](const std::string& why) { refuse(ACL_ERROR_RT_PARAM_INVALID, why); };
  uint64_t sum = 0;
  if (data.size() < sizeof(sum)) refused("this is no kernel binary");
  const size_t bytes = data.size() - sizeof(sum);
  std::memcpy(&sum, data.data() + bytes, sizeof(sum));
  if (sum != checksum(data.data(), bytes)) refused("this is no kernel binary, or it is damaged");
  auto loaded = std::make_shared<Loaded>();
  loaded->device = &device;
  loaded->file = memfd_create("kernels", MFD_CLOEXEC);
  for (size_t at = 0; at < bytes;) {
    const ssize_t wrote = write(loaded->file, data.data() + at, bytes - at);
    if (wrote <= 0) refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "no room for the binary");
    at += wrote;
  }
  loaded->library = dlopen(path_of(loaded->file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!loaded->library) refused(std::string("the kernel binary does not load: ") + dlerror());
  const void* binary = dlsym(loaded->library, "jda_emulated_binary");
  if (!binary) refused("the binary was not made by this run-time compiler");
  loaded->binary = *static_cast<const Binary*>(binary);
  if (std::strcmp(loaded->binary.build, JDA_EMULATED_BUILD) != 0) {
    refused("the binary was made by another build of the run-time compiler");
  }
  return loaded;
}

// The magic that the options give; 0: none.
uint32_t magic_of(const aclrtBinaryLoadOptions* options, bool from_file) {
  uint32_t magic = 0;
  for (size_t i = 0; options && i < options->numOpt; ++i) {
    const aclrtBinaryLoadOption& option = options->options[i];
    if (option.type < ACL_RT_BINARY_LOAD_OPT_LAZY_LOAD ||
        option.type > ACL_RT_BINARY_LOAD_OPT_CPU_KERNEL_MODE) {
      refuse(ACL_ERROR_RT_PARAM_INVALID, "no such option of loading");
    }
    if (option.type != ACL_RT_BINARY_LOAD_OPT_MAGIC) continue;
    magic = option.value.magic;
    if (from_file) refuse(ACL_ERROR_RT_PARAM_INVALID, "a file is loaded without a magic");
    if (magic != ACL_RT_BINARY_MAGIC_ELF_AICORE && magic != ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE &&
        magic != ACL_RT_BINARY_MAGIC_ELF_CUBE_CORE) {
      refuse(ACL_ERROR_RT_PARAM_INVALID, "no such magic");
    }
  }
  return magic;
}

// All kernels here are for vector cores. Where a binary does not say so, the magic decides, and
// without one a chip whose cores are split takes its kernels for cube kernels.
void check_cores(Driver& driver, const Function& function) {
  const Loaded& loaded = *function.loaded;
  if (loaded.knows_types || loaded.magic == ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE) return;
  const bool mixed = loaded.magic == ACL_RT_BINARY_MAGIC_ELF_AICORE;
  driver.books.find("kernel-cores", function.name +
                                        ": neither its binary nor the magic of loading " +
                                        "says that it is for vector cores; it is taken for a " +
                                        (mixed ? "mixed kernel" : "cube kernel"));
}

// The values of the arguments at the time of the call.
using Arguments = std::vector<std::vector<uint8_t>>;

// From pointers to them.
Arguments gathered(const Kernel& kernel, void* const* from) {
  Arguments arguments;
  for (uint32_t i = 0; i < kernel.count; ++i) {
    const auto* value = from ? static_cast<const uint8_t*>(from[i]) : nullptr;
    if (!value) refuse(ACL_ERROR_RT_PARAM_INVALID, "an argument without a value");
    arguments.emplace_back(value, value + kernel.parameters[i].bytes);
  }
  return arguments;
}

// From one block that holds them one after the other, each aligned as its type wants.
Arguments unpacked(const Kernel& kernel, const void* block, size_t bytes) {
  Arguments arguments;
  size_t at = 0;
  for (uint32_t i = 0; i < kernel.count; ++i) {
    const Parameter& parameter = kernel.parameters[i];
    at = (at + parameter.alignment - 1) / parameter.alignment * parameter.alignment;
    if (!block || at + parameter.bytes > bytes) {
      refuse(ACL_ERROR_RT_PARAM_INVALID,
             "the kernel takes more than " + text_of(bytes) + " bytes of arguments");
    }
    const auto* value = static_cast<const uint8_t*>(block) + at;
    arguments.emplace_back(value, value + parameter.bytes);
    at += parameter.bytes;
  }
  return arguments;
}

// The allocations that the arguments point into.
Ranges memory_of(Driver& driver, const Stream& stream, const Kernel& kernel,
                 const Arguments& arguments) {
  std::map<uintptr_t, uintptr_t> found;
  for (uint32_t i = 0; i < kernel.count; ++i) {
    if (!kernel.parameters[i].pointer) continue;
    void* at;
    std::memcpy(&at, arguments[i].data(), sizeof(at));
    if (!at) continue;
    const Place place = place_of(driver, at, 0);
    if (place.device != stream.device || !place.problem.empty()) {
      driver.books.find("kernel-argument",
                        "parameter " + std::to_string(i) + " of a kernel points to " +
                            (place.problem.empty() ? "no memory of its device" : place.problem));
      continue;
    }
    const emulator::Allocation* home = place.device->gm.find(at);
    const auto begin = reinterpret_cast<uintptr_t>(home->address);
    found[begin] = begin + home->bytes;
  }
  return {found.begin(), found.end()};
}

// What the card would answer to a kernel that does this; 0: it would notice nothing.
aclError fault_of(const std::string& rule) {
  const auto is = [&](const char* name) { return rule == name; };
  if (is("gm-bounds") || is("gm-unallocated") || is("gm-released") || is("ub-bounds") ||
      is("ub-alignment") || is("gm-alignment")) {
    return ACL_ERROR_RT_VECTOR_CORE_EXCEPTION;
  }
  if (is("assert")) return ACL_ERROR_RT_VECTOR_CORE_TRAP_EXCEPTION;
  if (is("deadlock") || is("flag-never-set")) return ACL_ERROR_RT_VECTOR_CORE_TIMEOUT;
  return ACL_SUCCESS;
}

Effects effects_of(const emulator::Gm& gm) {
  Effects effects;
  for (const emulator::Touched& touched : gm.touched()) {
    const auto at = reinterpret_cast<uintptr_t>(touched.allocation->address);
    for (const auto& [begin, end] : touched.reads) effects.reads.emplace_back(at + begin, at + end);
    for (const auto& [begin, end] : touched.writes)
      effects.writes.emplace_back(at + begin, at + end);
  }
  return effects;
}

Effects run(Driver& driver, Device& device, const Function& function, uint32_t blocks,
            bool together, Arguments& arguments) {
  emulator::Options options;
  options.cores = static_cast<int>(driver.settings["cores"]);
  options.seed = static_cast<uint64_t>(driver.settings["seed"]);
  options.worst_casts = options.seed != 0;
  options.automatic_sync = function.loaded->binary.automatic_sync;
  options.reserve_scratch = function.loaded->binary.reserve_scratch;
  std::vector<void*> pointers;
  for (auto& value : arguments) pointers.push_back(value.data());
  const emulator::Report report = emulator::launch(device.gm, options, static_cast<int>(blocks),
                                                   [&] { function.kernel->call(pointers.data()); });
  if (report.waited_for_all && blocks > 1 && !together) {
    driver.books.find("blocks-apart",
                      function.name +
                          ": its blocks wait for each other in SyncAll, and nothing makes them "
                          "start at once: on a card, two such kernels can wait for ever");
  }
  aclError fault = ACL_SUCCESS;
  std::string text;
  for (const emulator::Finding& finding : report.findings) {
    driver.books.find("kernel", function.name + ": " + finding.text());
    if (fault) continue;
    fault = fault_of(finding.rule);
    text = function.name + ": " + finding.text();
  }
  if (fault) refuse(fault, text);
  return effects_of(device.gm);
}

bool in_use(Driver& driver, const std::shared_ptr<Loaded>& loaded) {
  bool used = false;
  driver.each_pending([&](const Operation& operation) { used |= operation.needs == loaded; });
  return used;
}

// Whether all blocks start at once. Kernels never share the cores here: what would hang is found,
// and does not hang.
bool at_once(const aclrtLaunchKernelCfg* config) {
  bool found = false;
  for (size_t i = 0; config && i < config->numAttrs; ++i) {
    const aclrtLaunchKernelAttr& attribute = config->attrs[i];
    if (attribute.id != ACL_RT_LAUNCH_KERNEL_ATTR_SCHEM_MODE || attribute.value.schemMode > 1) {
      refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "this configuration is not emulated");
    }
    found = attribute.value.schemMode == 1;
  }
  return found;
}

template <class Take>
void launch(Driver& driver, void* handle, uint32_t blocks, void* stream_handle,
            const aclrtLaunchKernelCfg* config, Take take) {
  constexpr uint32_t kMostBlocks = 65535;
  Stream& stream = stream_of(driver, stream_handle);
  const auto function = driver.known(driver.functions, handle, "function-unknown",
                                     "a launch of what is no function, or not any more");
  check_cores(driver, *function);
  const bool together = at_once(config);
  if (blocks == 0 || blocks > kMostBlocks) {
    refuse(ACL_ERROR_RT_PARAM_INVALID, text_of(blocks) + " blocks, not within 1 to 65535");
  }
  const int64_t cores = driver.settings["cores"];
  if (together && blocks > cores) {
    driver.books.refuse("blocks-above-cores", ACL_ERROR_RT_PARAM_INVALID,
                        function->name + ": " + text_of(blocks) +
                            " blocks cannot start at once on " + text_of(cores) + " cores");
  }
  auto arguments = std::make_shared<Arguments>(take(*function));
  Operation operation("kernel",
                      "kernel " + function->name + " on " + text_of(blocks) + " blocks" +
                          (together ? " at once" : ""),
                      memory_of(driver, stream, *function->kernel, *arguments));
  operation.needs = function->loaded;
  operation.run = [&driver, &device = *stream.device, function, blocks, together, arguments] {
    return run(driver, device, *function, blocks, together, *arguments);
  };
  submit(driver, stream, std::move(operation));
}

aclError load_from(const char* function, const std::string& data, bool from_file,
                   const aclrtBinaryLoadOptions* options, aclrtBinHandle* binary) {
  return call(function, text_of(data.size()), [&](Driver& driver, Lock&) {
    Device& device = driver.device();
    if (!binary) refuse(ACL_ERROR_INVALID_PARAM, "nowhere to put the handle");
    const uint32_t magic = magic_of(options, from_file);
    const auto loaded = load(device, data);
    loaded->magic = magic;
    loaded->knows_types = driver.settings["kernel_types"] != 0;
    loaded->knows_parameters = driver.settings["kernel_parameters"] != 0;
    *binary = driver.new_handle();
    driver.binaries[*binary] = loaded;
  });
}

}  // namespace

Loaded::~Loaded() {
  if (library) dlclose(library);
  // A library that stays loaded, which its compiler may want, keeps its name.
  const bool stays = library && dlopen(path_of(file).c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (file >= 0 && !stays) close(file);
}

aclError aclrtBinaryLoadFromData(const void* data, size_t bytes,
                                 const aclrtBinaryLoadOptions* options, aclrtBinHandle* binary) {
  const std::string text = data ? std::string(static_cast<const char*>(data), bytes) : "";
  return load_from("aclrtBinaryLoadFromData", text, false, options, binary);
}

aclError aclrtBinaryLoadFromFile(const char* path, aclrtBinaryLoadOptions* options,
                                 aclrtBinHandle* binary) {
  std::ifstream file(path ? path : "", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return load_from("aclrtBinaryLoadFromFile", text, true, options, binary);
}

aclError aclrtBinaryGetFunction(const aclrtBinHandle binary, const char* name,
                                aclrtFuncHandle* function) {
  return call("aclrtBinaryGetFunction", name ? name : "", [&](Driver& driver, Lock&) {
    if (!name || !function) refuse(ACL_ERROR_INVALID_PARAM, "a null pointer");
    const auto loaded = driver.known(driver.binaries, binary, "binary-unknown",
                                     "aclrtBinaryGetFunction of what is not loaded");
    const std::string described = std::string("jda_emulated_kernel_") + name;
    const auto* kernel = static_cast<const Kernel*>(dlsym(loaded->library, described.c_str()));
    if (!kernel) refuse(ACL_ERROR_RT_PARAM_INVALID, std::string("no kernel ") + name);
    *function = driver.new_handle();
    driver.functions[*function] =
        std::make_shared<Function>(Function{loaded->device, name, loaded, kernel});
  });
}

aclError aclrtBinaryUnLoad(aclrtBinHandle binary) {
  return call("aclrtBinaryUnLoad", "", [&](Driver& driver, Lock&) {
    const auto loaded = driver.known(driver.binaries, binary, "binary-unknown",
                                     "aclrtBinaryUnLoad of what is not loaded");
    if (in_use(driver, loaded)) {
      driver.books.find("unload-in-use", "aclrtBinaryUnLoad before its kernels are complete");
    }
    drop(driver.functions, [&](const Function& function) { return function.loaded == loaded; });
    driver.binaries.erase(binary);
  });
}

aclError aclrtLaunchKernelWithArgsArray(void* function, uint32_t blocks, aclrtStream stream,
                                        aclrtLaunchKernelCfg* config, void** values) {
  return call("aclrtLaunchKernelWithArgsArray", text_of(blocks), [&](Driver& driver, Lock&) {
    launch(driver, function, blocks, stream, config, [&](const Function& launched) {
      // The runtime needs their sizes; the other launch gets them all in one block.
      if (!launched.loaded->knows_parameters) {
        refuse(ACL_ERROR_RT_PARAM_INVALID, "the kernel does not have parameter information");
      }
      return gathered(*launched.kernel, values);
    });
  });
}

aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle function, uint32_t blocks,
                                       aclrtStream stream, aclrtLaunchKernelCfg* config,
                                       void* arguments, size_t argument_bytes,
                                       aclrtPlaceHolderInfo* placeholders,
                                       size_t placeholder_count) {
  return call("aclrtLaunchKernelWithHostArgs", text_of(blocks), [&](Driver& driver, Lock&) {
    if (placeholders || placeholder_count) {
      refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "placeholders are not emulated");
    }
    launch(driver, function, blocks, stream, config, [&](const Function& launched) {
      return unpacked(*launched.kernel, arguments, argument_bytes);
    });
  });
}
