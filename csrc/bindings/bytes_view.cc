// SPDX-License-Identifier: Apache-2.0
#include "bindings/bytes_view.h"

#include <pybind11/stl.h>

#include <string>
#include <string_view>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

size_t CountOf(const Tensor& tensor) { return static_cast<size_t>(ElementCount(tensor.shape).value_or(0)); }

Tensor Own(Tensor tensor) {
  if (!tensor.data.foreign()) return tensor;
  tensor.data = Slice::Copy(tensor.data.data(), tensor.data.size());
  const Status status = CheckBytes(tensor.data.view(), CountOf(tensor), "tensor '" + tensor.name + "'");
  if (!status.ok()) throw py::value_error(status.message());
  return tensor;
}

}  // namespace

BytesView::BytesView(Tensor tensor) : tensor_(Own(std::move(tensor))), count_(CountOf(tensor_)) {}

py::tuple BytesView::shape() const { return py::tuple(py::cast(tensor_.shape)); }

void BytesView::Locate() {
  if (!spans_.empty()) return;
  std::vector<int64_t> spans;
  spans.reserve(2 * count_);
  BytesWalk walk(tensor_.data.view());
  while (walk.Next()) {
    const std::string_view element = walk.element();
    spans.push_back(reinterpret_cast<const uint8_t*>(element.data()) - tensor_.data.data());
    spans.push_back(spans.back() + static_cast<int64_t>(element.size()));
  }
  if (!walk.ended() || spans.size() != 2 * count_) throw py::value_error("the bytes are not those of BYTES elements");
  spans_ = std::move(spans);
}

py::bytes BytesView::At(py::ssize_t index) {
  const auto count = static_cast<py::ssize_t>(count_);
  if (index < 0) index += count;
  if (index < 0 || index >= count) throw py::index_error("the tensor has " + std::to_string(count_) + " elements");
  Locate();
  const int64_t* const span = &spans_[2 * static_cast<size_t>(index)];
  return {reinterpret_cast<const char*>(tensor_.data.data()) + span[0], static_cast<size_t>(span[1] - span[0])};
}

py::array BytesView::Spans() {
  Locate();
  return py::array_t<int64_t>({static_cast<py::ssize_t>(count_), py::ssize_t{2}}, spans_.data());
}

void BindBytesView(py::module_& module) {
  py::class_<BytesView>(module, "BytesView", py::is_final())
      .def(py::init([](const py::array& array) {
             return BytesView(
                 {"", DType::kBytes, Shape(array.shape(), array.shape() + array.ndim()), SerializeBytes(array)});
           }),
           py::arg("array"))
      .def_property_readonly("shape", &BytesView::shape)
      .def("__len__", &BytesView::size)
      .def("__getitem__", &BytesView::At, py::arg("index"))
      .def("spans", &BytesView::Spans)
      .def("data", [](const BytesView& view) { return ToMemoryView(view.tensor().data); })
      .def("numpy", [](const BytesView& view) { return ToArray(view.tensor()); });
}

}  // namespace pyinfer
