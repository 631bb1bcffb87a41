// SPDX-License-Identifier: Apache-2.0
#include "load/expected.h"

#include <algorithm>
#include <protozero/pbf_reader.hpp>

#include "memory/buffer.h"
#include "wire/json.h"

namespace pyinfer {
namespace {

using protozero::pbf_wire_type;
using protozero::tag_and_type;

using Outputs = std::vector<std::pair<std::string_view, std::string_view>>;

std::string Compare(const ExpectedOutputs& expected, const Outputs& outputs) {
  for (const auto& [name, bytes] : expected) {
    const auto found =
        std::find_if(outputs.begin(), outputs.end(), [&key = name](const auto& one) { return one.first == key; });
    if (found == outputs.end()) return "the answer has no output '" + name + "', which validation_data expects";
    if (found->second.size() != bytes.size()) {
      return "output '" + name + "' has " + std::to_string(found->second.size()) + " bytes; validation_data has " +
             std::to_string(bytes.size());
    }
    if (found->second != bytes) return "output '" + name + "' differs from validation_data";
  }
  return {};
}

std::string_view View(const protozero::data_view& data) { return {data.data(), data.size()}; }

std::string_view NameOf(protozero::pbf_reader output) {
  std::string_view name;
  while (output.next(1, pbf_wire_type::length_delimited)) name = View(output.get_view());
  return name;
}

}  // namespace

std::string CompareGrpc(const ExpectedOutputs& expected, std::string_view message) {
  std::vector<std::string_view> names, contents;
  try {
    protozero::pbf_reader fields(message.data(), message.size());
    while (fields.next()) {
      switch (fields.tag_and_type()) {
        case tag_and_type(5, pbf_wire_type::length_delimited):
          names.push_back(NameOf(fields.get_message()));
          break;
        case tag_and_type(6, pbf_wire_type::length_delimited):
          contents.push_back(View(fields.get_view()));
          break;
        default:
          fields.skip();
      }
    }
  } catch (const protozero::exception&) {
    return "the answer is no ModelInferResponse";
  }
  Outputs outputs;
  for (size_t i = 0; i < std::min(names.size(), contents.size()); ++i) outputs.emplace_back(names[i], contents[i]);
  return Compare(expected, outputs);
}

std::string CompareHttp(const ExpectedOutputs& expected, std::string_view body, size_t header_size) {
  const std::string_view header = body.substr(0, header_size == 0 ? body.size() : header_size);
  std::string padded;
  padded.reserve(header.size() + kBufferPadding);
  padded = header;
  JsonDocument document;
  JsonArray list;
  if (!document.Parse(padded).ok() || document.root()["outputs"].get(list) != simdjson::SUCCESS) {
    return "the answer is no JSON with outputs";
  }
  Outputs outputs;
  std::string_view rest = body.substr(header.size());
  for (const JsonValue one : list) {
    std::string_view name;
    uint64_t size = 0;
    if (one["name"].get(name) != simdjson::SUCCESS) continue;
    if (one["parameters"]["binary_data_size"].get(size) != simdjson::SUCCESS) continue;
    outputs.emplace_back(name, rest.substr(0, size));
    rest.remove_prefix(std::min<size_t>(size, rest.size()));
  }
  return Compare(expected, outputs);
}

}  // namespace pyinfer
