// Kernel binaries on disk: compiled once, used by every later process of the user.

#ifndef JDA_ASCEND_LAUNCHER_CACHE_H_
#define JDA_ASCEND_LAUNCHER_CACHE_H_

#include <functional>
#include <string>
#include <vector>

namespace jda_ascend {

struct Cache {
  std::string folder;  // "": there is no place for one
  int wait_seconds;    // for another process that makes the same entry
};

// The folder JDA_ASCEND_CACHE, or jda in $XDG_CACHE_HOME or ~/.cache, and JDA_ASCEND_CACHE_WAIT.
Cache ConfiguredCache();

// A name for what depends on these texts and on nothing else.
std::string CacheKey(const std::vector<std::string>& texts);

// Hands the entry of that key to `use`; without one, or if `use` refuses it, keeps what `make` returns
// in its place, and nothing if it throws. `make` is told in which folder it will be kept; "": in none.
// Of many processes that want the same entry at once, one makes it and the others wait, as long as the
// cache says. An entry that is damaged, or that others than the user could have written, is made anew.
// Where nothing can be kept, the bytes are only made, after a warning on stderr, one for a process.
void FindOrMake(const Cache& cache, const std::string& key,
                const std::function<bool(const std::string&)>& use,
                const std::function<std::string(const std::string& folder)>& make);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_CACHE_H_
