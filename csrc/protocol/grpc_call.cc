// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_call.h"

#include <utility>

#include "wire/grpc_text.h"

namespace pyinfer {
namespace {

constexpr std::string_view kInferPath = "/inference.GRPCInferenceService/ModelInfer";
constexpr std::string_view kStreamInferPath = "/inference.GRPCInferenceService/ModelStreamInfer";
constexpr std::string_view kErrorsEndHeader = "triton_grpc_error";
constexpr std::string_view kKeyHeaderStart = "triton-grpc-protocol-";

bool StartsWith(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

// Takes as long for a wrong value as for the right one of the same length: a key is not to be guessed byte by byte.
bool SameKey(std::string_view given, std::string_view key) {
  if (given.size() != key.size()) return false;
  unsigned char differences = 0;
  for (size_t i = 0; i < key.size(); ++i) differences |= static_cast<unsigned char>(given[i] ^ key[i]);
  return differences == 0;
}

}  // namespace

GrpcRoutes::GrpcRoutes() {
  infer_.kind = GrpcRoute::Kind::kInfer;
  Add(std::string(kStreamInferPath), GrpcRoute::Kind::kStreamInfer);
}

void GrpcRoutes::Add(std::string path, GrpcRoute::Kind kind) { others_[std::move(path)].kind = kind; }

void GrpcRoutes::Restrict(std::string_view path, const std::string& key, std::string value) {
  GrpcRoute& route = path == kInferPath ? infer_ : others_.find(path)->second;
  route.key_header = kKeyHeaderStart;
  for (const char c : key) route.key_header += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  route.key_value = std::move(value);
}

const GrpcRoute* GrpcRoutes::Find(std::string_view path) const {
  if (path == kInferPath) return &infer_;
  const auto found = others_.find(path);
  return found == others_.end() ? nullptr : &found->second;
}

void HeldBytes::Drop(size_t size) {
  begin_ += size;
  if (begin_ * 2 < bytes_.size()) return;
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin_));
  begin_ = 0;
  if (bytes_.empty()) bytes_ = {};
}

void GrpcCall::AddTransportHeader(std::string_view name, std::string_view value, const GrpcCallOptions& options) {
  if (name == ":path") {
    route = options.routes.Find(value);
    if (route == nullptr || route->kind != GrpcRoute::Kind::kInfer) path = value;
  } else if (name == ":method") {
    post = value == "POST";
  } else if (name == "content-type") {
    grpc = IsGrpcContentType(value);
  } else if (name == "grpc-encoding") {
    encoding = ParseGrpcEncoding(value);
    if (encoding == Compression::kUnknown) unknown_encoding = value.substr(0, 64);
  } else if (name == "grpc-timeout") {
    timeout = value;
    has_timeout = true;
  } else if (name == "grpc-accept-encoding") {
    answer_encoding = ChooseGrpcCompression(options.compression_level, value);
  }
}

TraceContext& GrpcCall::context() {
  if (!trace_context) trace_context = std::make_unique<TraceContext>();
  return *trace_context;
}

void GrpcCall::AddHeader(std::string_view name, std::string_view value, const GrpcCallOptions& options) {
  if (name[0] == ':' || StartsWith(name, "grpc-") || name == "content-type" || name == "te") {
    return AddTransportHeader(name, value, options);
  }
  if (route == nullptr) return;
  if (route->infers() && name == "traceparent") {
    context().AddParent(value);
  } else if (route->infers() && name == "tracestate") {
    context().AddState(value);
  }
  if (StartsWith(name, kKeyHeaderStart)) {
    has_key = has_key || (name == route->key_header && SameKey(value, route->key_value));
  } else if (route->kind == GrpcRoute::Kind::kStreamInfer && name == kErrorsEndHeader) {
    errors_end = value == "true";
  } else if (options.forwarding != nullptr && route->infers() && forwarding_status.ok()) {
    forwarding_status = options.forwarding->Forward(name, value, forwarded);
  }
}

Status GrpcCall::CheckHeaders() const {
  if (route == nullptr) return Status::Unsupported("unknown method " + path.substr(0, 256));
  if (!route->key_header.empty() && !has_key) {
    return Status::Unavailable("This protocol is restricted, expecting header '" + route->key_header + "'");
  }
  if (encoding == Compression::kUnknown) {
    return Status::Unsupported("grpc-encoding '" + unknown_encoding +
                               "' is not supported: use identity, deflate or gzip");
  }
  return forwarding_status;
}

}  // namespace pyinfer
