// SPDX-License-Identifier: Apache-2.0
#include <ctime>

#include "check.h"
#include "memory/buffer.h"
#include "wire/json.h"

namespace pyinfer {
namespace {

// The text of the refusal, "" where the document is accepted.
std::string Refusal(std::string_view text) {
  const Slice padded = Slice::Copy(text.data(), text.size());
  JsonDocument document;
  return document.Parse(padded.view()).message();
}

std::string Repeat(std::string_view text, size_t count) {
  std::string all;
  all.reserve(text.size() * count);
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

std::string Quote(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

bool HasDuplicates(std::string_view text) {
  const Slice padded = Slice::Copy(text.data(), text.size());
  JsonDocument document;
  CHECK_EQ(document.Parse(padded.view()).message(), "");
  return !CheckJsonMembers(document.root().get_object().value(), "it").ok();
}

TEST(Json, AcceptsDocuments) {
  for (const char* text : {"{}", "[]", " {\"a\" : [1, -2.5e3, true, false, null, \"\\u00e9\\n\"]}\n", "3", "\"x\"",
                           "\"\\ud83d\\ude00\"", "\"\\\\ud800\""}) {
    CHECK_EQ(Refusal(text), "");
  }
}

TEST(Json, RefusesWhatIsNotOneDocument) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "{\"a\":1",
                           "{\"a\":1}x",
                           "{} {}",
                           "[1,]",
                           "{\"a\":NaN}",
                           "[Infinity]",
                           "\xEF\xBB\xBF{}",
                           "[\"\xff\"]",
                           "[\"\xc0\xaf\"]",
                           "[\"\xed\xa0\x80\"]",
                           "[\"\\ud800\"]",
                           "[\"\\udc00\"]",
                           "[\"\\ud800\\u0041\"]",
                           "[\"\\ud800x\"]",
                           "[\"\\ude00\\ud83d\"]",
                           "[\"\\x\"]",
                           "[\"a\nb\"]",
                           "[1e400]",
                           "[-1e400]",
                           "[01]",
                           "[+1]",
                           "[.5]",
                           "{'a':1}",
                           "// x\n{}",
                           "[123456789012345678901234567890]"}) {
    CHECK_EQ(Refusal(text).rfind("failed to parse the request JSON buffer: ", 0), size_t{0});
  }
  CHECK(!Refusal(std::string_view("{}\0", 3)).empty());
}

TEST(Json, LimitsDepth) {
  CHECK_EQ(Refusal(Repeat("[", 99) + Repeat("]", 99)), "");
  CHECK(Refusal(Repeat("[", 101) + Repeat("]", 101)).find("nested") != std::string::npos);
  CHECK(Refusal(Repeat("{\"a\":", 101) + "1" + Repeat("}", 101)).find("nested") != std::string::npos);
  CHECK(!Refusal(Repeat("[", 1000000)).empty());
  CHECK(!Refusal(Repeat("[", 1000000) + Repeat("]", 1000000)).empty());
}

TEST(Json, DoesNotReadBehindTheDocument) {
  const std::string text = "[12]34567]";
  const Slice padded = Slice::Copy(text.data(), text.size());
  JsonDocument document;
  CHECK_EQ(document.Parse(padded.view().substr(0, 4)).message(), "");
  CHECK_EQ(document.root().get_array().at(0).get_int64().value(), 12);
  CHECK(!document.Parse(padded.view().substr(0, 3)).ok());
  CHECK_EQ(document.Parse(padded.view().substr(4, 4)).message(), "");
  CHECK_EQ(document.root().get_int64().value(), 3456);
}

TEST(Json, HostileDocumentsCostLinearTime) {
  std::string keys = "{\"k\":0";
  for (int i = 0; i < 1000000; ++i) keys += ",\"k" + std::to_string(i) + "\":1";
  const Slice padded = Slice::Copy((keys + "}").data(), keys.size() + 1);
  std::clock_t before = std::clock();
  {
    JsonDocument document;
    CHECK_EQ(document.Parse(padded.view()).message(), "");
    CHECK(!CheckJsonMembers(document.root().get_object().value(), "it").ok());
  }
  CHECK(!Refusal("[" + Repeat("1", 10 << 20) + "]").empty());
  CHECK_EQ(Refusal("[0." + Repeat("1", 10 << 20) + "]"), "");
  // Two orders of magnitude above what it takes, and as much below what quadratic time would.
  CHECK(std::clock() - before < 10 * CLOCKS_PER_SEC);
}

TEST(Json, FindsDuplicateMembers) {
  CHECK(!HasDuplicates("{}"));
  CHECK(!HasDuplicates("{\"a\":1,\"b\":1}"));
  CHECK(HasDuplicates("{\"a\":1,\"b\":1,\"a\":2}"));
  CHECK(HasDuplicates("{\"a\":1,\"\\u0061\":2}"));
  std::string many = "{\"x\":0";
  for (int i = 0; i < 1000; ++i) many += ",\"k" + std::to_string(i) + "\":1";
  CHECK(!HasDuplicates(many + "}"));
  CHECK(HasDuplicates(many + ",\"k500\":1}"));
}

TEST(Json, DocumentsOfOneThreadDoNotShareValues) {
  const Slice first = Slice::Copy("[1]", 3);
  const Slice second = Slice::Copy("[2]", 3);
  JsonDocument outer;
  CHECK(outer.Parse(first.view()).ok());
  {
    JsonDocument inner;
    CHECK(inner.Parse(second.view()).ok());
  }
  CHECK_EQ(outer.root().get_array().at(0).get_int64().value(), 1);
}

TEST(Json, WritesStrings) {
  CHECK_EQ(Quote("plain"), "\"plain\"");
  CHECK_EQ(Quote("a\"b\\c\n\r\t"), "\"a\\\"b\\\\c\\n\\r\\t\"");
  CHECK_EQ(Quote(std::string_view("\0\x1f", 2)), "\"\\u0000\\u001f\"");
  CHECK_EQ(Quote("\xff\xc3\xa9"), "\"\xff\xc3\xa9\"");
}

}  // namespace
}  // namespace pyinfer
