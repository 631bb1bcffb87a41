// SPDX-License-Identifier: Apache-2.0
// connection.h - one socket of a load and the requests that it carries.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "load/load_options.h"
#include "load/load_window.h"
#include "load/session.h"

namespace pyinfer {

class LoadWorker;

// Connects, and again where the connection is lost: at once the first time, then ever later, up to a second.
class LoadConnection final : private SessionHandler {
 public:
  // Carries up to `slots` requests at a time, in a closed loop those of the sequences from `first_sequence` on. Both
  // references outlive this.
  LoadConnection(LoadWorker& worker, const LoadOptions& options, uint32_t slots, uint32_t first_sequence);
  ~LoadConnection() override;
  LoadConnection(const LoadConnection&) = delete;
  LoadConnection& operator=(const LoadConnection&) = delete;

  // Begins to connect where there is no connection and it is time; when to try again, 0 where that is not needed.
  TimeNs Connect(TimeNs now);
  // The kernel says that the socket is readable, writable, or broken.
  void OnEvents(uint32_t events);

  uint32_t slots() const { return static_cast<uint32_t>(requests_.size()); }
  bool is_connected() const { return session_ != nullptr; }
  bool CanSubmit() const { return session_ != nullptr && !connecting_ && !free_.empty() && session_->Ready(); }
  // Requires: CanSubmit().
  void Submit(size_t body, TimeNs intended);
  // The same for a step of a sequence of the worker.
  void SubmitStep(uint32_t sequence, const SequenceStep& step, TimeNs intended);
  // The next turn of the chat at `place`.
  void SubmitTurn(ChatSet& chats, size_t place, TimeNs intended);
  // The sequence of the next request in a closed loop. Requires: CanSubmit().
  uint32_t NextSequence() const { return first_sequence_ + free_.back(); }
  // Writes what was submitted since.
  void Flush();
  // For LoadWorker::Touch.
  bool is_touched = false;

  uint32_t in_flight() const { return static_cast<uint32_t>(requests_.size() - free_.size()); }
  // The earliest intended time of those in flight, `otherwise` where there are none.
  TimeNs OldestIntended(TimeNs otherwise) const;

 private:
  static constexpr uint32_t kNoSequence = ~0u;

  struct Request {
    TimeNs intended = 0;
    TimeNs submitted = 0;
    TimeNs written = 0;  // 0: not all of it yet
    TimeNs begun = 0;    // the answer
    size_t body = 0;
    bool open = false;
    // Of an answer that is a stream.
    uint64_t responses = 0;
    TimeNs first = 0;
    TimeNs last = 0;
    uint32_t sequence = kNoSequence;
    uint64_t sequence_id = 0;
    ChatSet* chats = nullptr;  // whose turn it is
    size_t place = 0;
  };

  void OnAnswerBegins(uint32_t slot) override;
  void OnResponse(uint32_t slot) override;
  void OnAnswer(uint32_t slot, const Answer& answer) override;
  std::unique_ptr<ClientSession> MakeSession();
  std::unique_ptr<ClientSession> MakePlainSession();
  // Takes a slot for a request of this body; the number of the slot.
  uint32_t Begin(size_t body, TimeNs intended);
  // What is wrong with an answer; empty where nothing is.
  std::string_view ErrorOf(const Request& request, const Answer& answer);
  // `told`: by the server, 0 where it has not.
  void CountTokens(const Request& request, uint64_t told, bool ok);
  void Record(uint32_t slot, bool ok);
  void Read();
  void Lose(std::string_view reason, bool by_server);
  // The session can not go on.
  void LoseBroken();
  void Watch(bool writable);

  LoadWorker& worker_;
  const LoadOptions& options_;
  const uint32_t first_sequence_;
  std::vector<Request> requests_;   // by slot
  std::vector<std::string> steps_;  // by slot: bodies with their steps of sequences, or what was said before
  std::string difference_;          // of the last answer from what was expected
  std::vector<uint32_t> free_;
  std::vector<uint32_t> unwritten_;
  std::vector<std::vector<TimeNs>> response_times_;  // by slot, where they are recorded
  std::unique_ptr<ClientSession> session_;
  std::string out_;
  size_t out_sent_ = 0;
  int socket_ = -1;
  bool connecting_ = false;
  bool watches_writable_ = false;
  bool answered_since_connect_ = false;
  TimeNs now_ = 0;  // when what is being read came
  TimeNs retry_at_ = 0;
  TimeNs backoff_ = 0;
};

}  // namespace pyinfer
