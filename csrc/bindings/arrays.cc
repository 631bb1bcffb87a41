// SPDX-License-Identifier: Apache-2.0
#include "bindings/arrays.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "bindings/gil.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// From here on an array is referenced instead of copied: a copy of less costs less than keeping the object.
constexpr size_t kReferenceFrom = 16384;

// Up to here bytes are copied to an array of NumPy's own: that costs less than what keeps them alive behind a view.
constexpr size_t kCopyTo = 1024;

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

// At `data`, which `base` keeps alive, or with memory of its own where both are null. As the constructor of py::array,
// which works out for itself what NumPy knows: strides, and whether they are those of C.
py::array NewArray(const Tensor& tensor, void* data, py::handle base) {
  const auto& numpy = py::detail::npy_api::get();
  static_assert(sizeof(Shape::value_type) == sizeof(Py_intptr_t));
  const auto array = py::reinterpret_steal<py::array>(numpy.PyArray_NewFromDescr_(
      numpy.PyArray_Type_, NumpyDType(tensor.dtype).release().ptr(), static_cast<int>(tensor.shape.size()),
      reinterpret_cast<const Py_intptr_t*>(tensor.shape.data()), /*strides=*/nullptr, data,
      data != nullptr ? py::detail::npy_api::NPY_ARRAY_WRITEABLE_ : 0, nullptr));
  if (!array) throw py::error_already_set();
  if (data != nullptr && base) numpy.PyArray_SetBaseObject_(array.ptr(), base.inc_ref().ptr());
  return array;
}

Status NotThatType(const std::string& name, DType dtype, const py::array& array) {
  return Status::Internal("the array for output '" + name + "' has dtype '" +
                          py::str(array.dtype()).cast<std::string>() + "', which is not '" +
                          std::string(DTypeName(dtype)) + "'");
}

}  // namespace

bool HasPlainBytes(const py::array& array) {
  return (array.flags() & py::array::c_style) != 0 && array.dtype().byteorder() != '>';
}

DType DTypeOfArray(const py::array& array) {
  const py::dtype dtype = array.dtype();
  const char kind = dtype.kind();
  const auto size = dtype.itemsize();
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
    return DeserializeBytes(tensor.data.view(), &tensor.shape);
  }
  if (tensor.data.size() <= kCopyTo && foreign == Foreign::kCopy) {
    py::array array = NewArray(tensor, nullptr, {});
    if (!tensor.data.empty()) std::memcpy(array.mutable_data(), tensor.data.data(), tensor.data.size());
    return array;
  }
  // Not owned by a pybind11 object of a registered type: a capsule is half the cost.
  const bool aligned = reinterpret_cast<uintptr_t>(tensor.data.data()) % DTypeSize(tensor.dtype) == 0;
  const bool guarded = tensor.shared || tensor.data.foreign();
  const bool copy = !aligned || (guarded && foreign == Foreign::kCopy);
  const Slice data = copy ? Slice::Copy(tensor.data.data(), tensor.data.size()) : tensor.data;
  auto owner = std::make_unique<SliceOwner>(SliceOwner{data});
  py::capsule base(owner.get(), kSliceCapsule, [](void* held) { delete static_cast<SliceOwner*>(held); });
  owner.release();
  py::array array = NewArray(tensor, const_cast<uint8_t*>(data.data()), base);
  if (guarded && !copy) py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

StatusOr<Tensor> FromArray(std::string name, DType dtype, const py::array& array) {
  Tensor tensor{std::move(name), dtype, Shape(array.shape(), array.shape() + array.ndim()), {}};
  const DType actual = DTypeOfArray(array);
  if (dtype == DType::kBytes && actual == DType::kBytes) {
    tensor.data = SerializeBytes(array);
    return tensor;
  }
  const bool bits = dtype == DType::kBf16 && actual == DType::kUint16;
  if (actual != dtype && !bits) return NotThatType(tensor.name, dtype, array);
  py::array plain = array;
  if (!HasPlainBytes(array)) {
    plain = py::array::ensure(array, py::array::c_style);
    if (plain.dtype().byteorder() == '>') plain = plain.attr("astype")(NumpyDType(dtype));
  }
  const auto size = static_cast<size_t>(plain.nbytes());
  if (size >= kReferenceFrom) {
    tensor.data = Slice(std::make_shared<ArrayBuffer>(plain));
  } else {
    tensor.data = Slice::Copy(plain.data(), size);
  }
  return tensor;
}

namespace {

// The bytes of an element, or of the UTF-8 of its text. Requires: it is bytes or str.
std::string_view BytesOf(PyObject* element) {
  if (PyBytes_Check(element)) return {PyBytes_AS_STRING(element), static_cast<size_t>(PyBytes_GET_SIZE(element))};
  Py_ssize_t size = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(element, &size);
  if (utf8 == nullptr) throw py::error_already_set();
  return {utf8, static_cast<size_t>(size)};
}

// Elements of these types are read without running code of the array's owner, which might change the array meanwhile.
bool IsPlain(PyObject* element) {
  return element != nullptr && (PyBytes_Check(element) != 0 || PyUnicode_CheckExact(element) != 0);
}

template <typename Elements>
Slice JoinBytes(const Elements& elements, size_t count) {
  constexpr size_t kLength = sizeof(uint32_t);
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t size = BytesOf(elements[i]).size();
    if (size > UINT32_MAX) throw py::value_error("an element of BYTES has more than 4 GiB");
    total += kLength + size;
  }
  BufferPtr buffer = Buffer::Allocate(total);
  uint8_t* to = buffer->data();
  for (size_t i = 0; i < count; ++i) {
    const std::string_view data = BytesOf(elements[i]);
    const auto length = static_cast<uint32_t>(data.size());
    std::memcpy(to, &length, kLength);
    if (length != 0) std::memcpy(to + kLength, data.data(), length);
    to += kLength + length;
  }
  return Slice(std::move(buffer), 0, total);
}

}  // namespace

Slice SerializeBytes(const py::array& array) {
  const py::array objects = array.dtype().kind() == 'O' ? array : py::array(array.attr("astype")("O"));
  const py::array flat = py::array::ensure(objects, py::array::c_style);
  auto* const* elements = static_cast<PyObject* const*>(flat.data());
  const auto count = static_cast<size_t>(flat.size());
  if (std::all_of(elements, elements + count, IsPlain)) return JoinBytes(elements, count);
  // Their texts are asked for once, and kept.
  std::vector<py::object> texts;
  std::vector<PyObject*> kept;
  const py::list given = flat.attr("ravel")().attr("tolist")();
  for (const py::handle element : given) {
    texts.push_back(IsPlain(element.ptr()) ? py::reinterpret_borrow<py::object>(element) : py::str(element));
    kept.push_back(texts.back().ptr());
  }
  return JoinBytes(kept, kept.size());
}

py::array DeserializeBytes(std::string_view data, const Shape* shape) {
  Shape flat = {0};
  if (shape == nullptr) {
    for (BytesWalk walk(data); walk.Next();) ++flat[0];
    shape = &flat;
  }
  const auto expected = static_cast<size_t>(ElementCount(*shape).value_or(0));
  if (Status status = CheckBytes(data, expected, "BYTES"); !status.ok()) throw py::value_error(status.message());
  py::array array(py::dtype(py::detail::npy_api::NPY_OBJECT_), *shape);
  auto** slot = static_cast<PyObject**>(array.mutable_data());
  for (BytesWalk walk(data); walk.Next(); ++slot) {
    PyObject* element =
        PyBytes_FromStringAndSize(walk.element().data(), static_cast<Py_ssize_t>(walk.element().size()));
    if (element == nullptr) throw py::error_already_set();
    Py_XSETREF(*slot, element);
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
      "serialize_bytes",
      [](const py::array& array) {
        const Slice data = SerializeBytes(array);
        return py::bytes(reinterpret_cast<const char*>(data.data()), data.size());
      },
      py::arg("array"));
  module.def(
      "deserialize_bytes",
      [](const py::buffer& data, py::ssize_t count) {
        const py::buffer_info info = data.request();
        const Shape shape = {count};
        return DeserializeBytes({static_cast<const char*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)},
                                count < 0 ? nullptr : &shape);
      },
      py::arg("data"), py::arg("count") = -1);
}

}  // namespace pyinfer
