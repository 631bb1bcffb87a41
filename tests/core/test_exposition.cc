// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <string>

#include "check.h"
#include "wire/exposition.h"

namespace pyinfer {
namespace {

TEST(Exposition, WritesFamiliesThatHaveSamples) {
  Exposition page;
  page.Family("empty", "nothing", "gauge");
  page.Family("a", "what \\ \"it\"\nis", "counter");
  page.Sample("", {}, uint64_t{18446744073709551615U});
  page.Sample("_x", Labels().Add("b", "c"), 0.5);
  page.Family("empty too", "nothing", "gauge");
  CHECK_EQ(page.Take(), "# HELP a what \\\\ \"it\"\\nis\n# TYPE a counter\na 18446744073709551615\na_x{b=\"c\"} 0.5\n");
}

TEST(Exposition, PutsMoreLabelsBehindThoseOfTheSample) {
  const Labels more = Labels().Add("le", 0.5);
  Exposition page;
  page.Family("a", "", "histogram");
  page.Sample("_bucket", Labels().Add("b", "c"), uint64_t{1}, more);
  page.Sample("_bucket", {}, 2.5, more);
  page.Sample("_count", Labels().Add("b", "c"), uint64_t{1}, {});
  CHECK_EQ(page.Take(),
           "# HELP a \n# TYPE a histogram\na_bucket{b=\"c\",le=\"0.5\"} 1\na_bucket{le=\"0.5\"} 2.5\n"
           "a_count{b=\"c\"} 1\n");
}

TEST(Exposition, WritesNumbersThatReadBack) {
  Exposition page;
  page.Family("a", "", "gauge");
  for (const double value : {0.0, 268435456.0, 0.1, 1e-5, 1e300, -2.5, std::nan(""),
                             std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
    page.Sample("", {}, value);
  }
  CHECK_EQ(page.Take(),
           "# HELP a \n# TYPE a gauge\na 0\na 268435456\na 0.1\na 1e-05\na 1e+300\na -2.5\na NaN\na +Inf\na -Inf\n");
}

TEST(Exposition, EscapesLabelValues) {
  CHECK_EQ(Labels().Add("a", "\"\\\n").Add("b", "\r\t{},=\x01").text(),
           std::string("a=\"\\\"\\\\\\n\",b=\"\r\t{},=\x01\""));
  CHECK_EQ(Labels().Add("le", 0.5).Add("le", std::numeric_limits<double>::infinity()).text(), "le=\"0.5\",le=\"+Inf\"");
}

TEST(Exposition, MakesLabelNamesValid) {
  CHECK_EQ(LabelName("aZ_09"), "aZ_09");
  CHECK_EQ(LabelName("9a-b c\xc3\xa4"), "_a_b_c__");
  CHECK_EQ(LabelName("__a__b"), "_a__b");
  CHECK_EQ(LabelName("-_1"), "_1");
  CHECK_EQ(LabelName(""), "");
}

}  // namespace
}  // namespace pyinfer
