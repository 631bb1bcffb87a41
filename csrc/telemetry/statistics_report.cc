// SPDX-License-Identifier: Apache-2.0
#include "telemetry/statistics_report.h"

#include <cstdint>
#include <protozero/pbf_writer.hpp>
#include <string_view>

#include "wire/json.h"
#include "wire/json_numbers.h"

namespace pyinfer {
namespace {

// What JSON calls a member, and its number in the message.
struct Member {
  std::string_view name;
  uint32_t number;
};

class JsonReport {
 public:
  void Number(Member member, uint64_t value) {
    Name(member.name);
    AppendJsonNumber(text_, value);
  }

  void Text(Member member, std::string_view value) {
    Name(member.name);
    AppendJsonString(text_, value);
  }

  template <typename Write>
  void Object(Member member, Write write) {
    Name(member.name);
    Enclosed('{', '}', write);
  }

  // `write(item)` tells the members of each.
  template <typename Items, typename Write>
  void List(Member member, const Items& items, Write write) {
    Name(member.name);
    Enclosed('[', ']', [&] {
      for (const auto& item : items) {
        Separate();
        Enclosed('{', '}', [&] { write(item); });
      }
    });
  }

  // The same as an object, whose members are called by their places.
  template <typename Items, typename Write>
  void ByPlace(Member member, const Items& items, Write write) {
    Object(member, [&] {
      for (size_t i = 0; i < items.size(); ++i) {
        Name(std::to_string(i));
        Enclosed('{', '}', [&] { write(items[i]); });
      }
    });
  }

  template <typename Write>
  std::string Document(Write write) {
    Enclosed('{', '}', write);
    return std::move(text_);
  }

 private:
  void Separate() {
    if (text_.back() != '{' && text_.back() != '[') text_ += ',';
  }

  void Name(std::string_view name) {
    Separate();
    text_ += '"';
    text_ += name;
    text_ += "\":";
  }

  template <typename Write>
  void Enclosed(char open, char close, Write write) {
    text_ += open;
    write();
    text_ += close;
  }

  std::string text_;
};

class MessageReport {
 public:
  void Number(Member member, uint64_t value) {
    if (value != 0) writer_->add_uint64(member.number, value);
  }

  void Text(Member member, std::string_view value) { writer_->add_string(member.number, value.data(), value.size()); }

  // One without any member that differs from its default is there nevertheless.
  template <typename Write>
  void Object(Member member, Write write) {
    const size_t before = bytes_.size();
    protozero::pbf_writer* const outer = writer_;
    {
      protozero::pbf_writer inner(*outer, member.number);
      writer_ = &inner;
      write();
      writer_ = outer;
    }
    if (bytes_.size() == before) outer->add_message(member.number, "", 0);
  }

  template <typename Items, typename Write>
  void List(Member member, const Items& items, Write write) {
    for (const auto& item : items) Object(member, [&] { write(item); });
  }

  template <typename Items, typename Write>
  void ByPlace(Member member, const Items& items, Write write) {
    for (size_t i = 0; i < items.size(); ++i) {
      Object(member, [&] {
        Text({"key", 1}, std::to_string(i));
        Object({"value", 2}, [&] { write(items[i]); });
      });
    }
  }

  template <typename Write>
  std::string Document(Write write) {
    write();
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
  protozero::pbf_writer whole_{bytes_};
  protozero::pbf_writer* writer_ = &whole_;
};

template <typename Report>
void TellDuration(Report& report, Member member, const DurationSum& sum) {
  report.Object(member, [&] {
    report.Number({"count", 1}, sum.count);
    report.Number({"ns", 2}, sum.ns);
  });
}

template <typename Report>
void TellSums(Report& report, const ModelSums& sums) {
  TellDuration(report, {"success", 1}, sums.success);
  TellDuration(report, {"fail", 2}, sums.fail);
  TellDuration(report, {"queue", 3}, sums.queue);
  TellDuration(report, {"compute_input", 4}, sums.compute_input);
  TellDuration(report, {"compute_infer", 5}, sums.compute_infer);
  TellDuration(report, {"compute_output", 6}, sums.compute_output);
  TellDuration(report, {"cache_hit", 7}, sums.cache_hit);
  TellDuration(report, {"cache_miss", 8}, sums.cache_miss);
}

template <typename Report>
void TellResponse(Report& report, const ResponseStatistics& sums) {
  TellDuration(report, {"compute_infer", 1}, sums.compute_infer);
  TellDuration(report, {"compute_output", 2}, sums.compute_output);
  TellDuration(report, {"success", 3}, sums.success);
  TellDuration(report, {"fail", 4}, sums.fail);
  TellDuration(report, {"empty_response", 5}, sums.empty_response);
  TellDuration(report, {"cancel", 6}, sums.cancel);
}

template <typename Report>
void TellModel(Report& report, const Model& model) {
  const ModelStatistics statistics = model.Statistics();
  report.Text({"name", 1}, model.spec()->name);
  report.Text({"version", 2}, model.spec()->version_text);
  report.Number({"last_inference", 3}, static_cast<uint64_t>(statistics.last_inference_ms));
  report.Number({"inference_count", 4}, statistics.inference_count);
  report.Number({"execution_count", 5}, statistics.execution_count);
  report.Object({"inference_stats", 6}, [&] { TellSums(report, statistics); });
  report.ByPlace({"response_stats", 9}, model.ResponseStatisticsByIndex(),
                 [&](const ResponseStatistics& sums) { TellResponse(report, sums); });
  report.List({"batch_stats", 7}, statistics.batches, [&](const auto& sums) {
    report.Number({"batch_size", 1}, static_cast<uint64_t>(sums.first));
    TellDuration(report, {"compute_input", 2}, sums.second.compute_input);
    TellDuration(report, {"compute_infer", 3}, sums.second.compute_infer);
    TellDuration(report, {"compute_output", 4}, sums.second.compute_output);
  });
  report.List({"memory_usage", 8}, std::vector<int>(), [](int) {});
}

template <typename Report>
std::string Tell(const std::vector<std::shared_ptr<Model>>& models) {
  Report report;
  return report.Document([&] {
    report.List({"model_stats", 1}, models, [&](const std::shared_ptr<Model>& model) { TellModel(report, *model); });
  });
}

}  // namespace

std::string StatisticsJson(const std::vector<std::shared_ptr<Model>>& models) { return Tell<JsonReport>(models); }

std::string StatisticsMessage(const std::vector<std::shared_ptr<Model>>& models) { return Tell<MessageReport>(models); }

}  // namespace pyinfer
