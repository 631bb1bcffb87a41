// SPDX-License-Identifier: Apache-2.0
// gzip.h - compression of whole bodies: which one, and bytes <-> compressed bytes.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "memory/buffer.h"

namespace pyinfer {

enum class Compression { kIdentity, kGzip, kDeflate, kUnknown };

// "gzip", "deflate"; empty for the others.
std::string_view CompressionName(Compression compression);

// What a Content-Encoding header says; no header is identity, more than one coding is kUnknown.
Compression ParseContentEncoding(std::string_view header);

// The coding of the answer to a request with this Accept-Encoding header: the one with the highest weight, the first of
// those that weigh the same. Entries that are malformed, unknown or weigh nothing are ignored.
// Identity where none is left.
Compression ChooseCompression(std::string_view accept_encoding);

// The plain bytes of one stream (kDeflate: in the zlib format, as HTTP and gRPC have it), with the padding of a Buffer.
// ResourceExhausted where they are more than `limit`, of which no more than one byte more is ever written; InvalidArg
// where the stream is cut short, damaged, or followed by something. Requires: kGzip or kDeflate.
StatusOr<Slice> Decompress(Compression compression, const Slice& compressed, size_t limit);

// One stream of all the pieces. Internal where it fails (out of memory). Requires: kGzip or kDeflate; `effort` is 1 to
// 9. The default is 1, because the next levels cost several times the CPU for a few percent of size on tensor bytes and
// numbers.
StatusOr<Slice> Compress(Compression compression, const std::vector<std::string_view>& pieces, int effort = 1);

}  // namespace pyinfer
