// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "wire/gzip.h"

namespace pyinfer {
namespace {

constexpr Compression kBoth[] = {Compression::kGzip, Compression::kDeflate};

Slice Text(std::string_view text) { return Slice::Copy(text.data(), text.size()); }

Slice Packed(Compression compression, const std::vector<std::string_view>& pieces) {
  StatusOr<Slice> packed = Compress(compression, pieces);
  CHECK(packed.ok());
  return packed.value();
}

TEST(Gzip, ThereAndBack) {
  const std::string large(300000, 'x');
  std::string noise;
  for (uint32_t i = 0, state = 1; i < 200000; ++i)
    noise += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  for (Compression compression : kBoth) {
    const Slice packed = Packed(compression, {"head", "", large, noise});
    StatusOr<Slice> plain = Decompress(compression, packed, size_t{1} << 20);
    CHECK(plain.ok());
    CHECK(plain->view() == "head" + large + noise);
    CHECK_EQ(Decompress(compression, Packed(compression, {}), 0).value().size(), size_t{0});
  }
}

TEST(Gzip, StopsAtTheLimit) {
  const std::string zeros(10 << 20, '\0');
  for (Compression compression : kBoth) {
    const Slice bomb = Packed(compression, {zeros});
    CHECK(bomb.size() < 100000);
    CHECK(Decompress(compression, bomb, 1000).status().code() == Code::kResourceExhausted);
    CHECK(Decompress(compression, bomb, zeros.size() - 1).status().code() == Code::kResourceExhausted);
    CHECK(Decompress(compression, bomb, zeros.size()).ok());
  }
}

TEST(Gzip, RefusesWhatIsNotOneWholeStream) {
  for (Compression compression : kBoth) {
    const std::string packed(Packed(compression, {"some text that is packed"}).view());
    for (size_t size = 0; size < packed.size(); ++size) {
      CHECK(Decompress(compression, Text(packed.substr(0, size)), 1000).status().code() == Code::kInvalidArg);
    }
    std::string wrong_checksum = packed;
    wrong_checksum[packed.size() - (compression == Compression::kGzip ? 8 : 1)] ^= 1;
    CHECK(Decompress(compression, Text(wrong_checksum), 1000).status().code() == Code::kInvalidArg);
    CHECK(Decompress(compression, Text(packed + packed), 1000).status().code() == Code::kInvalidArg);
    CHECK(Decompress(compression, Text(packed + "x"), 1000).status().code() == Code::kInvalidArg);
    CHECK(Decompress(compression, Text("no such stream"), 1000).status().code() == Code::kInvalidArg);
  }
}

TEST(Gzip, ContentEncoding) {
  CHECK(ParseContentEncoding("") == Compression::kIdentity);
  CHECK(ParseContentEncoding(" identity ") == Compression::kIdentity);
  CHECK(ParseContentEncoding("GZip") == Compression::kGzip);
  CHECK(ParseContentEncoding("deflate") == Compression::kDeflate);
  for (const char* header : {"br", "gzip, gzip", "gzip;q=1", "x"}) {
    CHECK(ParseContentEncoding(header) == Compression::kUnknown);
  }
}

TEST(Gzip, AcceptEncoding) {
  struct Case {
    const char* header;
    Compression chosen;
  };
  const Case cases[] = {{"", Compression::kIdentity},
                        {"gzip", Compression::kGzip},
                        {"deflate", Compression::kDeflate},
                        {"gzip, deflate", Compression::kGzip},
                        {"deflate, gzip", Compression::kDeflate},
                        {"gzip;q=0.5, deflate;q=0.8", Compression::kDeflate},
                        {"identity, gzip", Compression::kIdentity},
                        {"identity;q=0.5, gzip;q=0.501", Compression::kGzip},
                        {"gzip;q=0", Compression::kIdentity},
                        {"gzip;q=0.000", Compression::kIdentity},
                        {"gzip ; Q=1.000", Compression::kGzip},
                        {"gzip;q=1e999", Compression::kIdentity},
                        {"gzip;q=1e999, deflate;q=0.1", Compression::kDeflate},
                        {"gzip;q=2", Compression::kIdentity},
                        {"gzip;q=-1", Compression::kIdentity},
                        {"gzip;q=1.001", Compression::kIdentity},
                        {"gzip;q=0.1234", Compression::kIdentity},
                        {"gzip;q=nan", Compression::kIdentity},
                        {"gzip;q=", Compression::kIdentity},
                        {";;;,,,q=1,;q", Compression::kIdentity},
                        {"br, *", Compression::kIdentity},
                        {"br;q=1.0, gzip;q=0.1", Compression::kGzip}};
  for (const Case& item : cases) {
    if (ChooseCompression(item.header) != item.chosen) testing::Fail(__FILE__, __LINE__, item.header);
  }
}

}  // namespace
}  // namespace pyinfer
