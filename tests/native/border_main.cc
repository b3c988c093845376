// Runs a fuzzer of border.h. Clang's libFuzzer calls LLVMFuzzerTestOneInput (-DJDA_LIBFUZZER). Without
// it, main() runs the kept inputs of a folder, and then changed ones:
//     border_fuzz FOLDER [INPUTS [SEED]]

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "border.h"

int64_t border::computed_calls = 0;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  border::one_input(data, size);
  return 0;
}

#if !defined(JDA_LIBFUZZER)
namespace {

using Input = std::vector<uint8_t>;

Input running;  // what a crash would be a finding of

void keep_running() {
  std::ofstream("border.finding", std::ios::binary)
      .write(reinterpret_cast<const char*>(running.data()), running.size());
  std::printf("the input is in border.finding\n");
}

void try_input(const Input& input) {
  running = input;
  border::one_input(running.data(), running.size());
}

Input changed(const std::vector<Input>& kept, std::mt19937_64& random) {
  Input input = kept.empty() ? Input{} : kept[random() % kept.size()];
  if (input.empty()) input.push_back(random());
  if (input.size() < 64 || random() % 4 == 0)
    for (int i = random() % 512; i > 0; --i) input.push_back(random());
  for (int i = random() % 8; i > 0; --i) input[random() % input.size()] = random();
  for (int i = random() % 3; i > 0; --i) input[random() % 16 % input.size()] = random();
  if (random() % 4 == 0) input.resize(1 + random() % input.size());
  return input;
}

}  // namespace

extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

int main(int argc, char** argv) {
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(keep_running);
  std::signal(SIGABRT, [](int) { keep_running(); });
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Input> kept;
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    kept.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    try_input(kept.back());
  }
  const int64_t inputs = argc > 2 ? std::atoll(argv[2]) : 0;
  std::mt19937_64 random(argc > 3 ? std::atoll(argv[3]) : 1);
  for (int64_t i = 0; i < inputs; ++i) try_input(changed(kept, random));
  std::printf("%zu kept and %lld changed inputs: %lld computed, the others refused\n", kept.size(),
              static_cast<long long>(inputs), static_cast<long long>(border::computed_calls));
  // Where nearly everything is refused, nothing is tried.
  return 10 * border::computed_calls < static_cast<int64_t>(kept.size()) + inputs;
}
#endif
