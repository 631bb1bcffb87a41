// SPDX-License-Identifier: Apache-2.0
#include "engine/response_cache.h"

#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>
#include <variant>

namespace pyinfer {
namespace {

// Of an entry and of each of its outputs, beside what is in them: an estimate of what the containers need.
constexpr size_t kEntryBytes = 256;
constexpr size_t kOutputBytes = 128;

void AppendNumber(std::string& key, uint64_t number) {
  key.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

// With its length, so that no two lists of texts make one key.
void AppendText(std::string& key, std::string_view text) {
  AppendNumber(key, text.size());
  key.append(text);
}

void AppendParameter(std::string& key, const ParameterValue& value) {
  AppendNumber(key, value.index());
  std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::string>) {
          AppendText(key, held);
        } else {
          uint64_t bits = 0;
          std::memcpy(&bits, &held, sizeof(held));
          AppendNumber(key, bits);
        }
      },
      value);
}

// The outputs in one block of memory of their own: what they came in may be larger by far.
Response Compacted(const Response& response) {
  size_t bytes = 0;
  for (const Tensor& output : response.outputs) bytes += output.data.size();
  const BufferPtr buffer = Buffer::Allocate(bytes);
  Response copy;
  copy.parameters = response.parameters;
  size_t offset = 0;
  for (const Tensor& output : response.outputs) {
    Tensor& kept = copy.outputs.emplace_back(output);
    if (!output.data.empty()) std::memcpy(buffer->data() + offset, output.data.data(), output.data.size());
    kept.data = Slice(buffer, offset, output.data.size());
    offset += output.data.size();
  }
  return copy;
}

size_t BytesOf(const std::string& key, const Response& response) {
  size_t bytes = kEntryBytes + key.size();
  for (const Tensor& output : response.outputs) bytes += kOutputBytes + output.name.size() + output.data.size();
  return bytes;
}

}  // namespace

std::optional<std::string> CacheKey(const Request& request, std::string_view origin) {
  if (request.uses_shared_memory) return std::nullopt;
  std::string key;
  AppendText(key, request.model->name);
  AppendNumber(key, static_cast<uint64_t>(request.model->version));
  AppendText(key, origin);
  AppendNumber(key, request.inputs.size());
  for (const Tensor& input : request.inputs) {  // in the order of the model's, whatever the client's was
    AppendText(key, input.name);
    AppendNumber(key, static_cast<uint64_t>(input.dtype));
    AppendNumber(key, input.shape.size());
    for (const int64_t dim : input.shape) AppendNumber(key, static_cast<uint64_t>(dim));
    AppendText(key, input.data.view());
  }
  AppendNumber(key, request.requested_outputs.size());
  for (const RequestedOutput& output : request.requested_outputs) AppendText(key, output.name);
  AppendNumber(key, request.correlation_id.number);
  AppendText(key, request.correlation_id.text);
  AppendNumber(key, request.flags);
  for (const auto& [name, value] : request.parameters) {
    AppendText(key, name);
    AppendParameter(key, value);
  }
  return key;
}

std::optional<Response> LocalCache::Find(const std::string& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found->second);
  Response response = found->second->response;
  // Where it is the input of another model, as in an ensemble, that model must not write to what is kept here.
  for (Tensor& output : response.outputs) output.shared = true;
  return response;
}

void LocalCache::Insert(std::string key, const Response& response) {
  const size_t bytes = BytesOf(key, response);
  if (bytes > most_bytes_) return;
  Entries made;
  made.push_back({std::move(key), Compacted(response), bytes});
  Entries dropped;
  std::lock_guard<std::mutex> lock(mutex_);  // let go of before what is dropped is freed
  // Two that asked at the same time both found nothing: the first answer stays.
  if (by_key_.count(made.front().key) != 0) return;
  bytes_ += bytes;
  entries_.splice(entries_.begin(), made);
  by_key_.emplace(entries_.front().key, entries_.begin());
  while (bytes_ > most_bytes_) {
    by_key_.erase(entries_.back().key);
    bytes_ -= entries_.back().bytes;
    dropped.splice(dropped.begin(), entries_, std::prev(entries_.end()));
  }
}

size_t LocalCache::bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

size_t LocalCache::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return entries_.size();
}

}  // namespace pyinfer
