// Memory that kernels need while they run, lent to streams.

#ifndef JDA_ASCEND_LAUNCHER_WORKSPACE_H_
#define JDA_ASCEND_LAUNCHER_WORKSPACE_H_

#include <functional>
#include <list>
#include <mutex>

#include "handle.h"

namespace jda_ascend {

// The workspaces of one card. A block stays with a stream: work of one stream runs in order, so that
// the next call may have it at once. An event after its last use tells when another stream may. No
// call here waits, except after an error: a stream that takes a block from another one waits for it
// on the card.
class Workspaces {
 public:
  // Calls use(memory), which enqueues work on `stream`. Calls take turns, since what one call
  // enqueues must not be mixed with what another one enqueues on the same stream.
  void Use(size_t bytes, aclrtStream stream, const std::function<void(void*)>& use);

  // Frees all blocks, after waiting for the work that uses them; not those that cannot be waited for.
  void Trim();

 private:
  struct Block {
    CardMemory memory;
    size_t bytes;
    Event event;  // after its last use
    aclrtStream stream;
  };
  using Blocks = std::list<Block>;

  Blocks::iterator Take(size_t bytes, aclrtStream stream);
  Blocks::iterator Allocate(size_t bytes, aclrtStream stream);
  void Recover(Blocks::iterator block);

  std::mutex mutex_;
  Blocks blocks_;
  Blocks stuck_;  // that the card may use for ever: nothing tells when it is done with them
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_WORKSPACE_H_
