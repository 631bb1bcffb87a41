// SPDX-License-Identifier: Apache-2.0
// tracing.h - a tracer on a clock that stands still, requests that pass it, and a folder for files of traces.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "engine/tracer.h"
#include "scheduling.h"

namespace pyinfer::testing {

// What a tracer makes of requests that are answered at once.
struct Traced {
  explicit Traced(TraceQueue::Limits limits = {}) : tracer(std::make_shared<Tracer>(clock, limits)) {}

  RequestPtr Begin(const std::string& id = "", const std::string& traceparent = "") {
    RequestPtr request = IntRequest(model, std::make_shared<KeepingSink>());
    request->id = id;
    if (!traceparent.empty()) {
      request->trace_context = std::make_unique<TraceContext>();
      request->trace_context->AddParent(traceparent);
    }
    if (tracer->enabled()) tracer->Begin(*request);
    return request;
  }
  // How many of `count` requests are traced.
  int Infer(int count) {
    int traced = 0;
    for (int i = 0; i < count; ++i) {
      const RequestPtr request = Begin();
      traced += request->trace != nullptr ? 1 : 0;
      request->Answer({});
    }
    return traced;
  }
  // The finished traces, without waiting for any.
  std::vector<CollectedTrace> Take() { return tracer->queue()->Take(std::chrono::milliseconds(0)); }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1000);
  std::shared_ptr<const ModelSpec> model = Shared(IntModel({}, /*version=*/3));
  std::shared_ptr<Tracer> tracer;
};

// A temporary folder.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "pyinfer-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  bool Has(const std::string& name) const { return std::filesystem::exists(path_ / name); }
  std::string Read(const std::string& name) const {
    std::ifstream file(path_ / name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace pyinfer::testing
