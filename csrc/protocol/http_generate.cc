// SPDX-License-Identifier: Apache-2.0
#include "protocol/http_generate.h"

#include <charconv>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/error_map.h"
#include "protocol/v2_generate.h"
#include "protocol/v2_http.h"
#include "wire/http_head.h"

namespace pyinfer {
namespace {

constexpr std::string_view kNotOne =
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses";
// Of an error that a model responds with, whatever its code.
constexpr int kErrorStatus = 400;

// The object for a response, or for the error that it is.
struct Object {
  std::string json;
  bool ok = true;
};

Object WriteObject(const Request& request, const Response& response) {
  StatusOr<std::string> json = v2_generate::WriteResponse(request, response);
  if (json.ok()) return {std::move(json).value(), true};
  return {v2_http::ErrorObject(json.status().message()), false};
}

// Whether an error comes from before the model has begun. Before the last response the request's times are still
// written.
bool Refused(const Request& request, const Response& response, bool final) {
  return final && !response.status.ok() && request.timeline.picked == 0;
}

Status NoMemory() { return Status::Internal("the answer does not fit into memory"); }

Output WholeAnswer(int status, std::string json, bool keep_alive) {
  std::string head;
  AppendHttpHead(head, status, {{"Content-Type", "application/json"}}, json.size(), keep_alive);
  Output answer(std::move(head));
  answer.Append(Slice(Buffer::FromString(std::move(json))));
  return answer;
}

}  // namespace

GenerateAnswer::GenerateAnswer(std::shared_ptr<HttpHost> host, uint64_t place, bool keep_alive)
    : host_(std::move(host)), place_(place), keep_alive_(keep_alive) {}

void GenerateAnswer::Send(const Request& request, Response response, bool final) noexcept {
  if (cancelled()) return;
  try {
    if (Refused(request, response, final)) {
      responses_ = 1;
      answer_ = v2_http::WriteError(response.status, keep_alive_);
    } else if (!response.only_ends && ++responses_ == 1) {
      Object object = WriteObject(request, response);
      status_ = object.ok ? 200 : kErrorStatus;
      answer_ = WholeAnswer(status_, std::move(object.json), keep_alive_);
    } else if (responses_ == 2) {
      answer_ = Output();
    }
    // Triton's status, which does not tell.
    if (final && responses_ != 1) answer_ = WholeAnswer(status_, v2_http::ErrorObject(kNotOne), keep_alive_);
  } catch (const std::exception&) {
    answer_ = v2_http::WriteError(NoMemory(), keep_alive_);
  }
  if (!final) return;
  trace_ = request.trace;
  host_->mailbox().Post(shared_from_this());
}

void GenerateAnswer::Deliver() { host_->Fill(place_, std::move(answer_), !keep_alive_, std::move(trace_)); }

GenerateStream::GenerateStream(std::shared_ptr<HttpHost> host, uint64_t place, bool chunked, bool keep_alive)
    : host_(std::move(host)), place_(place), chunked_(chunked), keep_alive_(keep_alive && chunked) {}

void GenerateStream::AppendEvent(Output& output, std::string json) const {
  constexpr std::string_view kBefore = "data: ";
  constexpr std::string_view kAfter = "\n\n";
  if (chunked_) {
    char size[16];
    const auto end = std::to_chars(size, size + sizeof(size), kBefore.size() + json.size() + kAfter.size(), 16).ptr;
    output.Append(std::string_view(size, static_cast<size_t>(end - size)));
    output.Append("\r\n");
  }
  output.Append(kBefore);
  if (json.size() < Output::kShareFrom) {
    output.Append(json);
  } else {
    output.Append(Slice(Buffer::FromString(std::move(json))));
  }
  output.Append(kAfter);
  if (chunked_) output.Append("\r\n");
}

void GenerateStream::AppendEnd(Output& output) const {
  if (chunked_) output.Append("0\r\n\r\n");
}

GenerateStream::Part GenerateStream::Write(const Request& request, const Response& response, bool final) {
  Part part;
  if (Refused(request, response, final) && !begun_) {
    part.bytes = v2_http::WriteError(response.status, keep_alive_);
    part.whole = true;
    return part;
  }
  Object object;
  if (!response.only_ends) object = WriteObject(request, response);
  if (!std::exchange(begun_, true)) {
    std::vector<HttpHeader> headers = {{"Content-Type", "text/event-stream; charset=utf-8"}};
    if (chunked_) headers.push_back({"Transfer-Encoding", "chunked"});
    std::string head;
    AppendHttpHead(head, object.ok ? 200 : kErrorStatus, headers, std::nullopt, keep_alive_);
    part.bytes.Append(head);
  }
  if (!response.only_ends) AppendEvent(part.bytes, std::move(object.json));
  if (final) AppendEnd(part.bytes);
  return part;
}

void GenerateStream::Send(const Request& request, Response response, bool final) noexcept {
  if (cancelled()) return;  // whoever cancelled has ended the answer, too
  Part part;
  try {
    part = Write(request, response, final);
    if (!response.only_ends) part.trace = request.trace;
  } catch (const std::exception&) {
    part = Part();
    part.cut = true;
    cancelled_->store(true, std::memory_order_relaxed);
  }
  part.final = final;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    parts_.push_back(std::move(part));
    if (std::exchange(posted_, true)) return;
  }
  host_->mailbox().Post(shared_from_this());
}

void GenerateStream::Deliver() {
  std::vector<Part> parts;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    parts.swap(parts_);
    posted_ = false;
  }
  for (Part& part : parts) {
    if (part.whole) return host_->Fill(place_, std::move(part.bytes), !keep_alive_, std::move(part.trace));
    // A client that knows how the answer should have ended sees that it has not.
    if (part.cut) return host_->End(place_, /*close=*/true);
    // The last part of an answer is let through, as the whole answers of other requests are.
    if (!part.final && host_->overrun()) return BreakOff();
    if (!part.bytes.empty()) {
      streamed_ = true;
      host_->Stream(place_, std::move(part.bytes), std::move(part.trace));
    }
    if (part.final) host_->End(place_, !keep_alive_);
  }
}

void GenerateStream::BreakOff() {
  const Status status = {Code::kResourceExhausted,
                         "the client does not read its responses: " + std::to_string(host_->unsent()) +
                             " bytes of this connection are waiting"};
  Output last;
  if (streamed_) {
    AppendEvent(last, v2_http::ErrorObject(status.message()));
    AppendEnd(last);
  } else {
    last = v2_http::WriteError(status, keep_alive_);
  }
  host_->Break(place_, std::move(last), !keep_alive_);
}

}  // namespace pyinfer
