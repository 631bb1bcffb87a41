// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <protozero/pbf_reader.hpp>
#include <utility>

#include "load/grpc_transport.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {
namespace {

using protozero::pbf_wire_type;
using protozero::tag_and_type;

constexpr size_t kLargestMessage = size_t{1} << 30;
// Bytes that have left and are not forgotten yet.
constexpr size_t kMostSent = size_t{1} << 20;
// Tag and length of the field `id` of a ModelInferRequest, and 16 digits.
constexpr std::string_view kIdField = "\x1a\x10";
constexpr size_t kIdDigits = 16;
constexpr std::string_view kFinalResponse = "triton_final_response";

std::string_view View(const protozero::data_view& data) { return {data.data(), data.size()}; }

// What counts of a ModelStreamInferResponse. Views are into the message.
struct StreamResponse {
  std::string_view error;
  std::string_view id;
  std::string_view inference;  // a ModelInferResponse
  bool is_final = true;
  bool has_outputs = false;
};

void ReadParameter(protozero::pbf_reader entry, StreamResponse& response) {
  std::string_view name;
  protozero::pbf_reader value;
  while (entry.next()) {
    switch (entry.tag_and_type()) {
      case tag_and_type(1, pbf_wire_type::length_delimited):
        name = View(entry.get_view());
        break;
      case tag_and_type(2, pbf_wire_type::length_delimited):
        value = entry.get_message();
        break;
      default:
        entry.skip();
    }
  }
  if (name != kFinalResponse) return;
  response.is_final = false;
  while (value.next(1, pbf_wire_type::varint)) response.is_final = value.get_bool();
}

void ReadInference(std::string_view bytes, StreamResponse& response) {
  protozero::pbf_reader message(bytes.data(), bytes.size());
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(3, pbf_wire_type::length_delimited):
        response.id = View(message.get_view());
        break;
      case tag_and_type(4, pbf_wire_type::length_delimited):
        ReadParameter(message.get_message(), response);
        break;
      case tag_and_type(5, pbf_wire_type::length_delimited):
        response.has_outputs = true;
        message.skip();
        break;
      default:
        message.skip();
    }
  }
}

// False where it is malformed.
bool ReadResponse(std::string_view bytes, StreamResponse& response) {
  try {
    protozero::pbf_reader message(bytes.data(), bytes.size());
    while (message.next()) {
      switch (message.tag_and_type()) {
        case tag_and_type(1, pbf_wire_type::length_delimited):
          response.error = View(message.get_view());
          break;
        case tag_and_type(2, pbf_wire_type::length_delimited):
          response.inference = View(message.get_view());
          ReadInference(response.inference, response);
          break;
        default:
          message.skip();
      }
    }
    return true;
  } catch (const protozero::exception&) {
    return false;
  }
}

// All requests share one call.
class GrpcStreamSession final : public GrpcTransport {
 public:
  GrpcStreamSession(SessionHandler& handler, const ClientHeaders& headers, uint32_t slots)
      : GrpcTransport(headers, true), handler_(handler), requests_(slots) {
    call_.goes_on = true;
  }

  bool Ready() const override { return in_flight_ < requests_.size() && MayOpen(); }

  void Submit(uint32_t slot, std::string_view body) override {
    Request& request = requests_[slot];
    request = {next_id_++, 0, true, false};
    ++in_flight_;
    Append(request.id, body);
    if (is_open_) return Resume(call_);
    is_open_ = true;
    if (const char* const error = Open(call_)) CloseCall(error);
  }

  void Fail(std::string_view reason, bool) override {
    failed_ = true;
    CloseCall(reason);
  }

 private:
  struct Request {
    uint64_t id = 0;
    size_t received = 0;
    bool open = false;
    bool begun = false;
  };

  // Of fields that come twice the last counts: the id goes behind the message as it is.
  void Append(uint64_t id, std::string_view body) {
    if (call_.sent == queue_.size() || call_.sent > kMostSent) queue_.erase(0, std::exchange(call_.sent, 0));
    const size_t begin = queue_.size();
    queue_ += body;
    queue_ += kIdField;
    char digits[kIdDigits];
    for (size_t i = 0; i < kIdDigits; ++i) digits[i] = "0123456789abcdef"[(id >> (60 - 4 * i)) & 15];
    queue_.append(digits, kIdDigits);
    WriteGrpcPrefix(&queue_[begin], queue_.size() - begin - kGrpcPrefixSize);
    call_.body = queue_;
  }

  void OnCallBegins(Call&) override {}

  void OnCallData(Call&, std::string_view data) override {
    while (!data.empty() && !failed_) {
      if (in_.empty() && data.size() >= kGrpcPrefixSize) {
        const GrpcPrefix prefix = ReadGrpcPrefix(data);
        if (data.size() - kGrpcPrefixSize >= prefix.size) {
          OnMessage(prefix.flag, data.substr(kGrpcPrefixSize, prefix.size));
          data.remove_prefix(kGrpcPrefixSize + prefix.size);
          continue;
        }
      }
      const size_t known = in_.size() < kGrpcPrefixSize ? 0 : ReadGrpcPrefix(in_).size;
      const std::string_view piece = data.substr(0, kGrpcPrefixSize + known - in_.size());
      in_ += piece;
      data.remove_prefix(piece.size());
      if (in_.size() < kGrpcPrefixSize) return;
      const GrpcPrefix prefix = ReadGrpcPrefix(in_);
      failed_ = failed_ || prefix.size > kLargestMessage;
      if (failed_ || in_.size() < kGrpcPrefixSize + prefix.size) continue;
      const std::string message = std::exchange(in_, {});
      OnMessage(prefix.flag, std::string_view(message).substr(kGrpcPrefixSize));
    }
  }

  void OnMessage(uint8_t flag, std::string_view message) {
    StreamResponse response;
    if (flag != 0 || !ReadResponse(message, response)) {
      failed_ = true;
      return;
    }
    const auto slot = SlotOf(response.id);
    if (slot == requests_.size()) {
      // Nobody knows whose: nothing that is in flight can be trusted to be answered any more.
      if (!response.error.empty()) EndRequests(response.error);
      return;
    }
    Request& request = requests_[slot];
    request.received += message.size() + kGrpcPrefixSize;
    if (!std::exchange(request.begun, true)) handler_.OnAnswerBegins(static_cast<uint32_t>(slot));
    if (!response.error.empty()) return End(slot, response.error);
    if (response.has_outputs || !response.is_final) handler_.OnResponse(static_cast<uint32_t>(slot));
    if (response.is_final) End(slot, {}, response.inference);
  }

  // The slot of the request with this id, or the number of slots. Requests are few, and answers come about in order.
  size_t SlotOf(std::string_view text) {
    uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
    if (error != std::errc() || end != text.data() + text.size()) return requests_.size();
    for (size_t i = 0; i < requests_.size(); ++i) {
      const size_t slot = (last_ + i) % requests_.size();
      if (requests_[slot].open && requests_[slot].id == id) return last_ = slot;
    }
    return requests_.size();
  }

  void OnCallEnds(Call&, std::string_view error) override {
    CloseCall(error.empty() ? "the server has ended the stream" : error);
  }
  size_t in_flight() const override { return in_flight_; }

  void CloseCall(std::string_view error) {
    is_open_ = false;
    in_.clear();
    queue_.clear();
    call_.body = {};
    call_.sent = 0;
    EndRequests(error);
  }

  void EndRequests(std::string_view error) {
    for (size_t slot = 0; slot < requests_.size(); ++slot) {
      if (requests_[slot].open) End(slot, error);
    }
  }

  void End(size_t slot, std::string_view error, std::string_view body = {}) {
    Request& request = requests_[slot];
    request.open = false;
    --in_flight_;
    handler_.OnAnswer(static_cast<uint32_t>(slot), {error, request.received, body, 0, 0});
  }

  SessionHandler& handler_;
  std::vector<Request> requests_;
  Call call_;
  bool is_open_ = false;
  std::string queue_;  // messages; the first call_.sent bytes have left
  std::string in_;     // an unfinished message
  uint64_t next_id_ = 1;
  size_t last_ = 0;
  size_t in_flight_ = 0;
};

}  // namespace

std::unique_ptr<ClientSession> MakeGrpcStreamSession(SessionHandler& handler, const ClientHeaders& headers,
                                                     uint32_t slots) {
  return std::make_unique<GrpcStreamSession>(handler, headers, slots);
}

}  // namespace pyinfer
