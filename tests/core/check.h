// SPDX-License-Identifier: Apache-2.0
// check.h - the registry and the checks of the core's own tests. main.cc runs what is registered.
//
//   TEST(Sizes, AreChecked) { CHECK(CheckedMultiply(2, 3) == 6); }
//
// A failed check ends its test, not the run.
#pragma once

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace pyinfer::testing {

struct Test {
  std::string name;
  std::function<void()> run;
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

struct Registration {
  Registration(const char* name, void (*run)()) { Tests().push_back({name, run}); }
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void Fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

template <typename A, typename B>
void CheckEqual(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream shown;
  shown << text << ": <" << a << "> is not <" << b << ">";
  Fail(file, line, shown.str().substr(0, 2000));
}

}  // namespace pyinfer::testing

#define TEST(group, name)                                                                                        \
  static void group##_##name();                                                                                  \
  static const ::pyinfer::testing::Registration group##_##name##_registration(#group "." #name, group##_##name); \
  static void group##_##name()

#define CHECK(condition) ((condition) ? void() : ::pyinfer::testing::Fail(__FILE__, __LINE__, "not true: " #condition))

#define CHECK_EQ(a, b) ::pyinfer::testing::CheckEqual(__FILE__, __LINE__, #a " == " #b, a, b)
