// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <csignal>
#include <mutex>

#include "folder.h"
#include "telemetry/trace_file.h"
#include "telemetry/trace_log.h"
#include "tracing.h"

namespace pyinfer {
namespace {

using namespace testing;

// A log in a folder, of requests that are answered at once.
struct Log : Traced {
  explicit Log(const std::string& file = "t") : path((folder / file).string()) {}

  // Requests traced with `options`, then the end of the log.
  void Write(const TraceOptions& options, int requests) {
    log = std::make_unique<TraceLog>(tracer->queue(), path, Reporter());
    tracer->Set("", options);
    Infer(requests);
    log->Close();
  }
  TraceLog::Report Reporter() {
    return [this](const std::string& text) {
      std::lock_guard<std::mutex> lock(mutex);
      reports.push_back(text);
    };
  }
  // Traces in a file, which is to be an array.
  int Count(const std::string& name) {
    const std::string text = folder.Read(name);
    CHECK(text.size() > 2 && text.front() == '[' && text.back() == ']');
    int count = 0;
    for (size_t at = 0; (at = text.find("model_name", at)) != std::string::npos; ++at) ++count;
    return count;
  }

  Folder folder;
  const std::string path;
  std::mutex mutex;
  std::vector<std::string> reports;
  std::unique_ptr<TraceLog> log;
};

TEST(TraceLog, WritesOneFile) {
  Log log;
  log.Write({kTraceTimestamps, 1, -1, 0}, 3);
  CHECK_EQ(log.Count("t"), 3);
  CHECK(!log.folder.Has("t.0"));
  CHECK(log.reports.empty());
}

TEST(TraceLog, WritesFilesOfLogFrequency) {
  Log log;
  log.Write({kTraceTimestamps, 1, -1, 2}, 5);
  CHECK(log.Count("t.0") == 2 && log.Count("t.1") == 2 && log.Count("t.2") == 1);
  CHECK(!log.folder.Has("t") && !log.folder.Has("t.3"));
}

TEST(TraceLog, WritesAnIndexedFileWhenTheCountIsUsedUp) {
  Log log;
  log.Write({kTraceTimestamps, 2, 3, 0}, 20);
  CHECK_EQ(log.Count("t.0"), 3);
  CHECK(!log.folder.Has("t"));
}

TEST(TraceLog, CountThatIsNotUsedUpGoesToTheFile) {
  Log log;
  log.Write({kTraceTimestamps, 1, 5, 0}, 4);
  CHECK_EQ(log.Count("t"), 4);
  CHECK(!log.folder.Has("t.0"));
}

TEST(TraceLog, WritesWhatIsLeftOfASettingThatIsReplaced) {
  Log log;
  TraceLog writer(log.tracer->queue(), log.path, log.Reporter());
  log.tracer->Set("", {kTraceTimestamps, 1, -1, 100});
  log.Infer(2);
  log.tracer->Set("", {kTraceTimestamps, 1, 100, 0});
  log.Infer(3);
  log.tracer->Set("m", {kTraceTimestamps, 1, -1, 2});
  log.Infer(3);
  log.tracer->Clear("m");
  writer.Close();
  // Which of the replaced settings' files is written first is not said.
  CHECK_EQ(log.Count("t.0") + log.Count("t.1") + log.Count("t.2"), 5);
  CHECK_EQ(log.Count("t"), 3);
}

TEST(TraceLog, FileGrowsAndStaysAnArray) {
  Folder folder;
  TraceFile file((folder / "t").string());
  CHECK_EQ(file.Append("1,2"), 0);
  CHECK_EQ(folder.Read("t"), "[1,2]");
  CHECK_EQ(file.Append("3"), 0);
  CHECK_EQ(folder.Read("t"), "[1,2,3]");
}

TEST(TraceLog, FileOfAnEarlierServerIsReplaced) {
  Folder folder;
  std::ofstream(folder / "t") << "[0,0,0,0,0,0,0,0]";
  std::ofstream(folder / "t.0") << "[0,0,0,0,0,0,0,0]";
  TraceFile file((folder / "t").string());
  CHECK(file.Append("1") == 0 && file.WriteIndexed("2") == 0);
  CHECK(folder.Read("t") == "[1]" && folder.Read("t.0") == "[2]");
}

TEST(TraceLog, FileThatWasTakenAwayIsBegunAnew) {
  Folder folder;
  TraceFile file((folder / "t").string());
  CHECK_EQ(file.Append("1"), 0);
  std::filesystem::remove(folder / "t");
  CHECK_EQ(file.Append("2"), 0);
  CHECK_EQ(folder.Read("t"), "[2]");
  std::filesystem::rename(folder / "t", folder / "old");
  CHECK_EQ(file.Append("3"), 0);
  CHECK(folder.Read("old") == "[2]" && folder.Read("t") == "[3]");
}

// The size that files of this process may have; what goes beyond fails, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limited{bytes, before_.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(TraceLog, WhatDoesNotFitLeavesTheFileAsItWas) {
  Folder folder;
  TraceFile file((folder / "t").string());
  CHECK_EQ(file.Append("1,2,3"), 0);
  {
    const FileSizeLimit limit(10);
    CHECK(file.Append("4,5,6,7,8,9") != 0);
    CHECK_EQ(folder.Read("t"), "[1,2,3]");
    CHECK(file.WriteIndexed("4,5,6,7,8,9") != 0);
    CHECK(!folder.Has("t.0"));
    CHECK_EQ(file.Append("4"), 0);
  }
  CHECK_EQ(folder.Read("t"), "[1,2,3,4]");
  CHECK_EQ(file.WriteIndexed("5"), 0);
  CHECK_EQ(folder.Read("t.0"), "[5]");
}

TEST(TraceLog, FirstWriteThatFailsLeavesNothing) {
  Folder folder;
  TraceFile file((folder / "t").string());
  {
    const FileSizeLimit limit(2);
    CHECK(file.Append("1,2,3") != 0);
    CHECK_EQ(folder.Read("t"), "");
  }
  CHECK_EQ(file.Append("1"), 0);
  CHECK_EQ(folder.Read("t"), "[1]");
}

TEST(TraceLog, UnwritableFileIsReportedOnceAndTracesAreCounted) {
  Log log("none/t");
  log.Write({kTraceTimestamps, 1, -1, 1}, 5);
  CHECK_EQ(log.reports.size(), size_t{1});
  CHECK(log.reports[0].find("No such file or directory") != std::string::npos);
  CHECK(log.tracer->queue()->counts().dropped == 5);
}

TEST(TraceLog, RecoveryIsReported) {
  Log log("none/t");
  TraceLog writer(log.tracer->queue(), log.path, log.Reporter());
  log.tracer->Set("", {kTraceTimestamps, 1, -1, 1});
  log.Infer(2);
  const auto reported = [&] {
    std::lock_guard<std::mutex> lock(log.mutex);
    return log.reports.size();
  };
  for (int i = 0; i < 10000 && log.tracer->queue()->counts().dropped != 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::filesystem::create_directory(log.folder / "none");
  log.Infer(1);
  writer.Close();
  CHECK_EQ(reported(), size_t{2});
  CHECK_EQ(log.reports[1], "traces are written again; 2 were dropped");
  CHECK_EQ(log.Count("none/t.0"), 1);
}

TEST(TraceLog, LostTracesUseUpTheCountToo) {
  Folder folder;
  Traced t({1, size_t{1} << 20});
  t.tracer->Set("", {kTraceTimestamps, 1, 3, 0});
  t.Infer(3);  // one fits
  TraceLog writer(t.tracer->queue(), (folder / "t").string(), [](const std::string&) {});
  writer.Close();
  CHECK(folder.Has("t.0"));
}

}  // namespace
}  // namespace pyinfer
