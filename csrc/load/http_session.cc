// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <optional>

#include "load/session.h"
#include "load/stream_event.h"
#include "wire/event_stream.h"

namespace pyinfer {
namespace {

constexpr size_t kLargestHead = 64u << 10;
constexpr size_t kLongestLine = 8192;
constexpr size_t kKeptOfAnError = 4096;
constexpr size_t kLargestKept = 64u << 20;

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool SameText(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// All of `text`, or nothing.
std::optional<uint64_t> ToNumber(std::string_view text, int base) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool IsEventStream(std::string_view content_type) {
  return SameText(Trimmed(content_type.substr(0, content_type.find(';'))), "text/event-stream");
}

class HttpSession final : public ClientSession, private EventHandler {
 public:
  HttpSession(SessionHandler& handler, EventGrammar events, bool keep_bodies)
      : handler_(handler),
        events_(events),
        keep_bodies_(keep_bodies || events == EventGrammar::kOpenAi),
        keep_messages_(keep_bodies && events == EventGrammar::kOpenAi) {}

  bool Ready() const override { return !busy_ && !closing_; }
  bool finished() const override { return !busy_ && closing_; }

  void Submit(uint32_t, std::string_view body) override {
    busy_ = true;
    unsent_ = body;
    state_ = State::kHead;
    status_ = 0;
    size_ = 0;
    tokens_ = 0;
    header_size_ = 0;
    is_stream_ = false;
    kept_.clear();
    line_.clear();
    event_error_.clear();
    message_.clear();
  }

  bool Send(std::string& out, size_t limit) override {
    if (out.size() < limit) {
      const size_t now = std::min(unsent_.size(), limit - out.size());
      out.append(unsent_.substr(0, now));
      unsent_.remove_prefix(now);
    }
    return true;
  }

  bool Receive(const char* data, size_t size) override {
    std::string_view rest(data, size);
    while (!rest.empty()) {
      if (!busy_) return Refuse();  // nobody has asked
      if (!Step(rest)) return Refuse();
    }
    return true;
  }

  void Fail(std::string_view reason, bool by_server) override {
    closing_ = true;
    if (!busy_) return;
    if (by_server && state_ == State::kUntilClose) return Finish();
    busy_ = false;
    handler_.OnAnswer(0, {reason, size_, {}, 0, 0});
  }

 private:
  enum class State { kHead, kBody, kUntilClose, kChunkSize, kChunk, kChunkEnd, kTrailers };

  bool Refuse() {
    closing_ = true;
    if (std::exchange(busy_, false)) handler_.OnAnswer(0, {"the answer is not HTTP/1.1", size_, {}, 0, 0});
    return false;
  }

  // Understands some of `rest` and takes it away. False where it can not be understood.
  bool Step(std::string_view& rest) {
    switch (state_) {
      case State::kHead:
        return TakeHead(rest);
      case State::kBody:
        if (!TakeBody(rest)) return false;
        if (left_ == 0) Finish();
        return true;
      case State::kUntilClose:
        left_ = rest.size();
        return TakeBody(rest);
      case State::kChunk:
        if (!TakeBody(rest)) return false;
        if (left_ == 0) state_ = State::kChunkEnd;
        return true;
      default:
        return TakeLine(rest);
    }
  }

  bool TakeBody(std::string_view& rest) {
    const auto now = static_cast<size_t>(std::min<uint64_t>(left_, rest.size()));
    const std::string_view bytes = rest.substr(0, now);
    if (status_ != 200) {
      kept_.append(bytes.substr(0, kKeptOfAnError - kept_.size()));
    } else if (is_stream_) {
      if (!reader_.Read(bytes, *this)) return false;
    } else if (keep_bodies_ && kept_.size() + now <= kLargestKept) {
      kept_.append(bytes);
    }
    size_ += now;
    left_ -= now;
    rest.remove_prefix(now);
    return true;
  }

  void OnEvent(std::string_view data) override {
    StreamEvent event = ReadStreamEvent(events_, data, keep_messages_ ? &kept_ : nullptr);
    if (event.tokens != 0) tokens_ = event.tokens;
    if (!event.error.empty() && event_error_.empty()) event_error_ = std::move(event.error);
    if (event.is_response) handler_.OnResponse(0);
  }

  bool TakeHead(std::string_view& rest) {
    const size_t before = line_.size();
    line_.append(rest.substr(0, kLargestHead + 4 - std::min(before, kLargestHead)));
    const size_t end = line_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
    if (end == std::string::npos) {
      rest = {};
      return line_.size() <= kLargestHead;
    }
    rest.remove_prefix(end + 4 - before);
    const std::string head = line_.substr(0, end + 2);
    line_.clear();
    return ReadHead(head);
  }

  bool ReadHead(std::string_view head) {
    size_t end = head.find("\r\n");
    const std::string_view first = head.substr(0, end);
    if (first.size() < 12 || first.substr(0, 7) != "HTTP/1." || first[8] != ' ') return false;
    const auto status = ToNumber(first.substr(9, 3), 10);
    if (!status || *status < 100) return false;
    if (*status < 200) return *status != 101;  // another head follows
    status_ = static_cast<int>(*status);
    if (first[7] == '0') closing_ = true;
    std::optional<uint64_t> length;
    bool chunked = false;
    for (size_t at = end + 2; at < head.size(); at = end + 2) {
      end = head.find("\r\n", at);
      const std::string_view line = head.substr(at, end - at);
      const size_t colon = line.find(':');
      if (colon == std::string_view::npos) return false;
      const std::string_view name = line.substr(0, colon), value = Trimmed(line.substr(colon + 1));
      if (SameText(name, "content-length")) {
        length = ToNumber(value, 10);
        if (!length) return false;
      } else if (SameText(name, "transfer-encoding")) {
        if (!SameText(value, "chunked")) return false;
        chunked = true;
      } else if (SameText(name, "connection")) {
        if (SameText(value, "close")) closing_ = true;
      } else if (SameText(name, "content-type")) {
        is_stream_ = IsEventStream(value);
      } else if (SameText(name, "inference-header-content-length")) {
        header_size_ = static_cast<size_t>(ToNumber(value, 10).value_or(0));
      }
    }
    reader_.Clear();
    handler_.OnAnswerBegins(0);
    Expect(length, chunked);
    return true;
  }

  void Expect(std::optional<uint64_t> length, bool chunked) {
    if (status_ == 204 || status_ == 304) length = 0;
    if (chunked) {
      state_ = State::kChunkSize;
    } else if (!length) {
      closing_ = true;
      state_ = State::kUntilClose;
    } else if (*length == 0) {
      Finish();
    } else {
      left_ = *length;
      state_ = State::kBody;
    }
  }

  // A line of the grammar of chunks.
  bool TakeLine(std::string_view& rest) {
    const size_t end = rest.find('\n');
    line_.append(rest.substr(0, end == std::string_view::npos ? end : end + 1));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line_.size() > kLongestLine) return false;
    if (end == std::string_view::npos) return true;
    const std::string line = std::exchange(line_, {});
    if (line.size() < 2 || line[line.size() - 2] != '\r') return false;
    const std::string_view text = std::string_view(line).substr(0, line.size() - 2);
    if (state_ == State::kChunkEnd) {
      state_ = State::kChunkSize;
      return text.empty();
    }
    if (state_ == State::kTrailers) {
      if (text.empty()) Finish();
      return true;
    }
    const auto size = ToNumber(Trimmed(text.substr(0, text.find(';'))), 16);
    if (!size) return false;
    left_ = *size;
    state_ = left_ == 0 ? State::kTrailers : State::kChunk;
    return true;
  }

  void Finish() {
    busy_ = false;
    if (!unsent_.empty()) closing_ = true;  // the server has not waited for the rest
    unsent_ = {};
    if (status_ == 200) {
      // The last event need not be followed by an empty line.
      if (is_stream_) reader_.Read("\n\n", *this);
      if (!is_stream_ && events_ == EventGrammar::kOpenAi) ReadWhole();
      if (keep_messages_) message_ = is_stream_ ? MessageOfText(kept_) : MessageOfAnswer(kept_);
      return handler_.OnAnswer(0, {event_error_, size_, kept_, header_size_, tokens_, message_});
    }
    const std::string error = "HTTP status " + std::to_string(status_) + ": " + kept_;
    handler_.OnAnswer(0, {error, size_, {}, 0, 0});
  }

  // The answer to a request of OpenAI that is not streamed.
  void ReadWhole() {
    StreamEvent whole = ReadStreamEvent(events_, kept_);
    tokens_ = whole.tokens;
    event_error_ = std::move(whole.error);
  }

  SessionHandler& handler_;
  const EventGrammar events_;
  const bool keep_bodies_;
  const bool keep_messages_;
  EventStreamReader reader_;
  std::string_view unsent_;
  State state_ = State::kHead;
  std::string line_;         // an unfinished head or line
  std::string kept_;         // the body, or the first part of an error's; of a stream, the text of a message
  std::string message_;      // of the answer
  std::string event_error_;  // the first that an event has told
  uint64_t tokens_ = 0;
  size_t header_size_ = 0;
  uint64_t left_ = 0;
  size_t size_ = 0;
  int status_ = 0;
  bool is_stream_ = false;
  bool busy_ = false;
  bool closing_ = false;
};

}  // namespace

std::unique_ptr<ClientSession> MakeHttpSession(SessionHandler& handler, EventGrammar events, bool keep_bodies) {
  return std::make_unique<HttpSession>(handler, events, keep_bodies);
}

}  // namespace pyinfer
