// Kernel binaries on disk: compiled once, used by every later process of the user.

#ifndef JDA_ASCEND_LAUNCHER_CACHE_H_
#define JDA_ASCEND_LAUNCHER_CACHE_H_

#include <functional>
#include <string>
#include <vector>

namespace jda_ascend {

// The folder for the entries: JDA_ASCEND_CACHE, or jda in $XDG_CACHE_HOME or ~/.cache; "" if there
// is no such place.
std::string CacheFolder();

// A name for what depends on these texts and on nothing else.
std::string CacheKey(const std::vector<std::string>& texts);

// Hands the entry of that key to `use`; without one, or if `use` refuses it, keeps what `make` returns
// in its place, and nothing if it throws. Of many processes that want the same entry at once, one
// makes it and the others wait. A damaged entry is made anew. A folder that cannot be used, or in
// which others could write, is left alone: then the bytes are only made.
void FindOrMake(const std::string& folder, const std::string& key,
                const std::function<bool(const std::string&)>& use,
                const std::function<std::string()>& make);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_CACHE_H_
