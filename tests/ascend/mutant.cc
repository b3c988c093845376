// The counters of the switches, and what a mutant of the tiling has to pass.

#include "mutant.h"

#include <unistd.h>

#define main test_all_tilings
#include "tiling_test.cc"
#undef main

namespace mutant {

int chosen = -1;
long long steps = 0, most_steps = 1LL << 62;

void give_up() { _exit(3); }

}  // namespace mutant

extern "C" int* jda_mutant() { return &mutant::chosen; }
extern "C" long long* jda_mutant_steps() { return &mutant::steps; }
extern "C" long long* jda_mutant_most_steps() { return &mutant::most_steps; }
// Less than the test itself: switches take their time.
extern "C" int jda_check_tiling() {
  check_named_cases();
  if (failures == 0) check_groups(60);
  if (failures == 0) check_random(200);
  return failures;
}
