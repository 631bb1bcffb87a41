// SPDX-License-Identifier: Apache-2.0
#include "bindings/dlpack.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "memory/cuda_driver.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// The layout is the standard's.
enum DeviceType : int32_t { kCpu = 1, kCuda = 2 };
enum TypeCode : uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct DlDevice {
  int32_t type;
  int32_t id;
};

struct DlType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DlTensor {
  void* data;
  DlDevice device;
  int32_t ndim;
  DlType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null for row-major
  uint64_t byte_offset;
};

struct DlManagedTensor {
  DlTensor tensor;
  void* context;
  void (*deleter)(DlManagedTensor*);
};

constexpr const char* kFresh = "dltensor";
constexpr const char* kUsed = "used_dltensor";

constexpr DType kFixedTypes[] = {
    DType::kBool,  DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64, DType::kInt8, DType::kInt16,
    DType::kInt32, DType::kInt64, DType::kFp16,   DType::kFp32,   DType::kFp64,   DType::kBf16,
};

DlType TypeOf(DType dtype) {
  const std::string_view name = DTypeName(dtype);
  const uint8_t code = dtype == DType::kBool   ? kBool
                       : dtype == DType::kBf16 ? kBfloat
                       : name.front() == 'U'   ? kUint
                       : name.front() == 'I'   ? kInt
                                               : kFloat;
  return {code, static_cast<uint8_t>(DTypeSize(dtype) * 8), 1};
}

DType DTypeOf(const DlType& type) {
  for (const DType dtype : kFixedTypes) {
    const DlType known = TypeOf(dtype);
    if (known.code == type.code && known.bits == type.bits && type.lanes == 1) return dtype;
  }
  return DType::kInvalid;
}

// A tensor that a capsule lends; ends with its last user, on any thread.
struct Lent {
  explicit Lent(Tensor held) : tensor(std::move(held)) {}

  Tensor tensor;
  DlManagedTensor managed{};
};

void Free(PyObject* capsule) {
  // Whoever uses a capsule renames it, and calls the deleter when it is done.
  if (PyCapsule_IsValid(capsule, kFresh) == 0) return;
  auto* managed = static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule, kFresh));
  managed->deleter(managed);
}

class DeviceArray {
 public:
  explicit DeviceArray(Tensor tensor) : tensor_(std::move(tensor)) {}

  py::tuple shape() const { return py::tuple(py::cast(tensor_.shape)); }
  std::tuple<int, int> device() const { return {kCuda, *tensor_.data.device()}; }

  // The bytes were written before the request came: there is no stream to wait for.
  py::object Lend(const py::object& /*stream*/, const py::object& /*max_version*/, const py::object& device,
                  const py::object& copy) const {
    if (!device.is_none() && device.cast<std::tuple<int, int>>() != this->device()) {
      PyErr_SetString(PyExc_BufferError, "the tensor is on another device");
      throw py::error_already_set();
    }
    if (!copy.is_none() && copy.cast<bool>()) {
      PyErr_SetString(PyExc_BufferError, "a tensor in memory of a client is lent without a copy");
      throw py::error_already_set();
    }
    auto lent = std::make_unique<Lent>(tensor_);
    Tensor& tensor = lent->tensor;
    lent->managed.tensor = {const_cast<uint8_t*>(tensor.data.data()),
                            {kCuda, *tensor.data.device()},
                            static_cast<int32_t>(tensor.shape.size()),
                            TypeOf(tensor.dtype),
                            tensor.shape.data(),
                            nullptr,
                            0};
    lent->managed.context = lent.get();
    lent->managed.deleter = [](DlManagedTensor* managed) { delete static_cast<Lent*>(managed->context); };
    PyObject* capsule = PyCapsule_New(&lent->managed, kFresh, &Free);
    if (capsule == nullptr) throw py::error_already_set();
    static_cast<void>(lent.release());
    return py::reinterpret_steal<py::object>(capsule);
  }

  py::array ToHost() const {
    Tensor host = tensor_;
    StatusOr<Slice> copy = [&] {
      ReleaseGil release;
      return tensor_.data.CopyToHost();
    }();
    if (!copy.ok()) throw std::runtime_error(copy.status().message());
    host.data = std::move(copy).value();
    return ToArray(host);
  }

 private:
  const Tensor tensor_;
};

bool RowMajor(const DlTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  int64_t expected = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// A copy of the tensor that a capsule lends, which is used up.
std::tuple<std::string, py::array> CopyToHost(const py::capsule& capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), kFresh) == 0)
    throw py::value_error("a DLPack capsule that nobody has used yet is needed");
  auto* managed = static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kFresh));
  const DlTensor& given = managed->tensor;
  Tensor host{"", DTypeOf(given.dtype), Shape(given.shape, given.shape + given.ndim), {}};
  const auto size = host.dtype == DType::kInvalid ? std::nullopt : ByteSize(host.dtype, host.shape);
  if (given.device.type != kCuda) throw py::value_error("the tensor is not on a CUDA device");
  if (!size) throw py::value_error("no data type of the protocol holds the elements of the tensor");
  if (!RowMajor(given)) throw py::value_error("the tensor is not contiguous; make it so before it is handed over");
  StatusOr<const CudaDriver*> driver = CudaDriver::Get();
  if (!driver.ok()) throw py::value_error(driver.status().message());
  PyCapsule_SetName(capsule.ptr(), kUsed);
  BufferPtr buffer = Buffer::Allocate(*size);
  const auto from = reinterpret_cast<CudaPointer>(given.data) + given.byte_offset;
  Status status;
  if (*size != 0) {
    ReleaseGil release;
    status = driver.value()->CopyToHost(given.device.id, buffer->data(), from, *size);
  }
  if (managed->deleter != nullptr) managed->deleter(managed);
  if (!status.ok()) throw std::runtime_error(status.message());
  host.data = Slice(std::move(buffer), 0, *size);
  return {std::string(DTypeName(host.dtype)), ToArray(host)};
}

}  // namespace

py::object ToDeviceArray(const Tensor& tensor) { return py::cast(DeviceArray(tensor)); }

void BindDlpack(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray", py::is_final())
      .def_property_readonly("shape", &DeviceArray::shape)
      .def("to_host", &DeviceArray::ToHost)
      .def("__dlpack__", &DeviceArray::Lend, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", &DeviceArray::device);
  module.def("dlpack_to_host", &CopyToHost, py::arg("capsule"));
}

}  // namespace pyinfer
