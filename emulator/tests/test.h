// A test is a function that registers itself; the last line of the output counts them.
#pragma once

#include <cstdio>
#include <vector>

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}

#define TEST(name)                                                                \
  static void name();                                                             \
  static const bool name##_registered = (tests().push_back({#name, name}), true); \
  static void name()

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) {                                           \
      std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++failures();                                               \
    }                                                             \
  } while (false)

inline int run_tests() {
  int passed = 0, failed = 0;
  for (const Test& test : tests()) {
    failures() = 0;
    test.run();
    if (failures()) std::printf("FAILED %s\n", test.name);
    failures() ? ++failed : ++passed;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
