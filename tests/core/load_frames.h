// SPDX-License-Identifier: Apache-2.0
// load_frames.h - what a server sends to the sessions of a load, and what these make of it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "load/session.h"

namespace pyinfer::testing {

struct Answers final : SessionHandler {
  void OnAnswerBegins(uint32_t slot) override { begun.push_back(slot); }
  void OnResponse(uint32_t slot) override { responses.push_back(slot); }
  void OnAnswer(uint32_t slot, const Answer& answer) override {
    ended.emplace_back(slot, std::string(answer.error));
    sizes.push_back(answer.size);
    bodies.emplace_back(answer.body);
    tokens.push_back(answer.tokens);
  }
  std::vector<uint32_t> begun;
  std::vector<uint32_t> responses;
  std::vector<std::pair<uint32_t, std::string>> ended;
  std::vector<size_t> sizes;
  std::vector<std::string> bodies;
  std::vector<uint64_t> tokens;
};

using Ended = std::vector<std::pair<uint32_t, std::string>>;

inline const ClientHeaders kHeaders = {
    {":method", "POST"}, {":scheme", "http"}, {":path", "/s/M"}, {":authority", "a"}, {"te", "trailers"}};

inline std::string Number(uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>((value >> shift) & 0xff);
  return text;
}

inline std::string Frame(int type, int flags, uint32_t stream, const std::string& payload) {
  const std::string size = Number(static_cast<uint32_t>(payload.size())).substr(1);
  return size + static_cast<char>(type) + static_cast<char>(flags) + Number(stream) + payload;
}

inline std::string Header(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + name + static_cast<char>(value.size()) + value;
}

inline const std::string kSettings = Frame(4, 0, 0, "");
constexpr int kEndHeaders = 4, kEndStream = 1;

inline std::string Head(uint32_t stream) { return Frame(1, kEndHeaders, stream, "\x88"); }
inline std::string Trailers(uint32_t stream, const std::string& status, const std::string& message = "") {
  const std::string text = message.empty() ? "" : Header("grpc-message", message);
  return Frame(1, kEndHeaders | kEndStream, stream, Header("grpc-status", status) + text);
}

}  // namespace pyinfer::testing
