// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <string_view>
#include <variant>

#include "check.h"
#include "protocol/header_forwarding.h"

namespace pyinfer {
namespace {

// What one header becomes: "name=value" for a parameter, "" where it is kept back, or the text of the error.
std::string Forwarded(const std::string& pattern, std::string_view name, std::string_view value = "v") {
  auto made = HeaderForwarding::Make(pattern);
  CHECK(made.ok());
  std::string shown;
  for (int time = 0; time < 2; ++time) {  // the second time it is remembered
    Parameters parameters;
    const Status status = made.value()->Forward(name, value, parameters);
    std::string now = status.message();
    if (!status.ok()) CHECK(status.code() == Code::kInvalidArg && parameters.empty());
    for (const auto& [key, text] : parameters) now += key + "=" + std::get<std::string>(text);
    if (time == 1) CHECK_EQ(now, shown);
    shown = now;
  }
  return shown;
}

TEST(HeaderForwarding, FindsThePatternAnywhere) {
  CHECK_EQ(Forwarded("tenant", "x-tenant-id", "acme"), "x-tenant-id=acme");
  CHECK_EQ(Forwarded("^tenant", "x-tenant-id"), "");
  CHECK_EQ(Forwarded("a|b", "xbx"), "xbx=v");
  CHECK_EQ(Forwarded("", "anything", ""), "anything=");
  CHECK_EQ(Forwarded("none", "x-tenant-id"), "");
}

TEST(HeaderForwarding, MindsCaseOnlyWhenAsked) {
  CHECK_EQ(Forwarded("^x-tenant$", "X-Tenant"), "X-Tenant=v");
  CHECK_EQ(Forwarded("(?-i)^x-tenant$", "X-Tenant"), "");
  CHECK_EQ(Forwarded("(?-i)^x-tenant$", "x-tenant"), "x-tenant=v");
}

TEST(HeaderForwarding, RefusesReservedNames) {
  for (const char* name : {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers",
                           "binary_data_output", "triton_enable_empty_final_response", "triton_", "Priority"}) {
    CHECK_EQ(Forwarded(".*", name),
             "Header '" + std::string(name) + "' is reserved for Triton usage and cannot be forwarded.");
    CHECK_EQ(Forwarded("^x-", name), "");
  }
  CHECK_EQ(Forwarded(".*", "x-priority"), "x-priority=v");
  CHECK_EQ(Forwarded(".*", "tritonx"), "tritonx=v");
}

TEST(HeaderForwarding, ValuesAreText) {
  CHECK_EQ(Forwarded(".*", "x", "\xC3\xA9"), "x=\xC3\xA9");
  CHECK_EQ(Forwarded(".*", "x", "\xE9"), "Header 'x' cannot be forwarded: its value is not UTF-8 text.");
  CHECK_EQ(Forwarded("none", "x", "\xE9"), "");
}

TEST(HeaderForwarding, KeepsTheOrder) {
  auto made = HeaderForwarding::Make("^x-");
  Parameters parameters;
  for (const char* name : {"x-b", "y", "x-a", "x-b"}) CHECK(made.value()->Forward(name, name, parameters).ok());
  CHECK_EQ(parameters.size(), size_t{3});
  CHECK_EQ(parameters[0].first + parameters[1].first + parameters[2].first, "x-bx-ax-b");
}

TEST(HeaderForwarding, ForgetsNamesOfClients) {
  auto made = HeaderForwarding::Make("7$");
  Parameters parameters;
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "x-" + std::to_string(i) + std::string(static_cast<size_t>(i % 100), 'y') + "7";
    CHECK(made.value()->Forward(name, "", parameters).ok());
  }
  CHECK_EQ(parameters.size(), size_t{2000});
}

TEST(HeaderForwarding, PatternsThatAreNone) {
  for (const char* pattern : {"(", "[a", "a**", "(?<x>", "\\"}) {
    const auto made = HeaderForwarding::Make(pattern);
    CHECK(!made.ok());
    CHECK(made.status().message().find("is not a regular expression of RE2: ") != std::string::npos);
  }
}

}  // namespace
}  // namespace pyinfer
