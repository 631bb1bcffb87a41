// SPDX-License-Identifier: Apache-2.0
#include "load/fake_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

#include "load/fake_server.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {
namespace {

constexpr size_t kLargestHead = 64u << 10;
constexpr size_t kSendLimit = 256u << 10;

// The id of a ModelInferRequest; the last of several, as protobuf has it.
std::string IdOf(std::string_view message) {
  std::string id;
  try {
    protozero::pbf_reader fields(message.data(), message.size());
    while (fields.next(3, protozero::pbf_wire_type::length_delimited)) id = fields.get_string();
  } catch (const protozero::exception&) {
    id.clear();
  }
  return id;
}

std::string Chunk(const std::string& data) {
  char size[16];
  const auto end = std::to_chars(size, size + sizeof size, data.size(), 16).ptr;
  return std::string(size, end) + "\r\n" + data + "\r\n";
}

void Append(std::string& text, const Output& output) {
  for (const Slice& piece : output.pieces()) text += piece.view();
  text += output.tail();
}

}  // namespace

FakeConnection::~FakeConnection() { close(socket_); }

bool FakeConnection::Read() {
  char buffer[65536];
  for (;;) {
    const ssize_t size = recv(socket_, buffer, sizeof buffer, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (size <= 0) return false;
    const auto got = static_cast<size_t>(size);
    if (http2_ == nullptr && in_.empty() && buffer[0] == 'P' && got > 2 && buffer[1] == 'R') {
      http2_ = std::make_unique<Http2Session>(*this, Http2Session::Options());
    }
    if (http2_ != nullptr) {
      if (!http2_->Receive(reinterpret_cast<const uint8_t*>(buffer), got)) return false;
    } else {
      in_.append(buffer, got);
      if (!ReadHttp()) return false;
    }
    if (got < sizeof buffer) return true;
  }
}

bool FakeConnection::ReadHttp() {
  for (;;) {
    const size_t end = in_.find("\r\n\r\n");
    if (end == std::string::npos) return in_.size() < kLargestHead;
    std::string head = in_.substr(0, end + 2);
    for (char& c : head) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    size_t length = 0;
    const std::string_view name = "\r\ncontent-length: ";
    if (const size_t at = head.find(name); at != std::string::npos) {
      std::from_chars(head.data() + at + name.size(), head.data() + head.size(), length);
    }
    const size_t body = end + 4;
    if (in_.size() - body < length) return true;
    const size_t first = in_.find(' '), second = in_.find(' ', first + 1);
    if (first == std::string::npos || second == std::string::npos || second > end) return false;
    const std::string path = in_.substr(first + 1, second - first - 1);
    in_.erase(0, body + length);
    server_.Arrived(*this, 0, path, {});
  }
}

void FakeConnection::OnHeader(int32_t stream, std::string_view name, std::string_view value) {
  if (name != ":path") return;
  paths_[stream] = value;
  const std::string_view streaming = "/ModelStreamInfer";
  if (value.size() > streaming.size() && value.substr(value.size() - streaming.size()) == streaming) {
    streams_[stream];
  }
}

size_t FakeConnection::OnData(int32_t stream, const uint8_t* data, size_t size) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return size;
  std::string& in = found->second.in;
  in.append(reinterpret_cast<const char*>(data), size);
  for (;;) {
    if (in.size() < kGrpcPrefixSize) return size;
    const size_t length = ReadGrpcPrefix(in).size;
    if (in.size() - kGrpcPrefixSize < length) return size;
    server_.Arrived(*this, stream, paths_[stream], IdOf(std::string_view(in).substr(kGrpcPrefixSize, length)));
    in.erase(0, kGrpcPrefixSize + length);
  }
}

void FakeConnection::OnEnd(int32_t stream) {
  const auto found = paths_.find(stream);
  if (found == paths_.end() || streams_.count(stream) != 0) return;
  server_.Arrived(*this, stream, std::string(found->second), {});
}

void FakeConnection::Respond(int32_t stream, std::string_view body) {
  if (http2_ != nullptr) {
    http2_->Start(stream, {{":status", "200"}, {"content-type", "application/grpc"}});
    http2_->Write(stream, Output(std::string(body)));
    http2_->Finish(stream, {{"grpc-status", "0"}});
    return;
  }
  out_ += "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
  out_ += std::to_string(body.size());
  out_ += "\r\n\r\n";
  out_ += body;
}

void FakeConnection::RespondError(int32_t stream, int http_status, int grpc_status, std::string_view message) {
  if (http2_ != nullptr) {
    const std::string status = std::to_string(grpc_status);
    http2_->RespondHeaders(
        stream,
        {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", status}, {"grpc-message", message}});
    return;
  }
  const std::string body = "{\"error\":\"" + std::string(message) + "\"}";
  out_ += "HTTP/1.1 " + std::to_string(http_status) + " Error\r\nContent-Length: " + std::to_string(body.size());
  out_ += "\r\n\r\n" + body;
}

void FakeConnection::WriteMessage(int32_t stream, const std::string& message) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  if (!std::exchange(found->second.is_started, true)) {
    http2_->Start(stream, {{":status", "200"}, {"content-type", "application/grpc"}});
  }
  http2_->Write(stream, Output(WithGrpcPrefix(message)));
}

void FakeConnection::Stream(int32_t stream, std::string_view id, std::string_view event, bool is_first, bool is_last) {
  if (http2_ == nullptr) {
    if (is_first) out_ += "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    out_ += Chunk("data: " + std::string(event) + "\n\n");
    if (is_last) out_ += "0\r\n\r\n";
    return;
  }
  std::string message;
  protozero::pbf_writer response(message);
  protozero::pbf_writer inference(response, 2);
  inference.add_string(3, id.data(), id.size());
  {
    protozero::pbf_writer parameter(inference, 4);
    parameter.add_string(1, "triton_final_response");
    protozero::pbf_writer value(parameter, 2);
    value.add_bool(1, is_last);
  }
  protozero::pbf_writer(inference, 5).add_string(1, "OUTPUT0");
  inference.commit();
  WriteMessage(stream, message);
}

void FakeConnection::StreamError(int32_t stream, std::string_view id, std::string_view text) {
  std::string message;
  protozero::pbf_writer response(message);
  response.add_string(1, text.data(), text.size());
  protozero::pbf_writer inference(response, 2);
  inference.add_string(3, id.data(), id.size());
  inference.commit();
  WriteMessage(stream, message);
}

bool FakeConnection::Write() {
  for (;;) {
    if (written_ == out_.size()) {
      out_.clear();
      written_ = 0;
      if (http2_ != nullptr) {
        Output output;
        http2_->Send(output, kSendLimit);
        Append(out_, output);
      }
      if (out_.empty()) return http2_ == nullptr || !http2_->finished();
    }
    const ssize_t size = send(socket_, out_.data() + written_, out_.size() - written_, MSG_NOSIGNAL);
    if (size < 0 && errno == EAGAIN) return true;
    if (size < 0) return errno == EINTR;
    written_ += static_cast<size_t>(size);
  }
}

}  // namespace pyinfer
