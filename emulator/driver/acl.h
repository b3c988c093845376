// The part of CANN's C interface that the emulated driver has, declared a second time: from CANN's
// published headers, not from what any program makes of them. A launcher that has a number or a layout
// wrong meets it here as it would on a card.
#ifndef JDA_EMULATOR_DRIVER_ACL_H_
#define JDA_EMULATOR_DRIVER_ACL_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- handles

typedef void* aclrtStream;
typedef void* aclrtEvent;
typedef void* aclrtBinHandle;
typedef void* aclrtFuncHandle;
typedef void* aclrtcProg;
typedef int aclError;

// ---- error codes: 1xxxxx is the caller's fault, 2xxxxx a lack of something, 5xxxxx an inner failure

enum {
  ACL_SUCCESS = 0,
  // of the interface itself
  ACL_ERROR_INVALID_PARAM = 100000,
  ACL_ERROR_UNINITIALIZE = 100001,
  ACL_ERROR_REPEAT_INITIALIZE = 100002,
  ACL_ERROR_INVALID_FILE = 100003,
  // of the runtime below
  ACL_ERROR_RT_PARAM_INVALID = 107000,
  ACL_ERROR_RT_INVALID_DEVICEID = 107001,
  ACL_ERROR_RT_CONTEXT_NULL = 107002,
  ACL_ERROR_RT_STREAM_CONTEXT = 107003,
  ACL_ERROR_RT_INVALID_HANDLE = 107017,
  ACL_ERROR_RT_WAIT_TIMEOUT = 107019,
  ACL_ERROR_RT_FEATURE_NOT_SUPPORT = 207000,
  ACL_ERROR_RT_MEMORY_ALLOCATION = 207001,
  ACL_ERROR_RT_NO_DEVICE = 207004,
  ACL_ERROR_RT_AICORE_TIMEOUT = 507014,
  ACL_ERROR_RT_AICORE_EXCEPTION = 507015,
  ACL_ERROR_RT_VECTOR_CORE_TIMEOUT = 507034,
  ACL_ERROR_RT_VECTOR_CORE_EXCEPTION = 507035,
  ACL_ERROR_RT_VECTOR_CORE_TRAP_EXCEPTION = 507036,
  ACL_ERROR_RT_VECTOR_CORE_TRAP_READ_OVERFLOW = 507044,
  ACL_ERROR_RT_VECTOR_CORE_TRAP_WRITE_OVERFLOW = 507045,
  ACL_ERROR_RT_STREAM_SYNC_TIMEOUT = 507046,
  ACL_ERROR_RT_DEVICE_MEM_ERROR = 507053,
  // of the run-time compiler
  ACL_ERROR_RTC_INVALID_PROG = 176000,
  ACL_ERROR_RTC_INVALID_INPUT = 176001,
  ACL_ERROR_RTC_INVALID_OPTION = 176002,
  ACL_ERROR_RTC_COMPILATION = 176003,
  ACL_ERROR_RTC_LINKING = 176004,
  ACL_ERROR_RTC_PROG_CREATION_FAILURE = 276000,
  ACL_ERROR_RTC_OUT_OF_MEMORY = 276001,
  ACL_ERROR_RTC_FAILURE = 576000
};

// ---- start

typedef enum aclCANNPackageName { ACL_PKG_NAME_CANN = 0 } aclCANNPackageName;

typedef struct aclCANNPackageVersion {
  char version[128];
  char majorVersion[64];
  char minorVersion[64];
  char releaseVersion[64];
  char patchVersion[64];
  char reserved[128];
} aclCANNPackageVersion;

aclError aclInit(const char* config_file);
const char* aclGetRecentErrMsg(void);
aclError aclsysGetCANNVersion(aclCANNPackageName package, aclCANNPackageVersion* version);

// ---- devices

typedef enum aclrtDevAttr { ACL_DEV_ATTR_VECTOR_CORE_NUM = 201 } aclrtDevAttr;

typedef enum aclrtDevResLimitType {
  ACL_RT_DEV_RES_CUBE_CORE = 0,
  ACL_RT_DEV_RES_VECTOR_CORE = 1
} aclrtDevResLimitType;

aclError aclrtSetDevice(int32_t id);
aclError aclrtResetDevice(int32_t id);
aclError aclrtGetDevice(int32_t* id);
aclError aclrtGetDeviceCount(uint32_t* count);
aclError aclrtGetDeviceInfo(uint32_t id, aclrtDevAttr attribute, int64_t* value);
aclError aclrtGetDeviceResLimit(int32_t id, aclrtDevResLimitType type, uint32_t* value);
const char* aclrtGetSocName(void);

// ---- memory

typedef enum aclrtMemMallocPolicy {
  ACL_MEM_MALLOC_HUGE_FIRST = 0,
  ACL_MEM_MALLOC_HUGE_ONLY = 1,
  ACL_MEM_MALLOC_NORMAL_ONLY = 2
} aclrtMemMallocPolicy;

typedef enum aclrtMemAttr { ACL_DDR_MEM = 0, ACL_HBM_MEM = 1 } aclrtMemAttr;

typedef enum aclrtMemcpyKind {
  ACL_MEMCPY_HOST_TO_HOST = 0,
  ACL_MEMCPY_HOST_TO_DEVICE = 1,
  ACL_MEMCPY_DEVICE_TO_HOST = 2,
  ACL_MEMCPY_DEVICE_TO_DEVICE = 3,
  ACL_MEMCPY_DEFAULT = 4
} aclrtMemcpyKind;

aclError aclrtMalloc(void** memory, size_t bytes, aclrtMemMallocPolicy policy);
aclError aclrtFree(void* memory);
aclError aclrtMallocHost(void** memory, size_t bytes);
aclError aclrtFreeHost(void* memory);
aclError aclrtGetMemInfo(aclrtMemAttr attribute, size_t* free, size_t* total);
aclError aclrtMemcpyAsync(void* to, size_t to_bytes, const void* from, size_t bytes,
                          aclrtMemcpyKind kind, aclrtStream stream);
aclError aclrtMemsetAsync(void* memory, size_t memory_bytes, int32_t value, size_t bytes,
                          aclrtStream stream);

// ---- streams and events

// Flags of an event.
enum { ACL_EVENT_SYNC = 1, ACL_EVENT_CAPTURE_STREAM_PROGRESS = 2, ACL_EVENT_TIME_LINE = 8 };

typedef enum aclrtEventRecordedStatus {
  ACL_EVENT_RECORDED_STATUS_NOT_READY = 0,
  ACL_EVENT_RECORDED_STATUS_COMPLETE = 1
} aclrtEventRecordedStatus;

aclError aclrtCreateStream(aclrtStream* stream);
aclError aclrtDestroyStream(aclrtStream stream);
aclError aclrtSynchronizeStream(aclrtStream stream);
aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flags);
aclError aclrtDestroyEvent(aclrtEvent event);
aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream);
aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event);
aclError aclrtSynchronizeEvent(aclrtEvent event);
aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status);

// ---- binaries

typedef enum aclrtBinaryLoadOptionType {
  ACL_RT_BINARY_LOAD_OPT_LAZY_LOAD = 1,
  ACL_RT_BINARY_LOAD_OPT_MAGIC = 2,
  ACL_RT_BINARY_LOAD_OPT_CPU_KERNEL_MODE = 3
} aclrtBinaryLoadOptionType;

// What a binary's kernels are for, where the binary itself does not say it.
enum {
  ACL_RT_BINARY_MAGIC_ELF_AICORE = 0x43554245,
  ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE = 0x41415246,
  ACL_RT_BINARY_MAGIC_ELF_CUBE_CORE = 0x41494343
};

typedef union aclrtBinaryLoadOptionValue {
  uint32_t isLazyLoad;
  uint32_t magic;
  int32_t cpuKernelMode;
  uint32_t rsv[4];
} aclrtBinaryLoadOptionValue;

typedef struct aclrtBinaryLoadOption {
  aclrtBinaryLoadOptionType type;
  aclrtBinaryLoadOptionValue value;
} aclrtBinaryLoadOption;

typedef struct aclrtBinaryLoadOptions {
  aclrtBinaryLoadOption* options;
  size_t numOpt;
} aclrtBinaryLoadOptions;

aclError aclrtBinaryLoadFromFile(const char* path, aclrtBinaryLoadOptions* options,
                                 aclrtBinHandle* binary);
aclError aclrtBinaryLoadFromData(const void* data, size_t bytes,
                                 const aclrtBinaryLoadOptions* options, aclrtBinHandle* binary);
aclError aclrtBinaryGetFunction(const aclrtBinHandle binary, const char* name,
                                aclrtFuncHandle* function);
aclError aclrtBinaryUnLoad(aclrtBinHandle binary);

// ---- launches

typedef enum aclrtLaunchKernelAttrId {
  ACL_RT_LAUNCH_KERNEL_ATTR_SCHEM_MODE = 1
} aclrtLaunchKernelAttrId;

typedef union aclrtLaunchKernelAttrValue {
  uint8_t schemMode;
  uint32_t rsv[4];
} aclrtLaunchKernelAttrValue;

typedef struct aclrtLaunchKernelAttr {
  aclrtLaunchKernelAttrId id;
  aclrtLaunchKernelAttrValue value;
} aclrtLaunchKernelAttr;

typedef struct aclrtLaunchKernelCfg {
  aclrtLaunchKernelAttr* attrs;
  size_t numAttrs;
} aclrtLaunchKernelCfg;

typedef struct aclrtPlaceHolderInfo aclrtPlaceHolderInfo;

aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle function, uint32_t blocks,
                                       aclrtStream stream, aclrtLaunchKernelCfg* config,
                                       void* arguments, size_t argument_bytes,
                                       aclrtPlaceHolderInfo* placeholders,
                                       size_t placeholder_count);
aclError aclrtLaunchKernelWithArgsArray(void* function, uint32_t blocks, aclrtStream stream,
                                        aclrtLaunchKernelCfg* config, void** arguments);

// ---- run-time compilation, in a library of its own

aclError aclrtcCreateProg(aclrtcProg* program, const char* source, const char* name,
                          int header_count, const char** headers, const char** header_names);
aclError aclrtcCompileProg(aclrtcProg program, int option_count, const char** options);
aclError aclrtcGetCompileLogSize(aclrtcProg program, size_t* bytes);
aclError aclrtcGetCompileLog(aclrtcProg program, char* log);
aclError aclrtcGetBinDataSize(aclrtcProg program, size_t* bytes);
aclError aclrtcGetBinData(aclrtcProg program, char* data);
aclError aclrtcDestroyProg(aclrtcProg* program);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // JDA_EMULATOR_DRIVER_ACL_H_
