// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "infer/trace_context.h"

namespace pyinfer {
namespace {

constexpr const char* kValid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(TraceContext, Parses) {
  const auto parent = ParseTraceParent(kValid);
  CHECK(parent.has_value());
  CHECK_EQ(TraceParentText(parent->trace, parent->span), kValid);
  CHECK(ParseTraceParent(std::string(" \t") + kValid + " ").has_value());
  // The client does not record its own spans: that is its own business.
  CHECK(ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").has_value());
  // Later versions may have more fields.
  CHECK(ParseTraceParent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").has_value());
  CHECK(ParseTraceParent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what").has_value());
}

TEST(TraceContext, RefusesWhatIsNone) {
  for (const char* text : {
           "",
           "00",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
           "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
           "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
           "00-00000000000000000000000000000000-b7ad6b7169203331-01",
           "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033310-1",
           "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
       }) {
    CHECK(!ParseTraceParent(text).has_value());
  }
}

TEST(TraceContext, RepeatedParentIsInvalid) {
  TraceContext context;
  context.AddParent(kValid);
  context.AddState("a=1");
  CHECK(ParseTraceParent(context.parent).has_value());
  context.AddParent(kValid);
  context.AddState("b=2");
  CHECK(!ParseTraceParent(context.parent).has_value());
  CHECK_EQ(context.state, "a=1,b=2");
}

}  // namespace
}  // namespace pyinfer
