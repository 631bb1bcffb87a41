// SPDX-License-Identifier: Apache-2.0
// bind_engine.cc - Engine, Model, and the loop that runs a Python executor.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <tuple>

#include "bindings/gil.h"
#include "bindings/instances.h"
#include "bindings/register.h"
#include "engine/remote_cache.h"
#include "protocol/error_map.h"
#include "sched/rate_limiter.h"
#include "sched/rehearsal.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// The current exception of the executor as an answer. An exception may name a code by an attribute `code`.
Status StatusOfException(const py::error_already_set& error) {
  Code code = Code::kInternal;
  std::string text = "the model raised an exception";
  try {
    const py::object value = error.value();
    if (py::hasattr(value, "code") && py::isinstance<py::str>(value.attr("code"))) {
      code = CodeOfName(value.attr("code").cast<std::string>());
    }
    text = py::str(value).cast<std::string>();
    if (text.empty()) text = py::str(error.type().attr("__name__")).cast<std::string>();
  } catch (const std::exception&) {
    // Its own text could not be had; ours has to do.
  }
  return {code, std::move(text)};
}

void ExecuteWithGil(BatchHandle& handle, const py::object& batch, const py::function& execute) {
  try {
    execute(batch);
  } catch (const py::error_already_set& error) {
    handle.batch.FailOpen(StatusOfException(error));
  }
  handle.batch.SettleOutputs();
  ObjectGraveyard::Default().Sweep();
}

// Has a Python function execute the batches of one instance. It is not the owner of that function.
class PythonRunner final : public BatchRunner {
 public:
  PythonRunner(const InstanceHandle& instance, const py::function& execute)
      : model_(instance.model), gil_wait_(instance.gil_wait), number_(instance.number), execute_(execute) {}

  void Run(Batch batch) override {
    auto handle = std::make_shared<BatchHandle>(std::move(batch));
    handle->model = model_;
    handle->instance = number_;
    const TimeNs asked = model_->clock().Now();
    {
      AcquireGil acquire;
      gil_wait_->Add(model_->clock().Now() - asked);
      ExecuteWithGil(*handle, py::cast(handle), execute_);
    }
    handle->batch.Finish();
  }

 private:
  const std::shared_ptr<Model> model_;
  const std::shared_ptr<GilWait> gil_wait_;
  const size_t number_;
  const py::function& execute_;
};

void RunInstance(InstanceHandle& instance, const py::function& execute, bool any_thread) {
  const std::shared_ptr<Model> model = instance.model;
  const size_t number = instance.number;
  PythonRunner runner(instance, execute);
  ReleaseGil release;
  if (any_thread) model->Lend(number, runner);
  for (;;) {
    Batch batch = model->NextBatch(number);
    if (batch.empty()) break;
    runner.Run(std::move(batch));
  }
  model->StopLending(number);
}

using SampleTuple = std::tuple<std::string, std::string, Shape, py::bytes>;

// Executes a batch of `size` requests with these inputs, or only looks whether it could; the text of the first error.
std::optional<std::string> Rehearse(const ModelHandle& handle, const std::vector<SampleTuple>& inputs, size_t size,
                                    const std::optional<py::function>& execute) {
  std::vector<Tensor> tensors;
  for (const auto& [name, datatype, shape, data] : inputs) {
    const auto bytes = static_cast<std::string_view>(data);
    tensors.push_back({name, ParseDType(datatype), shape, Slice::Copy(bytes.data(), bytes.size())});
  }
  StatusOr<Rehearsal> rehearsal = Rehearsal::Make(handle.model()->spec(), handle.model()->clock(), tensors, size);
  if (!rehearsal.ok()) return rehearsal.status().message();
  if (!execute) return std::nullopt;
  const auto batch = std::make_shared<BatchHandle>(rehearsal->TakeBatch());
  ExecuteWithGil(*batch, py::cast(batch), *execute);
  {
    ReleaseGil release;
    batch->batch.Finish();
  }
  const Status result = rehearsal->result();
  return result.ok() ? std::nullopt : std::optional<std::string>(result.message());
}

py::object PollInstance(InstanceHandle& instance) {
  Batch batch = instance.model->TakeNow(instance.number);
  if (batch.empty()) return py::none();
  return py::cast(std::make_shared<BatchHandle>(std::move(batch)));
}

using ResourceTuple = std::tuple<std::string, bool, uint64_t>;

std::shared_ptr<LimitedInstance> Limit(const ModelHandle& handle, uint32_t priority,
                                       const std::vector<ResourceTuple>& resources, int64_t device) {
  const std::shared_ptr<RateLimiter>& limiter = handle.model()->rate_limiter();
  if (!limiter || resources.empty()) return nullptr;
  InstanceLimits limits;
  for (const auto& [name, global, count] : resources) limits.resources.push_back({name, global, count});
  limits.priority = priority;
  limits.device = device;
  StatusOr<std::shared_ptr<LimitedInstance>> limited = limiter->Enter(limits);
  if (!limited.ok()) throw py::value_error(limited.status().message());
  return std::move(limited).value();
}

void BindModel(py::module_& module) {
  py::class_<LimitedInstance, std::shared_ptr<LimitedInstance>>(module, "LimitedInstance", py::is_final());
  py::class_<ModelHandle, std::shared_ptr<ModelHandle>>(module, "Model", py::is_final())
      .def_property_readonly("name", [](const ModelHandle& handle) { return handle.model()->spec()->name; })
      .def_property_readonly("version", [](const ModelHandle& handle) { return handle.model()->spec()->version; })
      .def(
          "add_instance",
          [](const ModelHandle& handle, std::string name, std::shared_ptr<LimitedInstance> limited) {
            return InstanceHandle{handle.model(), std::move(name), handle.model()->AddInstance(std::move(limited))};
          },
          py::arg("name"), py::arg("limited") = nullptr)
      .def("limit", &Limit, py::kw_only(), py::arg("priority"), py::arg("resources"), py::arg("device"))
      .def(
          "start_native",
          [](const ModelHandle& handle, const std::string& kind, const ExecutorParameters& parameters,
             const std::vector<std::string>& instances, const std::vector<std::shared_ptr<LimitedInstance>>& limited) {
            const Status status = [&] {
              ReleaseGil release;
              return handle.model()->StartNative(kind, parameters, instances, limited);
            }();
            if (!status.ok()) throw py::value_error(status.message());
          },
          py::arg("kind"), py::arg("parameters"), py::arg("instances"),
          py::arg("limited") = std::vector<std::shared_ptr<LimitedInstance>>())
      .def(
          "drain",
          [](const ModelHandle& handle, double timeout_s) {
            ReleaseGil release;
            const auto timeout = std::chrono::duration<double>(std::min(timeout_s, 1e9));
            return handle.model()->Drain(std::chrono::duration_cast<std::chrono::nanoseconds>(timeout));
          },
          py::arg("timeout_s"))
      .def("stop",
           [](const ModelHandle& handle) {
             ReleaseGil release;
             handle.model()->Stop();
           })
      .def("rehearse", &Rehearse, py::arg("inputs"), py::arg("size"), py::arg("execute"))
      .def("pending", [](const ModelHandle& handle) { return handle.model()->pending(); });

  py::class_<InstanceHandle>(module, "Instance", py::is_final())
      .def_readonly("name", &InstanceHandle::name)
      .def_property_readonly("model", [](const InstanceHandle& instance) { return instance.model->spec()->name; })
      .def_property_readonly("version", [](const InstanceHandle& instance) { return instance.model->spec()->version; })
      .def_property_readonly("gil_wait",
                             [](const InstanceHandle& instance) {
                               return py::make_tuple(instance.gil_wait->executions(), instance.gil_wait->waited_ns());
                             })
      .def("run", &RunInstance, py::arg("execute"), py::arg("any_thread") = false)
      // It may have to refuse calls, whose answers go on from there.
      .def(
          "retire", [](const InstanceHandle& instance) { instance.model->RemoveInstance(instance.number); },
          py::call_guard<ReleaseGil>())
      .def("poll", &PollInstance)
      .def("wake_at_ns", [](const InstanceHandle& instance) -> std::optional<TimeNs> {
        const TimeNs ripe = instance.model->RipeAt(instance.number, instance.model->clock().Now());
        return ripe < 0 ? std::nullopt : std::optional<TimeNs>(ripe);
      });
}

using TotalTuple = std::tuple<std::string, uint64_t, std::optional<int64_t>>;

std::shared_ptr<RateLimiter> MakeRateLimiter(const std::vector<TotalTuple>& given) {
  std::vector<ResourceTotal> totals;
  for (const auto& [name, count, device] : given) {
    totals.push_back({name, count, device.value_or(ResourceTotal::kEveryDevice)});
  }
  return std::make_shared<RateLimiter>(totals);
}

}  // namespace

ModelHandle::~ModelHandle() {
  ReleaseGil release;
  model_->Stop();
}

void BindEngine(py::module_& module) {
  BindModel(module);
  py::class_<Engine, std::shared_ptr<Engine>>(module, "Engine", py::is_final())
      .def(py::init([](std::shared_ptr<ManualClock> clock) {
             if (clock) return std::make_shared<Engine>(std::move(clock));
             return std::make_shared<Engine>(std::make_shared<SystemClock>());
           }),
           py::arg("clock") = nullptr)
      .def(
          "create",
          [](Engine& engine, const ModelSpec& spec, const std::vector<std::shared_ptr<ModelHandle>>& handles,
             const std::string& cache_origin) {
            std::vector<std::shared_ptr<Model>> steps;
            for (const auto& handle : handles) steps.push_back(handle->model());
            if (!steps.empty() && (!spec.ensemble || steps.size() != spec.ensemble->steps.size())) {
              throw py::value_error("steps must name a model for each step of an ensemble");
            }
            return std::make_shared<ModelHandle>(engine.CreateModel(spec, steps, cache_origin));
          },
          py::arg("spec"), py::arg("steps") = std::vector<std::shared_ptr<ModelHandle>>(), py::arg("cache_origin") = "")
      .def(
          "publish",
          [](Engine& engine, const std::string& name, const std::vector<std::shared_ptr<ModelHandle>>& handles,
             const std::vector<int64_t>& not_ready, const std::string& refusal) {
            std::vector<std::shared_ptr<Model>> models;
            for (const auto& handle : handles) models.push_back(handle->model());
            ReleaseGil release;
            engine.Publish(name, models, not_ready, refusal.empty() ? Status() : Status::InvalidArg(refusal));
          },
          py::arg("name"), py::arg("models"), py::arg("not_ready") = std::vector<int64_t>(), py::arg("refusal") = "")
      .def(
          "withdraw",
          [](Engine& engine, const std::string& name) {
            ReleaseGil release;
            engine.Withdraw(name);
          },
          py::arg("name"))
      .def_property_readonly(
          "shared_memory", [](Engine& engine) -> SharedMemoryRegistry& { return engine.shared_memory(); },
          py::return_value_policy::reference_internal)
      .def(
          "set_local_cache",
          [](Engine& engine, size_t most_bytes) { engine.SetResponseCache(std::make_shared<LocalCache>(most_bytes)); },
          py::arg("most_bytes"))
      .def(
          "set_remote_cache",
          [](Engine& engine, std::shared_ptr<RemoteCache> cache) { engine.SetResponseCache(std::move(cache)); },
          py::arg("cache"))
      .def_property_readonly("has_remote_cache", &Engine::has_remote_cache)
      .def(
          "set_rate_limiter",
          [](Engine& engine, const std::vector<TotalTuple>& totals) { engine.SetRateLimiter(MakeRateLimiter(totals)); },
          py::arg("totals"))
      .def("stop_accepting", &Engine::StopAccepting)
      .def_property_readonly("tracer", &Engine::tracer)
      .def("in_flight", &Engine::in_flight);
}

}  // namespace pyinfer
