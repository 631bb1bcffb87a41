// SPDX-License-Identifier: Apache-2.0
// load_window.h - what a load has met in a window of time.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "load/latency_histogram.h"

namespace pyinfer {

// Of answers that are streams of responses, which count in the window in which they come, also where their request
// fails.
struct ResponseTimes {
  uint64_t responses = 0;
  // Of output, as the server tells them at the end of an answer; where it does not, each response is one.
  int64_t tokens = 0;
  // From the intended time of sending to the first response of a request.
  LatencyHistogram first;
  // Between a response and the next one of the same request.
  LatencyHistogram gap;
  // Of each successful request with two tokens or more: from its first response to its last, for each token but the
  // first.
  LatencyHistogram token;

  void Merge(const ResponseTimes& other) {
    responses += other.responses;
    tokens += other.tokens;
    first.Merge(other.first);
    gap.Merge(other.gap);
    token.Merge(other.token);
  }
};

// Requests count in the window in which they end. Only successful ones have a latency.
struct LoadWindow {
  // Distinct texts of errors that are kept; the others share one.
  static constexpr size_t kMostErrors = 64;

  TimeNs started = 0;
  TimeNs ended = 0;
  // From the intended time of sending to the end of the answer.
  LatencyHistogram latency;
  // From the intended time of sending to that of sending.
  LatencyHistogram send_delay;
  std::map<std::string, uint64_t, std::less<>> errors;
  uint64_t failed = 0;
  uint64_t connections_opened = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  // Sums over the successful requests: until all of the request was handed to the kernel; from the first bytes of the
  // answer to its last.
  TimeNs send_ns = 0;
  TimeNs receive_ns = 0;
  ResponseTimes streamed;
  // CPU time of the threads of the load.
  TimeNs cpu_ns = 0;
  // At the end of the window: requests that were sent and are not answered; those that were to be sent and are not,
  // and how long the oldest of all of them has been waited for since its intended time.
  uint64_t unanswered = 0;
  uint64_t overdue = 0;
  TimeNs oldest_ns = 0;
  // {intended, sent, ended, number of the body, 1 for an error} of each request, where they are recorded.
  std::vector<std::array<int64_t, 5>> records;
  // Of each of them in the same order, where requests are steps of sequences: the id.
  std::vector<int64_t> sequence_records;
  // Of each of them in the same order, where answers are streams: how many responses, and when each of them came.
  std::vector<int64_t> response_records;

  void AddError(std::string_view text) {
    ++failed;
    const auto found = errors.find(text);
    if (found != errors.end()) {
      ++found->second;
    } else {
      ++errors[errors.size() < kMostErrors ? std::string(text) : std::string("other errors")];
    }
  }

  // Adds what another worker met in the same time, or the same worker in the next window.
  void Merge(const LoadWindow& other) {
    latency.Merge(other.latency);
    send_delay.Merge(other.send_delay);
    for (const auto& [text, count] : other.errors) {
      const bool kept = errors.size() < kMostErrors || errors.count(text) != 0;
      errors[kept ? text : std::string("other errors")] += count;
    }
    failed += other.failed;
    connections_opened += other.connections_opened;
    bytes_sent += other.bytes_sent;
    bytes_received += other.bytes_received;
    send_ns += other.send_ns;
    receive_ns += other.receive_ns;
    streamed.Merge(other.streamed);
    cpu_ns += other.cpu_ns;
    records.insert(records.end(), other.records.begin(), other.records.end());
    sequence_records.insert(sequence_records.end(), other.sequence_records.begin(), other.sequence_records.end());
    response_records.insert(response_records.end(), other.response_records.begin(), other.response_records.end());
  }
};

}  // namespace pyinfer
