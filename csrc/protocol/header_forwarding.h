// SPDX-License-Identifier: Apache-2.0
// header_forwarding.h - headers of a client that become parameters of its requests.
//
// Which ones, a pattern says that is found anywhere in the header's name, whatever its case (a pattern that starts with
// "(?-i)" minds the case). One thread at a time: answers about names are remembered.
//
// Source: Triton's --http-header-forward-pattern and --grpc-header-forward-pattern.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "infer/parameters.h"

namespace re2 {
class RE2;
}

namespace pyinfer {

class HeaderForwarding {
 public:
  // `pattern` in the syntax of RE2; InvalidArg where it is none.
  static StatusOr<std::unique_ptr<HeaderForwarding>> Make(const std::string& pattern);
  ~HeaderForwarding();
  HeaderForwarding(const HeaderForwarding&) = delete;
  HeaderForwarding& operator=(const HeaderForwarding&) = delete;

  // Appends the header to `parameters`, as text, where its name matches. InvalidArg where it does, but a parameter of
  // that name would mean something to the server, or where the value is not text.
  // To be called with the headers that clients choose, not with those that a protocol works with.
  Status Forward(std::string_view name, std::string_view value, Parameters& parameters);

 private:
  enum class Verdict { kKeepBack, kForward, kReserved };

  explicit HeaderForwarding(std::unique_ptr<const re2::RE2> pattern);
  Verdict Judge(std::string_view name) const;

  const std::unique_ptr<const re2::RE2> pattern_;
  std::map<std::string, Verdict, std::less<>> known_;
};

}  // namespace pyinfer
