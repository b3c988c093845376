#include "report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace emulator {

std::string Finding::text() const {
  std::string text =
      rule + (severity == Severity::error ? " (error)" : " (unspecified)") + ": " + message;
  text += "\n    at " + site.text();
  if (number) text += ", instruction " + std::to_string(number);
  if (other.line) text += "\n    and " + other.text();
  if (other_number) text += ", instruction " + std::to_string(other_number);
  return text + "\n    first on core " + std::to_string(core) + ", " + std::to_string(count) +
         " times in all";
}

bool Report::has(const std::string& rule) const {
  return std::any_of(findings.begin(), findings.end(),
                     [&](const Finding& f) { return f.rule == rule; });
}

PipeCost Report::total(Pipe pipe) const {
  PipeCost sum;
  for (const CoreCost& core : cores) {
    const PipeCost& cost = core.pipe[index(pipe)];
    sum.instructions += cost.instructions;
    sum.repeats += cost.repeats;
    sum.rows += cost.rows;
    sum.bytes += cost.bytes;
    sum.busy += cost.busy;
  }
  return sum;
}

std::string Report::text() const {
  std::string text;
  for (const Finding& finding : findings) text += finding.text() + "\n";
  for (const std::string& note : notes) text += "note: " + note + "\n";
  char line[256];
  for (int p = 0; p < kPipes; ++p) {
    const PipeCost cost = total(static_cast<Pipe>(p));
    std::snprintf(
        line, sizeof(line),
        "%-5s %12llu instructions %14llu repeats %12llu rows %16llu bytes %14.0f modelled cycles\n",
        kPipeName[p], static_cast<unsigned long long>(cost.instructions),
        static_cast<unsigned long long>(cost.repeats), static_cast<unsigned long long>(cost.rows),
        static_cast<unsigned long long>(cost.bytes), cost.busy);
    text += line;
  }
  std::snprintf(line, sizeof(line),
                "modelled time of the card: %.0f cycles, %.1f us (a model, not a measurement)\n",
                modelled_cycles, modelled_microseconds);
  return text + line;
}

void Report::write_trace(const std::string& path) const {
  std::ofstream out(path);
  out << "{\"otherData\":{\"what\":\"modelled, not measured; 1 us stands for 1 "
         "cycle\"},\"traceEvents\":[\n";
  bool first = true;
  for (size_t core = 0; core < cores.size(); ++core) {
    for (int p = 1; p < kPipes; ++p) {
      out << (first ? "" : ",\n") << "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":" << core
          << ",\"tid\":" << p << ",\"args\":{\"name\":\"" << kPipeName[p] << "\"}}";
      first = false;
    }
  }
  for (const TraceEvent& event : trace) {
    out << ",\n{\"ph\":\"X\",\"name\":\"" << event.by.name << "\",\"pid\":" << event.core
        << ",\"tid\":" << index(event.pipe) << ",\"ts\":" << event.begin
        << ",\"dur\":" << event.end - event.begin << ",\"args\":{\"at\":\"" << event.by.site.text()
        << "\"}}";
  }
  out << "\n]}\n";
}

void Findings::add(Finding finding) {
  // Messages of one clash differ in addresses only.
  const Key key{finding.rule, finding.site.file, finding.site.line, finding.other.file,
                finding.other.line};
  const auto [known, fresh] = known_.try_emplace(key, list_.size());
  const std::pair<int, uint32_t> instruction{finding.core, finding.number};
  if (fresh) {
    list_.push_back(std::move(finding));
    last_.push_back(instruction);
    list_.back().count = 1;
  } else if (finding.number == 0 || last_[known->second] != instruction) {
    ++list_[known->second].count;
    last_[known->second] = instruction;
  }
}

void Findings::note(const std::string& text) {
  if (std::find(notes_.begin(), notes_.end(), text) == notes_.end()) notes_.push_back(text);
}

}  // namespace emulator
