// SPDX-License-Identifier: Apache-2.0
#include "bindings/arrays.h"

#include <cstring>
#include <memory>

#include "bindings/gil.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// From here on an array is referenced instead of copied: a copy of less costs less than keeping the object.
constexpr size_t kReferenceFrom = 16384;

// The name of the capsules that keep slices alive behind arrays.
constexpr const char* kSliceCapsule = "pyinfer.slice";

// Keeps a slice alive behind an array or a memoryview.
struct SliceOwner {
  Slice slice;
};

// Memory of a NumPy array.
class ArrayBuffer final : public Buffer {
 public:
  explicit ArrayBuffer(const py::array& array)
      : Buffer(static_cast<uint8_t*>(const_cast<void*>(array.data())), static_cast<size_t>(array.nbytes())),
        array_(array.inc_ref().ptr()) {}
  ~ArrayBuffer() override { ObjectGraveyard::Default().Drop(array_); }

  // Requires: the GIL is held. A model may fill the same array again in its next execution, or hold the one that this
  // is a view of; memory of other libraries may be reached in ways that are not seen here.
  bool settled() const override {
    const PyObject* object = array_;
    while (Py_REFCNT(object) == 1 && py::isinstance<py::array>(py::handle(const_cast<PyObject*>(object)))) {
      object = py::detail::array_proxy(object)->base;
      if (object == nullptr) return true;
    }
    // Ours: a view of a request's bytes, which no client can change meanwhile.
    auto* capsule = const_cast<PyObject*>(object);
    return Py_REFCNT(object) == 1 && PyCapsule_IsValid(capsule, kSliceCapsule) &&
           !static_cast<SliceOwner*>(PyCapsule_GetPointer(capsule, kSliceCapsule))->slice.foreign();
  }

 private:
  PyObject* const array_;
};

py::dtype NumpyDType(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return py::dtype::of<bool>();
    case DType::kUint8:
      return py::dtype::of<uint8_t>();
    case DType::kUint16:
    case DType::kBf16:
      return py::dtype::of<uint16_t>();
    case DType::kUint32:
      return py::dtype::of<uint32_t>();
    case DType::kUint64:
      return py::dtype::of<uint64_t>();
    case DType::kInt8:
      return py::dtype::of<int8_t>();
    case DType::kInt16:
      return py::dtype::of<int16_t>();
    case DType::kInt32:
      return py::dtype::of<int32_t>();
    case DType::kInt64:
      return py::dtype::of<int64_t>();
    case DType::kFp16:
      return py::dtype("e");
    case DType::kFp32:
      return py::dtype::of<float>();
    case DType::kFp64:
      return py::dtype::of<double>();
    default:
      return py::dtype("O");
  }
}

Status NotThatType(const std::string& name, DType dtype, const py::array& array) {
  return Status::Internal("the array for output '" + name + "' has dtype '" +
                          py::str(array.dtype()).cast<std::string>() + "', which is not '" +
                          std::string(DTypeName(dtype)) + "'");
}

void AppendElement(std::string& out, const char* data, size_t size) {
  const auto length = static_cast<uint32_t>(size);
  out.append(reinterpret_cast<const char*>(&length), sizeof(length));
  out.append(data, size);
}

}  // namespace

DType DTypeOfArray(const py::array& array) {
  const char kind = array.dtype().kind();
  const auto size = array.dtype().itemsize();
  if (kind == 'b') return DType::kBool;
  if (kind == 'O' || kind == 'S' || kind == 'U') return DType::kBytes;
  const auto pick = [&](DType one, DType two, DType four, DType eight) {
    return size == 1 ? one : size == 2 ? two : size == 4 ? four : size == 8 ? eight : DType::kInvalid;
  };
  if (kind == 'u') return pick(DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64);
  if (kind == 'i') return pick(DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64);
  if (kind == 'f') return pick(DType::kInvalid, DType::kFp16, DType::kFp32, DType::kFp64);
  return DType::kInvalid;
}

py::array ToArray(const Tensor& tensor, Foreign foreign) {
  if (tensor.dtype == DType::kBytes) {
    const auto count = static_cast<py::ssize_t>(ElementCount(tensor.shape).value_or(0));
    return DeserializeBytes(tensor.data.view(), count).reshape(tensor.shape);
  }
  // Not owned by a pybind11 object of a registered type: a capsule is half the cost.
  const bool aligned = reinterpret_cast<uintptr_t>(tensor.data.data()) % DTypeSize(tensor.dtype) == 0;
  const bool guarded = tensor.shared || tensor.data.foreign();
  const bool copy = !aligned || (guarded && foreign == Foreign::kCopy);
  const Slice data = copy ? Slice::Copy(tensor.data.data(), tensor.data.size()) : tensor.data;
  auto owner = std::make_unique<SliceOwner>(SliceOwner{data});
  py::capsule base(owner.get(), kSliceCapsule, [](void* held) { delete static_cast<SliceOwner*>(held); });
  owner.release();
  py::array array(NumpyDType(tensor.dtype), tensor.shape, data.data(), base);
  if (guarded && !copy) py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

StatusOr<Tensor> FromArray(std::string name, DType dtype, const py::array& array) {
  Tensor tensor{std::move(name), dtype, Shape(array.shape(), array.shape() + array.ndim()), {}};
  const DType actual = DTypeOfArray(array);
  if (dtype == DType::kBytes && actual == DType::kBytes) {
    tensor.data = Slice(Buffer::FromString(SerializeBytes(array)));
    return tensor;
  }
  const bool bits = dtype == DType::kBf16 && actual == DType::kUint16;
  if (actual != dtype && !bits) return NotThatType(tensor.name, dtype, array);
  // Native byte order as well: a big-endian array is converted.
  py::array plain = py::array::ensure(array, py::array::c_style);
  if (!plain.dtype().is(NumpyDType(dtype)) && plain.dtype().byteorder() == '>')
    plain = plain.attr("astype")(NumpyDType(dtype));
  const auto size = static_cast<size_t>(plain.nbytes());
  if (size >= kReferenceFrom) {
    tensor.data = Slice(std::make_shared<ArrayBuffer>(plain));
  } else {
    tensor.data = Slice::Copy(plain.data(), size);
  }
  return tensor;
}

std::string SerializeBytes(const py::array& array) {
  const py::array flat = array.dtype().kind() == 'O' ? array : py::array(array.attr("astype")("O"));
  const py::list elements = flat.attr("ravel")().attr("tolist")();
  std::string out;
  for (const py::handle element : elements) {
    if (PyBytes_Check(element.ptr())) {
      AppendElement(out, PyBytes_AS_STRING(element.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(element.ptr())));
      continue;
    }
    const py::str text(element);
    Py_ssize_t size = 0;
    const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (utf8 == nullptr) throw py::error_already_set();
    AppendElement(out, utf8, static_cast<size_t>(size));
  }
  return out;
}

py::array DeserializeBytes(std::string_view data, py::ssize_t count) {
  py::list elements;
  size_t offset = 0;
  while (count < 0 ? offset < data.size() : static_cast<py::ssize_t>(elements.size()) < count) {
    StatusOr<size_t> used = WalkBytes(data.substr(offset), 1, "BYTES element " + std::to_string(elements.size()));
    if (!used.ok()) throw py::value_error(used.status().message());
    elements.append(py::bytes(data.data() + offset + sizeof(uint32_t), used.value() - sizeof(uint32_t)));
    offset += used.value();
  }
  if (offset != data.size()) throw py::value_error("there is more data than " + std::to_string(count) + " elements");
  // NumPy would make fixed-size text of a list of bytes: the array is filled by hand.
  const std::vector<py::ssize_t> shape = {static_cast<py::ssize_t>(elements.size())};
  py::array array(py::dtype("O"), shape);
  auto** slots = static_cast<PyObject**>(array.mutable_data());
  for (size_t i = 0; i < elements.size(); ++i) {
    PyObject* element = PyList_GET_ITEM(elements.ptr(), static_cast<py::ssize_t>(i));
    Py_INCREF(element);
    Py_XDECREF(slots[i]);
    slots[i] = element;
  }
  return array;
}

py::object ToMemoryView(const Slice& slice) {
  auto owner = std::make_unique<SliceOwner>(SliceOwner{slice});
  const py::object holder = py::cast(std::move(owner));
  return py::reinterpret_steal<py::object>(PyMemoryView_FromObject(holder.ptr()));
}

void BindArrays(py::module_& module) {
  py::class_<SliceOwner>(module, "_SliceOwner", py::module_local(), py::buffer_protocol())
      .def_buffer([](SliceOwner& owner) {
        return py::buffer_info(const_cast<uint8_t*>(owner.slice.data()), sizeof(uint8_t), "B", 1,
                               {static_cast<py::ssize_t>(owner.slice.size())}, {py::ssize_t{1}}, /*readonly=*/true);
      });
  module.def(
      "serialize_bytes", [](const py::array& array) { return py::bytes(SerializeBytes(array)); }, py::arg("array"));
  module.def(
      "deserialize_bytes",
      [](const py::buffer& data, py::ssize_t count) {
        const py::buffer_info info = data.request();
        return DeserializeBytes({static_cast<const char*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)},
                                count);
      },
      py::arg("data"), py::arg("count") = -1);
}

}  // namespace pyinfer
