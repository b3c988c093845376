// A card, and what this process keeps on it.

#ifndef JDA_ASCEND_LAUNCHER_DEVICE_H_
#define JDA_ASCEND_LAUNCHER_DEVICE_H_

#include <mutex>
#include <optional>
#include <string>

#include "kernels.h"
#include "lane.h"
#include "workspace.h"

namespace jda_ascend {

// Makes a card current in this thread, as calls of the runtime want it, and in the end the one that
// was current before: others work in this thread too.
class CurrentCard {
 public:
  explicit CurrentCard(int card);
  CurrentCard(const CurrentCard&) = delete;
  CurrentCard& operator=(const CurrentCard&) = delete;
  ~CurrentCard();

 private:
  std::optional<int32_t> previous_;
};

class Device {
 public:
  explicit Device(int card);

  int card() const { return card_; }
  const std::string& soc() const { return soc_; }
  int cores() const { return cores_; }

  // The kernels; the first call loads them. The card must be current.
  const Kernels& kernels();
  std::string kernel_origin();  // "" before that

  Workspaces workspaces;
  Lanes lanes;

 private:
  struct Properties {
    std::string soc;
    int cores;
    size_t bytes;  // of its memory
  };
  static Properties Ask(int card);
  Device(int card, const Properties& properties);

  const int card_;
  const std::string soc_;
  const int cores_;
  std::mutex mutex_;
  std::optional<Kernels> kernels_;
};

// The card that JDA_ASCEND_DEVICE names, else 0.
int ConfiguredCard();

// The thread's current card, else the configured one.
int ThreadsCard();

// Of every card there is one Device in a process. Throws if there is no such card, or of another
// kind than the kernels are for.
Device& TheDevice(int card);

// Frees what is kept for the next call on all cards.
void TrimDevices();

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_DEVICE_H_
