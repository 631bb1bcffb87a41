// SPDX-License-Identifier: Apache-2.0
// v2_grpc_contents.h - typed tensor data (InferTensorContents) -> the raw form that everything else works on.
#pragma once

#include <protozero/pbf_reader.hpp>
#include <string>

#include "base/status.h"
#include "infer/dtype.h"
#include "memory/buffer.h"

namespace pyinfer::v2_grpc {

// The elements of the one field of `contents` that serves `dtype`, packed or not, little-endian; BYTES elements get
// their length prefix. `where` names the tensor in errors. Throws protozero::exception where the message is malformed.
StatusOr<Slice> ReadContents(protozero::pbf_reader contents, DType dtype, const std::string& where);

}  // namespace pyinfer::v2_grpc
