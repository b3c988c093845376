#include "cache.h"

#include <algorithm>

#include "judge.h"

namespace emulator {

namespace {

uintptr_t line_of(uintptr_t address) { return address / kCacheLine; }

template <class Visit>
void each_line(const GmRange& range, Visit visit) {
  const auto begin = reinterpret_cast<uintptr_t>(range.allocation->address) + range.begin;
  for (uintptr_t line = line_of(begin); line * kCacheLine < begin + range.size; ++line) visit(line);
}

}  // namespace

void ScalarCache::check(const Instruction& i) {
  if (gm_.scalar_stores.empty()) return;
  for (const GmRange& range : i.gm) {
    each_line(range, [&](uintptr_t line) {
      const auto store = gm_.scalar_stores.find(line);
      if (store != gm_.scalar_stores.end() && store->second.core != core_) {
        judge_.report("gm-cache-line", Severity::error,
                      std::string(i.name) + " touches a 64-byte line of " + range.allocation->name +
                          " in which another core stores scalars",
                      i.site, store->second.site);
      }
      if (i.pipe != Pipe::S && dirty_.count(line)) {
        judge_.report(
            "gm-cache-dirty", Severity::error,
            std::string(i.name) + " touches a line of " + range.allocation->name +
                " that a scalar store left in the cache: DataCacheCleanAndInvalid is missing",
            i.site, dirty_[line]);
      }
    });
  }
}

void ScalarCache::load(const Instruction& i) {
  for (const GmRange& range : i.gm) {
    uint64_t changed = 0;
    range.allocation->shadow.each(range.begin, range.size, false, [&](GmCell& cell, uint64_t) {
      if (cell.changed > changed) changed = cell.changed;
    });
    if (changed <= gm_.launch_clock) continue;
    each_line(range, [&](uintptr_t line) {
      const auto cleaned = cleaned_.find(line);
      if (changed <= all_cleaned_ || (cleaned != cleaned_.end() && changed <= cleaned->second))
        return;
      judge_.report("gm-cache-stale", Severity::error,
                    std::string(i.name) + " reads " + range.allocation->name +
                        ", which a copy has changed: DataCacheCleanAndInvalid is missing",
                    i.site);
    });
  }
}

void ScalarCache::store(const Instruction& i) {
  for (const GmRange& range : i.gm) {
    const auto base = reinterpret_cast<uintptr_t>(range.allocation->address);
    each_line(range, [&](uintptr_t line) {
      dirty_.emplace(line, i.site);
      gm_.scalar_stores.emplace(line, ScalarStore{core_, i.site});
      const uintptr_t begin = std::max(line * kCacheLine, base);
      const uintptr_t end = std::min((line + 1) * kCacheLine, base + range.allocation->bytes);
      bool shared = false;
      range.allocation->shadow.each(begin - base, end - begin, false, [&](GmCell& cell, uint64_t) {
        if (cell.epoch <= gm_.launch_epoch) return;
        shared = shared || cell.many_writers || (cell.writer >= 0 && cell.writer != core_) ||
                 cell.many_readers || (cell.reader >= 0 && cell.reader != core_);
      });
      if (shared) {
        judge_.report("gm-cache-line", Severity::error,
                      std::string(i.name) + " stores a scalar in a 64-byte line of " +
                          range.allocation->name + " that another core touches",
                      i.site);
      }
    });
  }
}

void ScalarCache::clean(uintptr_t address) {
  cleaned_[line_of(address)] = gm_.clock;
  dirty_.erase(line_of(address));
}

void ScalarCache::clean_all() {
  all_cleaned_ = gm_.clock;
  dirty_.clear();
}

void ScalarCache::finish() {
  for (const auto& [line, site] : dirty_) {
    judge_.report(
        "gm-cache-dirty", Severity::unspecified,
        "the kernel ends with a scalar store in the cache: DataCacheCleanAndInvalid is missing",
        site);
  }
}

}  // namespace emulator
