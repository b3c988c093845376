// Rules that a run in program order can decide: missing synchronisation, flags, and reads of bytes
// that nothing wrote. It does not depend on the order in which the pipes execute.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "instruction.h"
#include "report.h"
#include "shadow.h"

namespace emulator {

// Numbers up to which things are known to be complete: instructions of each pipe, and then the
// WaitFlags of each pipe.
using Knowledge = std::array<uint32_t, 2 * kPipes>;
constexpr int waits_of(Pipe pipe) { return kPipes + index(pipe); }

struct UbCell {
  enum Value : uint8_t { never, dummy, defined };
  uint32_t write = 0;
  std::array<uint32_t, kPipes> read = {};
  uint8_t write_pipe = 0;
  Value value = never;
  bool operator==(const UbCell& o) const {
    return write == o.write && read == o.read && write_pipe == o.write_pipe && value == o.value;
  }
};

// What the compiler's automatic synchronisation puts before an instruction.
struct Insertions {
  bool vector_barrier = false;
  bool scalar_waits[kPipes] = {};  // S waits for this pipe
  bool waits_for_scalar = false;   // the pipe of the instruction waits for S
};

// Whose an event's id is. A queue may set one again while a wait for it is still queued.
enum class FlagOwner : uint8_t { kernel, queue };

constexpr int kEvents = kPipes * kPipes;
constexpr int event_index(Pipe from, Pipe to) { return index(from) * kPipes + index(to); }
inline std::string event_name(int event) {
  return joined(kPipeName[event / kPipes], "_", kPipeName[event % kPipes]);
}
inline std::string flag_name(int event, int id) { return joined(event_name(event), "(", id, ")"); }

class Judge {
 public:
  Judge(int core, const Options& options, Findings& findings, Gm& gm)
      : core_(core), options_(options), findings_(findings), gm_(gm), ub_(kUbBytes) {}

  Insertions access(const Instruction& instruction);
  void define(uint32_t begin, uint32_t size);  // the bytes have values now
  void forget(uint32_t begin, uint32_t size);  // ... and now they have none
  void set_flag(Pipe from, Pipe to, int id, Site site, FlagOwner owner);
  void wait_flag(Pipe from, Pipe to, int id, Site site);
  void barrier(Pipe pipe);
  void barrier_all();
  void scalar_waits(Pipe pipe);  // S and all that it dispatches later start after the pipe is done
  void finish(Site site);
  bool drained() const;  // the scalar unit knows that all pipes are done

  void report(const char* rule, Severity severity, std::string message, Site site, Site other = {},
              uint32_t number = 0, uint32_t other_number = 0);

 private:
  struct Flag {
    bool full = false;
    Knowledge payload = {};
    Site site;
    uint32_t wait = 0;  // the last wait on it, among those of its pipe
    Site wait_site;
  };

  bool known(Pipe pipe, int other, uint32_t number) const {
    return number <= knowledge_[index(pipe)][other];
  }
  void require(const Instruction& i, int other, uint32_t number, const char* rule,
               const char* memory, const std::string& where);
  void raise(int pipe, const Knowledge& to);
  Knowledge all_of(Pipe pipe) const;  // what the pipe knows, and all that it has been given
  void check_ub(const Instruction& i);
  void check_gm(const Instruction& i, const GmRange& range);
  void check_shared_blocks(const Instruction& i, const GmRange& range);
  void check_writer(const Instruction& i, const GmRange& range, const GmCell& cell, uint64_t at);
  void write_gm(const Instruction& i, const GmRange& range, GmCell& cell, uint64_t at);
  void clash(const char* rule, const Instruction& i, const char* what, const std::string& where,
             Severity severity = Severity::error);

  int core_;
  const Options& options_;
  Findings& findings_;
  Gm& gm_;
  Shadow<UbCell> ub_;
  Knowledge issued_ = {};
  std::array<Knowledge, kPipes> knowledge_ = {};
  std::array<std::array<Flag, kEventIds>, kEvents> flags_ = {};
  std::vector<Caller> calls_[kPipes];
  Insertions inserted_;
};

}  // namespace emulator
