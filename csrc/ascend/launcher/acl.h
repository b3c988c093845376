// The part of the Ascend Computing Language (ACL) that the launcher calls: our own declarations, so
// that nothing here needs CANN to build. Names, numbers and layouts are those of CANN's C interface.
// Functions marked optional are missing in older toolkits.

#ifndef JDA_ASCEND_LAUNCHER_ACL_H_
#define JDA_ASCEND_LAUNCHER_ACL_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int aclError;
typedef void* aclrtStream;  // null: the default stream of the device
typedef void* aclrtEvent;
typedef void* aclrtBinHandle;
typedef void* aclrtFuncHandle;
typedef void* aclrtcProg;
typedef struct aclrtPlaceHolderInfo aclrtPlaceHolderInfo;  // always null here

enum {
  ACL_SUCCESS = 0,
  ACL_ERROR_INVALID_PARAM = 100000,
  ACL_ERROR_REPEAT_INITIALIZE = 100002,
  ACL_ERROR_INVALID_FILE = 100003,
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
  ACL_ERROR_RTC_INVALID_PROG = 176000,
  ACL_ERROR_RTC_INVALID_INPUT = 176001,
  ACL_ERROR_RTC_INVALID_OPTION = 176002,
  ACL_ERROR_RTC_COMPILATION = 176003,
  ACL_ERROR_RTC_LINKING = 176004,
  ACL_ERROR_RTC_PROG_CREATION_FAILURE = 276000,
  ACL_ERROR_RTC_OUT_OF_MEMORY = 276001,
  ACL_ERROR_RTC_FAILURE = 576000
};

typedef enum aclrtMemMallocPolicy {
  ACL_MEM_MALLOC_HUGE_FIRST = 0,
  ACL_MEM_MALLOC_HUGE_ONLY = 1,
  ACL_MEM_MALLOC_NORMAL_ONLY = 2
} aclrtMemMallocPolicy;

typedef enum aclrtMemcpyKind {
  ACL_MEMCPY_HOST_TO_HOST = 0,
  ACL_MEMCPY_HOST_TO_DEVICE = 1,
  ACL_MEMCPY_DEVICE_TO_HOST = 2,
  ACL_MEMCPY_DEVICE_TO_DEVICE = 3,
  ACL_MEMCPY_DEFAULT = 4
} aclrtMemcpyKind;

typedef enum aclrtMemAttr { ACL_DDR_MEM = 0, ACL_HBM_MEM = 1 } aclrtMemAttr;

typedef enum aclrtDevAttr { ACL_DEV_ATTR_VECTOR_CORE_NUM = 201 } aclrtDevAttr;

typedef enum aclrtDevResLimitType {
  ACL_RT_DEV_RES_CUBE_CORE = 0,
  ACL_RT_DEV_RES_VECTOR_CORE = 1
} aclrtDevResLimitType;

// Of aclrtCreateEventExWithFlag; they may be combined.
enum { ACL_EVENT_SYNC = 1, ACL_EVENT_CAPTURE_STREAM_PROGRESS = 2, ACL_EVENT_TIME_LINE = 8 };

typedef enum aclrtEventRecordedStatus {
  ACL_EVENT_RECORDED_STATUS_NOT_READY = 0,
  ACL_EVENT_RECORDED_STATUS_COMPLETE = 1
} aclrtEventRecordedStatus;

typedef enum aclrtBinaryLoadOptionType {
  ACL_RT_BINARY_LOAD_OPT_LAZY_LOAD = 1,
  ACL_RT_BINARY_LOAD_OPT_MAGIC = 2,
  ACL_RT_BINARY_LOAD_OPT_CPU_KERNEL_MODE = 3
} aclrtBinaryLoadOptionType;

enum {
  ACL_RT_BINARY_MAGIC_ELF_AICORE = 0x43554245,
  ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE = 0x41415246
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

typedef enum aclrtLaunchKernelAttrId {
  ACL_RT_LAUNCH_KERNEL_ATTR_SCHEM_MODE = 1
} aclrtLaunchKernelAttrId;

typedef union aclrtLaunchKernelAttrValue {
  uint8_t schemMode;  // 0: blocks start as cores become idle, 1: all at once
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

typedef enum aclCANNPackageName { ACL_PKG_NAME_CANN = 0 } aclCANNPackageName;

typedef struct aclCANNPackageVersion {
  char version[128];
  char majorVersion[64];
  char minorVersion[64];
  char releaseVersion[64];
  char patchVersion[64];
  char reserved[128];
} aclCANNPackageVersion;

// libacl_rt.so, or libascendcl.so of older toolkits.

aclError aclInit(const char* config_path);
const char* aclGetRecentErrMsg(void);  // of this thread; null if there is none; clears it
aclError aclsysGetCANNVersion(aclCANNPackageName name, aclCANNPackageVersion* version);  // optional

aclError aclrtSetDevice(int32_t device);
aclError aclrtGetDevice(int32_t* device);
aclError aclrtGetDeviceCount(uint32_t* count);
aclError aclrtGetDeviceInfo(uint32_t device, aclrtDevAttr attribute, int64_t* value);  // optional
// What this process may use of a card. Optional.
aclError aclrtGetDeviceResLimit(int32_t device, aclrtDevResLimitType type, uint32_t* value);
const char* aclrtGetSocName(void);
aclError aclrtGetMemInfo(aclrtMemAttr attribute, size_t* free, size_t* total);

aclError aclrtCreateStream(aclrtStream* stream);
aclError aclrtDestroyStream(aclrtStream stream);
aclError aclrtSynchronizeStream(aclrtStream stream);

// Events that may be recorded again and again: a wait takes the latest record before it.
aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flag);
aclError aclrtDestroyEvent(aclrtEvent event);
aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream);
aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event);
aclError aclrtSynchronizeEvent(aclrtEvent event);
aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status);

aclError aclrtMalloc(void** pointer, size_t bytes, aclrtMemMallocPolicy policy);
aclError aclrtFree(void* pointer);  // at once: it waits for nothing
aclError aclrtMallocHost(void** pointer, size_t bytes);
aclError aclrtFreeHost(void* pointer);
aclError aclrtMemcpyAsync(void* to, size_t to_bytes, const void* from, size_t bytes,
                          aclrtMemcpyKind kind, aclrtStream stream);
aclError aclrtMemsetAsync(void* pointer, size_t pointer_bytes, int32_t value, size_t bytes,
                          aclrtStream stream);

aclError aclrtBinaryLoadFromFile(const char* path, aclrtBinaryLoadOptions* options,
                                 aclrtBinHandle* binary);
aclError aclrtBinaryLoadFromData(const void* data, size_t bytes,
                                 const aclrtBinaryLoadOptions* options,
                                 aclrtBinHandle* binary);  // optional
aclError aclrtBinaryGetFunction(const aclrtBinHandle binary, const char* name,
                                aclrtFuncHandle* function);
aclError aclrtBinaryUnLoad(aclrtBinHandle binary);
// `arguments` holds the values of all parameters of the kernel, each aligned as its type wants.
aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle function, uint32_t blocks,
                                       aclrtStream stream, aclrtLaunchKernelCfg* config,
                                       void* arguments, size_t argument_bytes,
                                       aclrtPlaceHolderInfo* placeholders,
                                       size_t placeholder_count);  // optional
// arguments[i] points to the value of the i-th parameter. Refused for a kernel whose binary does not
// describe its parameters. Optional.
aclError aclrtLaunchKernelWithArgsArray(void* function, uint32_t blocks, aclrtStream stream,
                                        aclrtLaunchKernelCfg* config, void** arguments);

// libacl_rtc.so: run-time compilation. Missing in older toolkits.

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

#endif  // JDA_ASCEND_LAUNCHER_ACL_H_
