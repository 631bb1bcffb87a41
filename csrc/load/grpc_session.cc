// SPDX-License-Identifier: Apache-2.0
#include "load/grpc_transport.h"

namespace pyinfer {
namespace {

constexpr size_t kLargestKept = 64u << 20;

// A call for each request.
class GrpcSession final : public GrpcTransport {
 public:
  GrpcSession(SessionHandler& handler, const ClientHeaders& headers, uint32_t slots, bool keep_bodies)
      : GrpcTransport(headers, false), handler_(handler), keep_bodies_(keep_bodies), requests_(slots) {
    for (uint32_t slot = 0; slot < slots; ++slot) requests_[slot].slot = slot;
  }

  bool Ready() const override { return in_flight_ < requests_.size() && in_flight_ < most_calls() && MayOpen(); }

  void Submit(uint32_t slot, std::string_view body) override {
    Request& request = requests_[slot];
    request.body = body;
    request.sent = request.received = 0;
    request.open = true;
    request.kept.clear();
    ++in_flight_;
    if (const char* const error = Open(request)) End(request, error);
  }

  void Fail(std::string_view reason, bool) override {
    failed_ = true;
    for (Request& request : requests_) {
      if (request.open) End(request, reason);
    }
  }

 private:
  struct Request : Call {
    uint32_t slot = 0;
    size_t received = 0;
    bool open = false;
    std::string kept;
  };

  void OnCallBegins(Call& call) override { handler_.OnAnswerBegins(static_cast<Request&>(call).slot); }
  void OnCallData(Call& call, std::string_view data) override {
    auto& request = static_cast<Request&>(call);
    request.received += data.size();
    if (keep_bodies_ && request.kept.size() + data.size() <= kLargestKept) request.kept.append(data);
  }
  void OnCallEnds(Call& call, std::string_view error) override { End(static_cast<Request&>(call), error); }
  size_t in_flight() const override { return in_flight_; }

  void End(Request& request, std::string_view error) {
    request.open = false;
    --in_flight_;
    handler_.OnAnswer(request.slot, {error, request.received, request.kept, 0, 0});
  }

  SessionHandler& handler_;
  const bool keep_bodies_;
  std::vector<Request> requests_;
  size_t in_flight_ = 0;
};

}  // namespace

std::unique_ptr<ClientSession> MakeGrpcSession(SessionHandler& handler, const ClientHeaders& headers, uint32_t slots,
                                               bool keep_bodies) {
  return std::make_unique<GrpcSession>(handler, headers, slots, keep_bodies);
}

}  // namespace pyinfer
