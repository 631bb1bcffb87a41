// SPDX-License-Identifier: Apache-2.0
// v2_http.h - inference in the words of KServe v2 over HTTP: JSON, the binary tensor extension, raw binary requests.
//
// Bytes of bodies <-> Request and Response. No socket, no queue, no thread. Sibling of v2_grpc.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "infer/request.h"
#include "infer/response.h"
#include "memory/buffer.h"
#include "memory/output.h"
#include "wire/gzip.h"

namespace pyinfer::v2_http {

// How the client wants each output to be written.
struct OutputFormat {
  // For all outputs, where the request lists none.
  bool binary_by_default = false;
  // For each of Request::requested_outputs.
  std::vector<bool> binary;
};

// How an answer is to be sent.
struct AnswerFormat {
  OutputFormat outputs;
  Compression compression = Compression::kIdentity;
  bool keep_alive = true;
};

// How many bytes of a body of `body_size` are JSON, from the text of Inference-Header-Content-Length (nothing: the
// header was not sent). 0 means that the whole body is one raw tensor.
StatusOr<size_t> ReadJsonSize(const std::optional<std::string>& header_length, size_t body_size);

// Reads the plain (decompressed) body of an infer request into `request`: id, parameters, inputs, requested outputs.
// Binary inputs are slices of `body`, and so of any alignment; JSON data is copied into a buffer sized by the elements
// received. Requires: request.model is set; kBufferPadding readable bytes behind the body.
// Does not validate against the model: ValidateRequest does.
Status ReadRequest(const Slice& body, const std::optional<std::string>& header_length, size_t max_input_size,
                   Request& request, OutputFormat& outputs);

// The whole HTTP answer. `response` may be an error, and is answered with one where it can not be written as asked.
// Tensor data is shared, not copied, where it is large.
Output WriteResponse(const Request& request, const Response& response, const AnswerFormat& format);

// {"error": <text>}; a text that is very long is cut.
std::string ErrorObject(std::string_view text);

// The HTTP answer of that form.
Output WriteError(const Status& status, bool keep_alive);

// The HTTP answer to a body in a Content-Encoding that is not known.
Output WriteUnknownCompression(bool keep_alive);

}  // namespace pyinfer::v2_http
