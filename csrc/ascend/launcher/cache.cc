#include "cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "environment.h"
#include "progress.h"

namespace jda_ascend {
namespace {

// An entry: this line, the checksum of the bytes in hexadecimal, a line break, the bytes.
constexpr char kHeader[] = "jda kernels 1\n";
constexpr size_t kHexDigits = 32;

constexpr int kUsualWait = 120;  // seconds: a compilation should be over
constexpr std::chrono::milliseconds kPause{20};
constexpr int kDrafts = 1000;  // of one process number, before one gives up

__extension__ using Hash = unsigned __int128;

// FNV-1a with 128 bits: entries are found by it and damage is noticed, no attack is fended off. For
// that only the user may write in the folder.
class Hasher {
 public:
  void Add(const std::string& text) {
    for (const unsigned char c : text) hash_ = (hash_ ^ c) * kPrime;
  }

  std::string Hex() const {
    char text[kHexDigits + 1];
    std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash_ >> 64),
                  static_cast<unsigned long long>(hash_));
    return text;
  }

 private:
  static constexpr Hash kPrime = (Hash{1} << 88) + 0x13b;
  Hash hash_ = (Hash{0x6c62272e07bb0142} << 64) + 0x62b821756295c58d;
};

std::string Checksum(const std::string& bytes) {
  Hasher hasher;
  hasher.Add(bytes);
  return hasher.Hex();
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { Close(); }

  bool open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  bool Close() {
    const bool closed = descriptor_ < 0 || close(descriptor_) == 0;
    descriptor_ = -1;
    return closed;
  }

 private:
  int descriptor_;
};

// Makes the folder and those that it lies in.
bool MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return true;
  const size_t slash = path.rfind('/');
  if (errno != ENOENT || slash == std::string::npos || slash == 0) return false;
  return MakeFolder(path.substr(0, slash)) && (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST);
}

// What is loaded runs as the user: nobody else may have written it.
bool OnlyOursToWrite(int descriptor, mode_t kind) {
  struct stat status;
  return fstat(descriptor, &status) == 0 && (status.st_mode & S_IFMT) == kind &&
         status.st_uid == geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// On stderr, once in a process: the call succeeds all the same.
void Warn(const std::string& text) {
  static std::atomic_flag said = ATOMIC_FLAG_INIT;
  if (!said.test_and_set()) std::fprintf(stderr, "jda: %s\n", text.c_str());
}

void WarnNotKept(const std::string& folder, const std::string& reason) {
  Warn("compiled kernels are not kept in " + folder + ": " + reason);
}

// Opens the folder, made if it is not there; -1, after a warning, if it cannot be used. All work in it
// goes through the descriptor: its path may come to name another folder.
int OpenFolder(const std::string& path) {
  if (path.empty()) {
    Warn(
        "compiled kernels are not kept: neither JDA_ASCEND_CACHE nor XDG_CACHE_HOME nor HOME names "
        "a folder");
    return -1;
  }
  const int folder = MakeFolder(path) ? open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (folder < 0) {
    WarnNotKept(path, std::strerror(errno));
    return -1;
  }
  if (OnlyOursToWrite(folder, S_IFDIR)) return folder;
  WarnNotKept(path,
              "the folder does not belong to the user, or others can write there: chmod go-w");
  close(folder);
  return -1;
}

// Opens a file of the folder, and no link or pipe: a pipe could be waited on for ever.
int OpenFile(int folder, const std::string& name, int flags) {
  const int file =
      openat(folder, name.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0 || OnlyOursToWrite(file, S_IFREG)) return file;
  close(file);
  errno = EPERM;
  return -1;
}

std::optional<std::string> ReadFile(int descriptor) {
  std::string text;
  char piece[65536];
  for (ssize_t count; (count = read(descriptor, piece, sizeof piece)) != 0;) {
    if (count < 0 && errno != EINTR) return std::nullopt;
    if (count > 0) text.append(piece, static_cast<size_t>(count));
  }
  return text;
}

bool WriteFile(int descriptor, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = write(descriptor, text.data() + done, text.size() - done);
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) done += static_cast<size_t>(count);
  }
  return fsync(descriptor) == 0;
}

std::optional<std::string> ReadEntry(int folder, const std::string& key) {
  const File file(OpenFile(folder, key, O_RDONLY));
  if (!file.open()) return std::nullopt;
  const std::optional<std::string> text = ReadFile(file.descriptor());
  const size_t head = std::strlen(kHeader), body = head + kHexDigits + 1;
  if (!text || text->size() < body || text->compare(0, head, kHeader) != 0) return std::nullopt;
  std::string bytes = text->substr(body);
  if (text->compare(head, kHexDigits, Checksum(bytes)) != 0) return std::nullopt;
  return bytes;
}

// A file that was not there before; `name` becomes its name.
int CreateDraft(int folder, const std::string& key, std::string& name) {
  int draft = -1;
  errno = EEXIST;
  for (int n = 0; draft < 0 && errno == EEXIST && n < kDrafts; ++n) {
    name = key + "." + std::to_string(getpid()) + "." + std::to_string(n);
    draft = OpenFile(folder, name, O_WRONLY | O_CREAT | O_EXCL);
  }
  return draft;
}

// Readers see the old entry or the whole new one. False if it was not written; errno tells why.
bool WriteEntry(int folder, const std::string& key, const std::string& bytes) {
  std::string name;
  File draft(CreateDraft(folder, key, name));
  if (!draft.open()) return false;
  if (WriteFile(draft.descriptor(), kHeader + Checksum(bytes) + "\n" + bytes) && draft.Close() &&
      renameat(folder, name.c_str(), folder, key.c_str()) == 0) {
    return true;
  }
  const int reason = errno;
  unlinkat(folder, name.c_str(), 0);
  errno = reason;
  return false;
}

// Waits until the lock is ours, as long as it may take to compile, and no longer: who holds it may
// have been stopped. Where files cannot be locked, there is nothing to wait for.
void Lock(int descriptor, const std::string& path, int seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  for (bool told = false; flock(descriptor, LOCK_EX | LOCK_NB) != 0; told = true) {
    if (errno != EWOULDBLOCK && errno != EINTR) return;
    if (!told) {
      Tell("waiting for another process that compiles the same kernels, for " +
           std::to_string(seconds) + " s at most");
    }
    if (std::chrono::steady_clock::now() >= end) {
      return Warn("another process has held " + path + " for " + std::to_string(seconds) +
                  " s (JDA_ASCEND_CACHE_WAIT): kernels are compiled without waiting for it");
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

Cache ConfiguredCache() {
  const int wait = EnvironmentNumber("JDA_ASCEND_CACHE_WAIT", kUsualWait);
  if (const std::string folder = Environment("JDA_ASCEND_CACHE"); !folder.empty()) {
    return {folder, wait};
  }
  if (const std::string base = Environment("XDG_CACHE_HOME"); !base.empty()) {
    return {base + "/jda", wait};
  }
  if (const std::string home = Environment("HOME"); !home.empty()) {
    return {home + "/.cache/jda", wait};
  }
  return {"", wait};
}

std::string CacheKey(const std::vector<std::string>& texts) {
  Hasher hasher;
  for (const std::string& text : texts) {
    hasher.Add(std::to_string(text.size()) + ":");
    hasher.Add(text);
  }
  return hasher.Hex();
}

void FindOrMake(const Cache& cache, const std::string& key,
                const std::function<bool(const std::string&)>& use,
                const std::function<std::string(const std::string& folder)>& make) {
  const File folder(OpenFolder(cache.folder));
  if (!folder.open()) {
    make("");
    return;
  }
  std::optional<std::string> refused;
  const auto find = [&] {
    std::optional<std::string> bytes = ReadEntry(folder.descriptor(), key);
    if (!bytes || bytes == refused) return false;
    if (use(*bytes)) return true;
    refused = std::move(bytes);
    return false;
  };
  if (find()) return;
  // Closing the file opens the lock. Without one, several processes may make the entry, and the
  // last one stays.
  const std::string name = key + ".lock", path = cache.folder + "/" + name;
  const File lock(OpenFile(folder.descriptor(), name, O_RDWR | O_CREAT));
  if (lock.open()) {
    Lock(lock.descriptor(), path, cache.wait_seconds);
  } else {
    Warn(path +
         " cannot be opened as a file of the user's alone: kernels are compiled without this lock");
  }
  if (find()) return;
  const std::string bytes = make(cache.folder);
  if (!WriteEntry(folder.descriptor(), key, bytes)) {
    WarnNotKept(cache.folder, key + ": " + std::strerror(errno));
  }
}

}  // namespace jda_ascend
