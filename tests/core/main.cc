// SPDX-License-Identifier: Apache-2.0
// main.cc - runs the core's tests: all, or those whose name contains the first argument. Exits with 1 where one fails.
#include <cstdio>
#include <exception>

#include "check.h"

int main(int argc, char** argv) {
  const std::string filter = argc > 1 ? argv[1] : "";
  int passed = 0;
  int failed = 0;
  for (const pyinfer::testing::Test& test : pyinfer::testing::Tests()) {
    if (test.name.find(filter) == std::string::npos) continue;
    try {
      test.run();
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.name.c_str(), error.what());
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed != 0 ? 0 : 1;
}
