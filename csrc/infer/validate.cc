// SPDX-License-Identifier: Apache-2.0
#include "infer/validate.h"

#include <algorithm>

#include "base/quoted.h"
#include "infer/padding.h"
#include "infer/relayed.h"

namespace pyinfer {
namespace {

std::string Quoted(std::string_view name) { return QuotedForError(name); }

// "['A','B']"
std::string NameList(const std::vector<std::string>& names) {
  std::string text = "[";
  for (size_t i = 0; i < names.size(); ++i) {
    if (i != 0) text += ',';
    text += Quoted(names[i]);
  }
  return text + "]";
}

bool DimsMatch(const Shape& dims, const int64_t* shape, size_t rank) {
  if (dims.size() != rank) return false;
  for (size_t i = 0; i < rank; ++i) {
    if (shape[i] < 0 || (dims[i] != -1 && dims[i] != shape[i])) return false;
  }
  return true;
}

Shape WithBatch(const ModelSpec& model, const Shape& dims) {
  Shape full = dims;
  if (model.has_batch_dimension()) full.insert(full.begin(), -1);
  return full;
}

// `to`, with its variable dimensions taken in order from those of `from` as `shape` (starting at `at`) has them.
void ApplyReshape(const Shape& from, const Shape& to, size_t at, Shape& shape) {
  Shape reshaped(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(at));
  size_t next = 0;
  for (int64_t dim : to) {
    if (dim == -1) {
      while (next < from.size() && from[next] != -1) ++next;
      dim = next < from.size() ? shape[at + next] : -1;
      ++next;
    }
    reshaped.push_back(dim);
  }
  shape = std::move(reshaped);
}

Status AlreadyExists(std::string_view kind, std::string_view name) {
  return Status::InvalidArg(std::string(kind) + " " + Quoted(name) + " already exists in request");
}

// Looks at all inputs, so that the first complaint about a repeated one is that it is repeated.
Status CheckDuplicates(const Request& request) {
  std::vector<std::string_view> names;
  names.reserve(request.inputs.size());
  for (const Tensor& input : request.inputs) names.push_back(input.name);
  std::sort(names.begin(), names.end());
  const auto duplicate = std::adjacent_find(names.begin(), names.end());
  return duplicate == names.end() ? Status() : AlreadyExists("input", *duplicate);
}

Status CheckCounts(const ModelSpec& model, const Request& request) {
  const auto required = static_cast<size_t>(
      std::count_if(model.inputs.begin(), model.inputs.end(), [](const TensorSpec& spec) { return !spec.optional; }));
  const size_t given = request.inputs.size();
  if (given >= required && given <= model.inputs.size()) return Status();
  if (given <= model.inputs.size() + kExtraInputs) {
    if (Status status = CheckDuplicates(request); !status.ok()) return status;
  }
  std::vector<std::string> missing;
  for (const TensorSpec& spec : model.inputs) {
    const auto has = [&](const Tensor& input) { return input.name == spec.name; };
    if (!spec.optional && std::none_of(request.inputs.begin(), request.inputs.end(), has)) missing.push_back(spec.name);
  }
  std::vector<std::string> got;
  for (const Tensor& input : request.inputs) {
    if (got.size() == model.inputs.size() + 8) break;  // enough to see what is wrong
    got.push_back(input.name);
  }
  const std::string expected = required == model.inputs.size()
                                   ? "expected " + std::to_string(required) + " inputs"
                                   : "expected number of inputs between " + std::to_string(required) + " and " +
                                         std::to_string(model.inputs.size());
  return Status::InvalidArg(expected + " but got " + std::to_string(given) + " inputs for model " + Quoted(model.name) +
                            ". Got input(s) " + NameList(got) + ", but missing required input(s) " + NameList(missing) +
                            ". Please provide all required input(s).");
}

// Where in the request each input of the model is; SIZE_MAX where it is not given.
Status FindInputs(const ModelSpec& model, const Request& request, std::vector<size_t>& places) {
  places.assign(model.inputs.size(), SIZE_MAX);
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const TensorSpec* spec = model.FindInput(request.inputs[i].name);
    if (spec == nullptr) {
      return Status::InvalidArg("unexpected inference input " + Quoted(request.inputs[i].name) + " for model " +
                                Quoted(model.name));
    }
    size_t& place = places[static_cast<size_t>(spec - model.inputs.data())];
    if (place != SIZE_MAX) return WithRequestId(request, AlreadyExists("input", spec->name));
    place = i;
  }
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i] != SIZE_MAX || model.inputs[i].optional) continue;
    return Status::InvalidArg("input " + Quoted(model.inputs[i].name) + " is required for model " + Quoted(model.name));
  }
  return Status();
}

Status CheckBatch(const ModelSpec& model, const Tensor& input, bool first, int64_t& batch_size) {
  if (!model.has_batch_dimension()) return Status();
  if (input.shape.empty()) {
    return Status::InvalidArg("input " + Quoted(input.name) + " has no shape but model requires batch dimension for " +
                              Quoted(model.name));
  }
  if (first) {
    batch_size = input.shape[0];
  } else if (batch_size != input.shape[0]) {
    return Status::InvalidArg("input " + Quoted(input.name) + " batch size does not match other inputs for " +
                              Quoted(model.name));
  }
  if (batch_size < 0) {
    return Status::InvalidArg("inference request batch-size must be >= 0 for " + Quoted(model.name));
  }
  if (batch_size > model.most_rows()) {
    return Status::InvalidArg("inference request batch-size must be <= " + std::to_string(model.most_rows()) + " for " +
                              Quoted(model.name));
  }
  return Status();
}

Status CheckData(const ModelSpec& model, const Tensor& input) {
  const auto count = ElementCount(input.shape);
  if (!count) {
    return Status::InvalidArg("the shape " + ShapeText(input.shape) + " of input " + Quoted(input.name) +
                              " for model " + Quoted(model.name) + " is too large");
  }
  if (input.dtype == DType::kBytes) {
    return CheckBytes(input.data.view(), *count,
                      "inference input " + Quoted(input.name) + " for model " + Quoted(model.name));
  }
  const uint64_t expected = ByteSize(input.dtype, input.shape).value_or(0);  // there is one: the count is not too large
  if (expected == input.data.size()) return Status();
  return Status::InvalidArg("input byte size mismatch for input " + Quoted(input.name) + " for model " +
                            Quoted(model.name) + ". Expected " + std::to_string(expected) + ", got " +
                            std::to_string(input.data.size()));
}

Status CheckInput(const ModelSpec& model, const TensorSpec& spec, Tensor& input, bool first, int64_t& batch_size) {
  if (input.dtype != spec.dtype) {
    return Status::InvalidArg("inference input " + Quoted(input.name) + " data-type is " +
                              Quoted(DTypeName(input.dtype)) + ", but model " + Quoted(model.name) + " expects " +
                              Quoted(DTypeName(spec.dtype)));
  }
  if (Status status = CheckBatch(model, input, first, batch_size); !status.ok()) return status;
  const size_t at = model.has_batch_dimension() ? 1 : 0;
  if (!DimsMatch(spec.dims, input.shape.data() + at, input.shape.size() - at)) {
    const bool same_rank = input.shape.size() == spec.dims.size() + at;
    if (same_rank && std::find(input.shape.begin(), input.shape.end(), -1) != input.shape.end()) {
      return Status::InvalidArg("All input dimensions should be specified for input " + Quoted(input.name) +
                                " for model " + Quoted(model.name) + ", got " + ShapeText(input.shape));
    }
    std::string hint;
    if (model.has_batch_dimension()) {
      hint =
          "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to "
          "each input shape. If you want to specify the full shape including the batch dim in your input dims config, "
          "try setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size.";
    }
    return Status::InvalidArg("unexpected shape for input " + Quoted(input.name) + " for model " + Quoted(model.name) +
                              ". Expected " + ShapeText(WithBatch(model, spec.dims)) + ", got " +
                              ShapeText(input.shape) + ". " + hint);
  }
  return CheckData(model, input);
}

Status CheckOutputs(const ModelSpec& model, const Request& request) {
  const auto& outputs = request.requested_outputs;
  // Unknown names are refused first, so that the list that is searched for duplicates is no longer than the model's.
  if (outputs.size() > model.outputs.size()) {
    for (const RequestedOutput& output : outputs) {
      if (model.FindOutput(output.name) == nullptr) {
        return Status::InvalidArg("unexpected inference output " + Quoted(output.name) + " for model " +
                                  Quoted(model.name));
      }
    }
  }
  for (size_t i = 0; i < std::min(outputs.size(), model.outputs.size() + 1); ++i) {
    const std::string& name = outputs[i].name;
    if (model.FindOutput(name) == nullptr) {
      return Status::InvalidArg("unexpected inference output " + Quoted(name) + " for model " + Quoted(model.name));
    }
    const auto here = outputs.begin() + static_cast<std::ptrdiff_t>(i);
    const auto same = [&](const RequestedOutput& output) { return output.name == name; };
    if (std::any_of(outputs.begin(), here, same)) return AlreadyExists("output", name);
  }
  return Status();
}

void OrderInputs(const std::vector<size_t>& places, Request& request) {
  std::vector<Tensor> ordered;
  ordered.reserve(request.inputs.size());
  for (const size_t place : places) {
    if (place != SIZE_MAX) ordered.push_back(std::move(request.inputs[place]));
  }
  request.inputs = std::move(ordered);
}

}  // namespace

Status WithRequestId(const Request& request, Status status) {
  const std::string id = request.id.empty() ? "<id_unknown>" : request.id;
  return Status(status.code(), "[request id: " + id + "] " + status.message());
}

Status ValidateRequest(Request& request) {
  const ModelSpec& model = *request.model;
  if (Status status = CheckCounts(model, request); !status.ok()) return WithRequestId(request, std::move(status));
  static thread_local std::vector<size_t> places;  // whose memory is used again
  if (Status status = FindInputs(model, request, places); !status.ok()) return status;

  int64_t batch_size = 1;
  bool first = true;
  bool in_order = true;
  size_t expected = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    const size_t place = places[i];
    if (place == SIZE_MAX) continue;
    if (Status status = CheckInput(model, model.inputs[i], request.inputs[place], first, batch_size); !status.ok()) {
      return WithRequestId(request, std::move(status));
    }
    first = false;
    in_order = in_order && place == expected++;
  }
  if (!in_order) OrderInputs(places, request);
  request.batch_size = batch_size;
  request.padding.reset();
  if (model.padding) {
    if (Status status = MeasurePadding(request); !status.ok()) return WithRequestId(request, std::move(status));
  }
  return CheckOutputs(model, request);
}

void ReshapeInputs(Request& request) {
  const size_t at = request.model->has_batch_dimension() ? 1 : 0;
  for (Tensor& input : request.inputs) {
    const TensorSpec* spec = request.model->FindInput(input.name);
    if (spec->reshape) ApplyReshape(spec->dims, *spec->reshape, at, input.shape);
  }
}

Status ValidateOutput(const ModelSpec& model, int64_t batch_size, Tensor& output) {
  const TensorSpec* spec = model.FindOutput(output.name);
  const auto where = [&] { return "output " + Quoted(output.name) + " of model " + Quoted(model.name); };
  if (spec == nullptr) return Status::Internal("the model returned an unknown " + where());
  if (output.dtype != spec->dtype) {
    return Status::Internal("the data type of " + where() + " is " + Quoted(DTypeName(output.dtype)) + ", expected " +
                            Quoted(DTypeName(spec->dtype)));
  }
  const Shape& dims = spec->executor_dims();
  const size_t at = model.has_batch_dimension() ? 1 : 0;
  // One response of several may have any number of rows.
  const bool rows_match = at == 0 || (!output.shape.empty() && (model.decoupled || output.shape[0] == batch_size));
  if (!rows_match || output.shape.size() < at || !DimsMatch(dims, output.shape.data() + at, output.shape.size() - at)) {
    Shape expected = WithBatch(model, dims);
    if (at == 1) expected[0] = batch_size;
    return Status::Internal("the shape of " + where() + " is " + ShapeText(output.shape) + ", expected " +
                            ShapeText(expected));
  }
  if (spec->reshape) ApplyReshape(*spec->reshape, spec->dims, at, output.shape);
  return Status();
}

Response MakeResponse(const Request& request, std::vector<Tensor> outputs, Parameters parameters) {
  const ModelSpec& model = *request.model;
  if (IsRelayed(model)) return {Status(), std::move(outputs), std::move(parameters)};
  for (Tensor& output : outputs) {
    if (Status status = ValidateOutput(model, request.batch_size, output); !status.ok()) {
      return Response::Error(std::move(status));
    }
    if (!request.padding) continue;
    if (Status status = CutBack(request, output); !status.ok()) return Response::Error(std::move(status));
  }
  Response response;
  response.parameters = std::move(parameters);
  const auto take = [&](const std::string& name) {
    for (Tensor& output : outputs) {
      if (output.name != name) continue;
      response.outputs.push_back(std::move(output));
      output.name.clear();
      return true;
    }
    return false;
  };
  const bool all = request.requested_outputs.empty();
  const size_t wanted = all ? model.outputs.size() : request.requested_outputs.size();
  response.outputs.reserve(wanted);
  for (size_t i = 0; i < wanted; ++i) {
    const std::string& name = all ? model.outputs[i].name : request.requested_outputs[i].name;
    // A response of several need not have all outputs.
    if (take(name) || model.decoupled) continue;
    return Response::Error(Status::Internal("the model '" + model.name + "' did not return its output '" + name + "'"));
  }
  return response;
}

}  // namespace pyinfer
