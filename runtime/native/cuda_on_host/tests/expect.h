// What the test programs need of a test framework.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

inline int failures = 0, checks = 0;

inline void Expect(bool holds, const std::string& what) {
  ++checks;
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

inline int Finish() {
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
