// SPDX-License-Identifier: Apache-2.0
// v2_grpc_fields.h - field numbers of the messages of package `inference` that the core reads and writes.
#pragma once

#include <cstdint>

namespace pyinfer::v2_grpc {

namespace model_infer_request {
enum : uint32_t { kModelName = 1, kModelVersion = 2, kId = 3, kParameters = 4, kInputs = 5, kOutputs = 6, kRaw = 7 };
}
namespace input_tensor {
enum : uint32_t { kName = 1, kDatatype = 2, kShape = 3, kParameters = 4, kContents = 5 };
}
namespace output_tensor {
enum : uint32_t { kName = 1, kDatatype = 2, kShape = 3, kParameters = 4 };
}
namespace infer_parameter {
enum : uint32_t { kBool = 1, kInt64 = 2, kString = 3, kDouble = 4, kUint64 = 5 };
}
namespace model_infer_response {
enum : uint32_t { kModelName = 1, kModelVersion = 2, kId = 3, kParameters = 4, kOutputs = 5, kRaw = 6 };
}
namespace model_stream_infer_response {
enum : uint32_t { kErrorMessage = 1, kInferResponse = 2 };
}

}  // namespace pyinfer::v2_grpc
