// SPDX-License-Identifier: Apache-2.0
#include "load/stream_event.h"

#include "memory/buffer.h"
#include "wire/json.h"

namespace pyinfer {
namespace {

constexpr size_t kLongestError = 4096;
constexpr std::string_view kDone = "[DONE]";

// The text of {"error": "text"} or {"error": {"message": "text"}}; empty for what is neither.
std::string ErrorOf(const JsonObject& object) {
  JsonValue error;
  if (object["error"].get(error) != simdjson::SUCCESS || error.is_null()) return {};
  std::string_view text;
  if (error.get(text) != simdjson::SUCCESS && error["message"].get(text) != simdjson::SUCCESS)
    text = "an error without a text";
  return text.empty() ? std::string("an error without a text") : std::string(text.substr(0, kLongestError));
}

bool HasText(const JsonValue& object, const char* name) {
  std::string_view text;
  return object[name].get(text) == simdjson::SUCCESS && !text.empty();
}

// Whether a choice brings something that the model has made: text, the steps of reasoning, calls of tools.
bool HasOutput(const JsonValue& choice) {
  if (HasText(choice, "text")) return true;
  JsonValue delta;
  if (choice["delta"].get(delta) != simdjson::SUCCESS) return false;
  JsonArray calls;
  if (delta["tool_calls"].get(calls) == simdjson::SUCCESS && calls.size() != 0) return true;
  return HasText(delta, "content") || HasText(delta, "reasoning_content") || HasText(delta, "reasoning");
}

bool IsFirst(const JsonValue& choice) {
  uint64_t index = 0;
  return choice["index"].get(index) != simdjson::SUCCESS || index == 0;
}

void ReadText(const JsonArray& choices, std::string& text) {
  for (const JsonValue choice : choices) {
    std::string_view part;
    if (IsFirst(choice) && choice["delta"]["content"].get(part) == simdjson::SUCCESS) text += part;
  }
}

void ReadChunk(const JsonObject& object, StreamEvent& event, std::string* text) {
  JsonArray choices;
  if (object["choices"].get(choices) == simdjson::SUCCESS) {
    for (const JsonValue choice : choices) event.is_response = event.is_response || HasOutput(choice);
    if (text != nullptr) ReadText(choices, *text);
  }
  JsonValue usage;
  if (object["usage"].get(usage) != simdjson::SUCCESS) return;
  if (usage["completion_tokens"].get(event.tokens) != simdjson::SUCCESS) event.tokens = 0;
}

std::string Padded(std::string_view data) {
  std::string padded;
  padded.reserve(data.size() + kBufferPadding);
  padded = data;
  return padded;
}

}  // namespace

StreamEvent ReadStreamEvent(EventGrammar grammar, std::string_view data, std::string* text) {
  StreamEvent event;
  if (grammar == EventGrammar::kOpenAi && data == kDone) return event;
  const std::string padded = Padded(data);
  JsonDocument document;
  JsonObject object;
  const bool is_object = document.Parse(padded).ok() && document.root().get(object) == simdjson::SUCCESS;
  if (grammar == EventGrammar::kGenerate) {
    // An output may have the name "error": an error comes without the name of the model.
    if (is_object && object["model_name"].error() != simdjson::SUCCESS) event.error = ErrorOf(object);
    event.is_response = event.error.empty();
    return event;
  }
  if (!is_object) {
    event.error = "an event of the answer is no JSON object";
    return event;
  }
  event.error = ErrorOf(object);
  if (event.error.empty()) ReadChunk(object, event, text);
  return event;
}

std::string MessageOfAnswer(std::string_view answer) {
  const std::string padded = Padded(answer);
  JsonDocument document;
  if (!document.Parse(padded).ok()) return {};
  JsonArray choices;
  JsonObject message;
  if (document.root()["choices"].get(choices) != simdjson::SUCCESS || choices.size() == 0) return {};
  if (choices.at(0)["message"].get(message) != simdjson::SUCCESS) return {};
  return simdjson::minify(message);
}

std::string MessageOfText(std::string_view text) {
  if (text.empty()) return {};
  std::string message = R"({"role":"assistant","content":)";
  AppendJsonString(message, text);
  message += '}';
  return message;
}

}  // namespace pyinfer
