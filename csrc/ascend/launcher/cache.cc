#include "cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "environment.h"

namespace jda_ascend {
namespace {

// An entry: this line, the checksum of the bytes in hexadecimal, a line break, the bytes.
constexpr char kHeader[] = "jda kernels 1\n";
constexpr size_t kHexDigits = 32;

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

// What is loaded from the folder runs as the user: nobody else may have put it there.
bool OnlyOursToWrite(const std::string& folder) {
  struct stat status;
  return stat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
         status.st_uid == geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

std::optional<std::string> ReadFile(const std::string& path) {
  const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.open()) return std::nullopt;
  std::string text;
  char piece[65536];
  for (ssize_t count; (count = read(file.descriptor(), piece, sizeof piece)) != 0;) {
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

std::optional<std::string> ReadEntry(const std::string& path) {
  const std::optional<std::string> text = ReadFile(path);
  const size_t head = std::strlen(kHeader), body = head + kHexDigits + 1;
  if (!text || text->size() < body || text->compare(0, head, kHeader) != 0) return std::nullopt;
  std::string bytes = text->substr(body);
  if (text->compare(head, kHexDigits, Checksum(bytes)) != 0) return std::nullopt;
  return bytes;
}

// Readers see the old entry or the whole new one.
void WriteEntry(const std::string& path, const std::string& bytes) {
  std::string draft = path + ".XXXXXX";
  File file(mkostemp(draft.data(), O_CLOEXEC));
  if (!file.open()) return;
  const bool written = WriteFile(file.descriptor(), kHeader + Checksum(bytes) + "\n" + bytes);
  if (!file.Close() || !written || std::rename(draft.c_str(), path.c_str()) != 0) {
    unlink(draft.c_str());
  }
}

}  // namespace

std::string CacheFolder() {
  if (const std::string folder = Environment("JDA_ASCEND_CACHE"); !folder.empty()) return folder;
  if (const std::string base = Environment("XDG_CACHE_HOME"); !base.empty()) return base + "/jda";
  if (const std::string home = Environment("HOME"); !home.empty()) return home + "/.cache/jda";
  return "";
}

std::string CacheKey(const std::vector<std::string>& texts) {
  Hasher hasher;
  for (const std::string& text : texts) {
    hasher.Add(std::to_string(text.size()) + ":");
    hasher.Add(text);
  }
  return hasher.Hex();
}

void FindOrMake(const std::string& folder, const std::string& key,
                const std::function<bool(const std::string&)>& use,
                const std::function<std::string()>& make) {
  if (folder.empty() || !MakeFolder(folder) || !OnlyOursToWrite(folder)) {
    make();
    return;
  }
  const std::string path = folder + "/" + key;
  std::optional<std::string> refused;
  const auto find = [&] {
    std::optional<std::string> bytes = ReadEntry(path);
    if (!bytes || bytes == refused) return false;
    if (use(*bytes)) return true;
    refused = std::move(bytes);
    return false;
  };
  if (find()) return;
  // Closing the file opens the lock. Where files cannot be locked, several processes may make the
  // entry, and the last one stays.
  const File lock(open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.open() && flock(lock.descriptor(), LOCK_EX) == 0 && find()) return;
  WriteEntry(path, make());
}

}  // namespace jda_ascend
