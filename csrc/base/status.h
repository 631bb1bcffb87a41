// SPDX-License-Identifier: Apache-2.0
// status.h - errors as values.
//
// A Status is OK or a code and a text. The text may be sent to a client: it never holds a path, an address or a
// pointer. The codes are Triton's, and two more that only protocols raise (deadline exceeded, resource exhausted).
//
// What makes an error is PYINFER_COLD: the compiler then takes every path that leads there for unlikely, and puts it
// apart from the code that serves requests, texts and all. What serves a request is a quarter smaller for it, and lies
// closer together.
#pragma once

#include <optional>
#include <string>
#include <utility>

#define PYINFER_COLD [[gnu::cold, gnu::noinline]]

namespace pyinfer {

enum class Code {
  kOk,
  kUnknown,
  kInternal,
  kNotFound,
  kInvalidArg,
  kUnavailable,
  kUnsupported,
  kAlreadyExists,
  kCancelled,
  kDeadlineExceeded,
  kResourceExhausted,
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  PYINFER_COLD Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  PYINFER_COLD static Status InvalidArg(std::string message) { return {Code::kInvalidArg, std::move(message)}; }
  PYINFER_COLD static Status Internal(std::string message) { return {Code::kInternal, std::move(message)}; }
  PYINFER_COLD static Status NotFound(std::string message) { return {Code::kNotFound, std::move(message)}; }
  PYINFER_COLD static Status Unavailable(std::string message) { return {Code::kUnavailable, std::move(message)}; }
  PYINFER_COLD static Status Unsupported(std::string message) { return {Code::kUnsupported, std::move(message)}; }
  PYINFER_COLD static Status Cancelled() { return {Code::kCancelled, std::string()}; }

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// A value, or the reason why there is none.
template <typename T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(T value) : value_(std::move(value)) {}          // NOLINT: implicit by design
  StatusOr(Status status) : status_(std::move(status)) {}  // NOLINT: implicit by design
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T* operator->() { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace pyinfer
