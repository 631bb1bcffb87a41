// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {
namespace {

TEST(GrpcPrefix, SizesAreBigEndianAndReadAsTheyWereWritten) {
  CHECK_EQ(WithGrpcPrefix("abc"), std::string("\0\0\0\0\3abc", 8));
  for (const uint64_t size : {0u, 1u, 0x7fu, 0x80u, 0xffu, 0x01020304u, 0xfffefdfcu}) {
    char head[kGrpcPrefixSize] = {1, 1, 1, 1, 1};
    WriteGrpcPrefix(head, size);
    const GrpcPrefix read = ReadGrpcPrefix({head, sizeof head});
    CHECK_EQ(read.size, size);
    CHECK_EQ(read.flag, 0);
  }
  CHECK_EQ(ReadGrpcPrefix(std::string_view("\xff\0\0\1\0rest", 9)).flag, 255);
}

}  // namespace
}  // namespace pyinfer
