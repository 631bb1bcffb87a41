// SPDX-License-Identifier: Apache-2.0
#include "wire/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>

namespace pyinfer {
namespace {

constexpr size_t kStep = size_t{64} << 10;
constexpr int kZlibWindow = 15;
constexpr int kGzipFlag = 16;

int WindowBits(Compression compression) {
  return compression == Compression::kGzip ? kZlibWindow + kGzipFlag : kZlibWindow;
}

// zlib counts its input in 32 bits.
uInt Piece(size_t size) { return static_cast<uInt>(std::min(size, size_t{1} << 30)); }

Bytef* Input(const char* data) { return reinterpret_cast<Bytef*>(const_cast<char*>(data)); }

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return std::tolower(static_cast<unsigned char>(a)) == b;
         });
}

Compression CodingOfName(std::string_view name) {
  if (EqualsIgnoringCase(name, "identity")) return Compression::kIdentity;
  if (EqualsIgnoringCase(name, "gzip")) return Compression::kGzip;
  if (EqualsIgnoringCase(name, "deflate")) return Compression::kDeflate;
  return Compression::kUnknown;
}

// A weight in thousandths: "0", "1", or either with a point and up to three digits; nothing for all else.
std::optional<int> ParseWeight(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return std::nullopt;
  if (text.size() > 1 && text[1] != '.') return std::nullopt;
  int weight = (text[0] - '0') * 1000;
  int digit_value = 100;
  for (size_t i = 2; i < text.size(); ++i, digit_value /= 10) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    weight += (text[i] - '0') * digit_value;
  }
  if (weight > 1000) return std::nullopt;
  return weight;
}

// The weight of one entry's parameters (";q=0.5"): 1000 without any, nothing where they are malformed.
std::optional<int> EntryWeight(std::string_view parameters) {
  parameters = Trim(parameters);
  if (parameters.empty()) return 1000;
  if (!EqualsIgnoringCase(parameters.substr(0, 2), "q=")) return std::nullopt;
  return ParseWeight(parameters.substr(2));
}

class Inflater {
 public:
  explicit Inflater(Compression compression) { ready_ = inflateInit2(&stream, WindowBits(compression)) == Z_OK; }
  ~Inflater() { inflateEnd(&stream); }
  bool ready() const { return ready_; }
  z_stream stream{};

 private:
  bool ready_ = false;
};

class Deflater {
 public:
  Deflater(Compression compression, int effort) {
    constexpr int kMemoryLevel = 8;
    ready_ =
        deflateInit2(&stream, effort, Z_DEFLATED, WindowBits(compression), kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~Deflater() { deflateEnd(&stream); }
  bool ready() const { return ready_; }
  z_stream stream{};

 private:
  bool ready_ = false;
};

}  // namespace

std::string_view CompressionName(Compression compression) {
  if (compression == Compression::kGzip) return "gzip";
  if (compression == Compression::kDeflate) return "deflate";
  return {};
}

Compression ParseContentEncoding(std::string_view header) {
  header = Trim(header);
  return header.empty() ? Compression::kIdentity : CodingOfName(header);
}

Compression ChooseCompression(std::string_view accept_encoding) {
  Compression best = Compression::kIdentity;
  int best_weight = 0;
  while (!accept_encoding.empty()) {
    const size_t comma = std::min(accept_encoding.find(','), accept_encoding.size());
    const std::string_view entry = accept_encoding.substr(0, comma);
    accept_encoding.remove_prefix(std::min(comma + 1, accept_encoding.size()));
    const size_t semicolon = std::min(entry.find(';'), entry.size());
    const Compression compression = CodingOfName(Trim(entry.substr(0, semicolon)));
    if (compression == Compression::kUnknown) continue;
    const std::optional<int> weight = EntryWeight(entry.substr(std::min(semicolon + 1, entry.size())));
    if (!weight || *weight <= best_weight) continue;
    best = compression;
    best_weight = *weight;
  }
  return best;
}

StatusOr<Slice> Decompress(Compression compression, const Slice& compressed, size_t limit) {
  Inflater inflater(compression);
  if (!inflater.ready()) return Status::Internal("decompression could not be started: out of memory");
  z_stream& stream = inflater.stream;
  GrowingBuffer plain;
  // It grows in few steps, because at each of them the bytes so far are in memory twice, and never beyond the limit.
  plain.Expect(limit + 1);
  size_t used = 0;
  while (true) {
    stream.next_in = Input(compressed.view().data() + used);
    stream.avail_in = Piece(compressed.size() - used);
    const size_t given = stream.avail_in;
    const size_t room = std::min(kStep, limit - plain.size() + 1);
    stream.next_out = plain.Prepare(room);
    stream.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream, Z_NO_FLUSH);
    used += given - stream.avail_in;
    plain.Commit(room - stream.avail_out);
    if (plain.size() > limit) {
      return Status(Code::kResourceExhausted,
                    "the decompressed data has more than " + std::to_string(limit) + " bytes");
    }
    if (result == Z_STREAM_END) break;
    if (result == Z_BUF_ERROR || (result == Z_OK && used == compressed.size() && stream.avail_out != 0)) {
      return Status::InvalidArg("failed to decompress: the compressed data ends too early");
    }
    if (result != Z_OK) return Status::InvalidArg("failed to decompress: the compressed data is damaged");
  }
  if (used != compressed.size()) {
    return Status::InvalidArg("failed to decompress: something follows the compressed data");
  }
  return plain.Take();
}

StatusOr<Slice> Compress(Compression compression, const std::vector<std::string_view>& pieces, int effort) {
  Deflater deflater(compression, effort);
  if (!deflater.ready()) return Status::Internal("compression could not be started: out of memory");
  z_stream& stream = deflater.stream;
  GrowingBuffer packed;
  for (size_t i = 0; i <= pieces.size(); ++i) {
    std::string_view left = i < pieces.size() ? pieces[i] : std::string_view();
    const int flush = i < pieces.size() ? Z_NO_FLUSH : Z_FINISH;
    int result = Z_OK;
    do {
      stream.next_in = Input(left.data());
      stream.avail_in = Piece(left.size());
      const size_t given = stream.avail_in;
      stream.next_out = packed.Prepare(kStep);
      stream.avail_out = static_cast<uInt>(kStep);
      result = deflate(&stream, flush);
      left.remove_prefix(given - stream.avail_in);
      packed.Commit(kStep - stream.avail_out);
      if (result == Z_STREAM_ERROR) return Status::Internal("compression failed");
    } while (!left.empty() || (flush == Z_FINISH && result != Z_STREAM_END));
  }
  return packed.Take();
}

}  // namespace pyinfer
