// SPDX-License-Identifier: Apache-2.0
#include "bindings/conversions.h"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/bytes_view.h"
#include "infer/dtype.h"

namespace py = pybind11;

namespace pyinfer {

Parameters ToParameters(const py::object& given) {
  Parameters parameters;
  if (given.is_none()) return parameters;
  for (const auto& [name, value] : given.cast<py::dict>()) {
    ParameterValue converted;
    if (py::isinstance<py::bool_>(value)) {
      converted = value.cast<bool>();
    } else if (py::isinstance<py::int_>(value)) {
      converted = value.cast<int64_t>();
    } else if (py::isinstance<py::float_>(value)) {
      converted = value.cast<double>();
    } else {
      converted = value.cast<std::string>();
    }
    parameters.emplace_back(name.cast<std::string>(), std::move(converted));
  }
  return parameters;
}

StatusOr<std::vector<Tensor>> ToTensors(const py::sequence& given) {
  std::vector<Tensor> tensors;
  tensors.reserve(given.size());
  for (const py::handle item : given) {
    const auto output = py::reinterpret_borrow<py::object>(item).cast<py::tuple>();
    if (output.size() != 3) throw py::value_error("a tensor is its name, its datatype and its array");
    const py::handle name = PyTuple_GET_ITEM(output.ptr(), 0), data = PyTuple_GET_ITEM(output.ptr(), 2);
    const auto datatype = py::handle(PyTuple_GET_ITEM(output.ptr(), 1)).cast<std::string_view>();
    const bool is_array = py::isinstance<py::array>(data);
    if (!is_array && py::isinstance<BytesView>(data)) {
      tensors.push_back(data.cast<const BytesView&>().tensor());
      tensors.back().name = name.cast<std::string>();
      continue;
    }
    const auto array = is_array ? py::reinterpret_borrow<py::array>(data) : data.cast<py::array>();
    StatusOr<Tensor> tensor = FromArray(name.cast<std::string>(), ParseDType(datatype), array);
    if (!tensor.ok()) return tensor.status();
    tensors.push_back(std::move(tensor).value());
  }
  return tensors;
}

py::dict ToDict(const Parameters& parameters) {
  py::dict made;
  for (const auto& [name, value] : parameters) {
    made[py::str(name)] = std::visit([](const auto& held) { return py::cast(held); }, value);
  }
  return made;
}

py::list ToList(const std::vector<Tensor>& tensors) {
  py::list made;
  for (const Tensor& tensor : tensors) {
    const std::string_view datatype = DTypeName(tensor.dtype);
    const bool bytes = tensor.dtype == DType::kBytes;
    made.append(py::make_tuple(tensor.name, py::str(datatype.data(), datatype.size()),
                               bytes ? py::cast(BytesView(tensor)) : py::object(ToArray(tensor))));
  }
  return made;
}

void CopyUnsettled(std::vector<Tensor>& tensors) {
  for (Tensor& tensor : tensors) {
    if (!tensor.data.settled()) tensor.data = Slice::Copy(tensor.data.data(), tensor.data.size());
  }
}

}  // namespace pyinfer
