// SPDX-License-Identifier: Apache-2.0
#include "infer/dtype.h"

#include <array>

namespace pyinfer {
namespace {

struct Row {
  std::string_view name;
  size_t size;
};

// Indexed by DType.
constexpr std::array<Row, 15> kTable = {{{"<invalid>", 0},
                                         {"BOOL", 1},
                                         {"UINT8", 1},
                                         {"UINT16", 2},
                                         {"UINT32", 4},
                                         {"UINT64", 8},
                                         {"INT8", 1},
                                         {"INT16", 2},
                                         {"INT32", 4},
                                         {"INT64", 8},
                                         {"FP16", 2},
                                         {"FP32", 4},
                                         {"FP64", 8},
                                         {"BYTES", 0},
                                         {"BF16", 2}}};

}  // namespace

std::string_view DTypeName(DType dtype) { return kTable[static_cast<size_t>(dtype)].name; }

DType ParseDType(std::string_view name) {
  for (size_t i = 1; i < kTable.size(); ++i) {
    if (kTable[i].name == name) return static_cast<DType>(i);
  }
  return DType::kInvalid;
}

size_t DTypeSize(DType dtype) { return kTable[static_cast<size_t>(dtype)].size; }

}  // namespace pyinfer
