// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "infer/shared_memory.h"
#include "memory/cuda_driver.h"
#include "memory/shm_registry.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::KeepingSink;
using Kind = SharedMemoryRegion::Kind;

// A shared memory object of a client, filled with 0, 1, 2, ...
class Object {
 public:
  explicit Object(size_t size) : key_("/pyinfer_core_tests_" + std::to_string(getpid())), size_(size) {
    fd_ = shm_open(key_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd_ >= 0);
    Resize(size);
    data_ = static_cast<uint8_t*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
    for (size_t i = 0; i < size; ++i) data_[i] = static_cast<uint8_t>(i);
  }
  ~Object() {
    munmap(data_, size_);
    close(fd_);
    shm_unlink(key_.c_str());
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  void Resize(size_t size) { CHECK_EQ(ftruncate(fd_, static_cast<off_t>(size)), 0); }
  const std::string& key() const { return key_; }
  uint8_t* data() { return data_; }

 private:
  const std::string key_;
  const size_t size_;
  int fd_ = -1;
  uint8_t* data_ = nullptr;
};

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

TEST(SharedMemory, IsMappedAtAnyOffset) {
  Object object(3 * kPage);
  SharedMemoryRegistry registry(true);
  int number = 0;
  for (const size_t offset : {size_t{0}, size_t{1}, kPage - 1, kPage, kPage + 64, 3 * kPage - 1}) {
    const std::string name = std::to_string(number++);
    const size_t size = 3 * kPage - offset;
    CHECK(registry.RegisterSystem(name, object.key(), offset, size).ok());
    const SharedMemoryPart part = registry.Find(name, size - 1, 1).value();
    CHECK_EQ(part.region->Read(0, 1, true)->data()[0], object.data()[offset]);
    CHECK_EQ(part.region->Read(size - 1, 1, false)->data()[0], object.data()[3 * kPage - 1]);
    CHECK(part.region->Write(0, "x").ok());
    CHECK_EQ(object.data()[offset], uint8_t{'x'});
  }
}

TEST(SharedMemory, BoundsAreThoseOfTheObjectAndOfTheRegion) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  const std::vector<uint64_t> edges = {
      0, 1, kPage - 1, kPage, kPage + 1, 1ull << 31, 1ull << 32, (1ull << 63) - 1, 1ull << 63, kMax - 1, kMax};
  for (const uint64_t offset : edges) {
    for (const uint64_t size : edges) {
      const bool fits = size != 0 && offset <= kPage && size <= kPage - offset;
      const Status status = registry.RegisterSystem("r", object.key(), offset, size);
      CHECK_EQ(status.ok(), fits);
      if (!fits) CHECK_EQ(status.message(), "failed to register shared memory region 'r': invalid args");
      CHECK(registry.Unregister(Kind::kSystem, "r").ok());
    }
  }
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  for (const uint64_t offset : edges) {
    for (const uint64_t size : edges) {
      const auto part = registry.Find("r", offset, size);
      CHECK_EQ(part.ok(), offset < kPage && size <= kPage - offset);
      if (part.ok()) continue;
      CHECK_EQ(part.status().message(), offset >= kPage ? "Invalid offset for shared memory region: 'r'"
                                                        : "Invalid offset + byte size for shared memory region: 'r'");
    }
  }
}

TEST(SharedMemory, NamesAndKeysThatAreRefused) {
  Object object(16);
  SharedMemoryRegistry registry(true);
  for (const std::string key :
       {"", "/", "////", "/triton_python_backend_shm_region_1", "//triton_python_backend_shm_region_"}) {
    CHECK(registry.RegisterSystem("r", key, 0, 16).code() == Code::kInvalidArg);
  }
  CHECK(registry.RegisterSystem("r", object.key() + std::string(1, '\0') + "x", 0, 16).code() == Code::kInvalidArg);
  CHECK(registry.RegisterSystem("r", std::string(300, 'k'), 0, 16).code() == Code::kInvalidArg);
  for (const std::string key : {"/no such object", "../../etc/passwd", "/a/b"}) {
    CHECK_EQ(registry.RegisterSystem("r", key, 0, 16).message(), "Unable to open shared memory region: '" + key + "'");
  }
  CHECK(registry.RegisterSystem("r", object.key(), 0, 16).ok());
  CHECK(registry.RegisterSystem("r", object.key(), 0, 8).code() == Code::kAlreadyExists);
  CHECK(registry.RegisterSystem("s", object.key(), 0, 8).ok());  // one object, two names
  CHECK(registry.RegisterCuda("r", std::string(64, 'h'), 0, 8).code() == Code::kAlreadyExists);
  CHECK(registry.Unregister(Kind::kCuda, "r").ok());  // of the other kind: nothing happens
  CHECK_EQ(registry.List(Kind::kSystem, std::nullopt)->size(), size_t{2});
  CHECK(registry.UnregisterAll(Kind::kCuda).ok());
  CHECK(registry.UnregisterAll(Kind::kSystem).ok());
  CHECK(registry.UnregisterAll(Kind::kSystem).ok());
  CHECK_EQ(registry.List(Kind::kSystem, std::nullopt)->size(), size_t{0});
  CHECK(registry.List(Kind::kSystem, "r").status().code() == Code::kNotFound);
  registry.set_allowed(false);
  CHECK(registry.RegisterSystem("r", object.key(), 0, 16).code() == Code::kUnsupported);
  CHECK(registry.Unregister(Kind::kSystem, "r").code() == Code::kUnsupported);
}

TEST(SharedMemory, ARegionInUseIsUnmappedLater) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  Slice slice = registry.Find("r", 0, kPage)->region->Read(8, 8, true).value();
  CHECK(slice.foreign());
  CHECK(registry.Unregister(Kind::kSystem, "r").ok());
  CHECK_EQ(slice.data()[0], uint8_t{8});
  object.data()[8] = 99;
  CHECK_EQ(slice.data()[0], uint8_t{99});
  CHECK(registry.RegisterSystem("r", object.key(), 0, 16).ok());  // its name is free at once
  slice = Slice();
}

TEST(SharedMemory, AShortenedObjectBreaksItsRegionAndNothingElse) {
  Object object(4 * kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, 4 * kPage).ok());
  const SharedMemoryPart part = registry.Find("r", 0, 4 * kPage).value();
  const Slice shared = part.region->Read(0, 4 * kPage, true).value();
  object.Resize(kPage);
  CHECK(part.region->Check().ok());  // nobody has looked yet
  uint64_t sum = 0;
  std::thread reader([&] {
    for (size_t i = 0; i < shared.size(); ++i) sum += shared.data()[i];
  });
  reader.join();
  CHECK(sum > 0);
  const std::string text =
      "the shared memory region 'r' is not there any more as it was registered: its owner has shortened it; "
      "unregister it";
  CHECK_EQ(part.region->Check().message(), text);
  CHECK_EQ(part.region->Write(2 * kPage, "late").message(), text);
  CHECK_EQ(part.region->Read(0, 8, false).status().message(), text);
  CHECK_EQ(registry.Find("r", 0, 8).status().message(), text);
  CHECK(registry.Unregister(Kind::kSystem, "r").ok());
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  CHECK(registry.Find("r", 0, 8).ok());
}

// A request whose input and output are in `region`, for a model with one INT32 and one BYTES input.
struct Fixture {
  explicit Fixture(SharedMemoryRegistry& registry) : sink(std::make_shared<KeepingSink>()) {
    request = std::make_unique<Request>(sink);
    request->model = testing::Shared(testing::IntModel({0, false, {}, 0}));
    request->regions = &registry;
  }
  std::shared_ptr<KeepingSink> sink;
  RequestPtr request;
};

TEST(SharedMemory, OutputsArePutWhereTheyAreWanted) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  Fixture f(registry);
  f.request->requested_outputs = {{"OUT", 0, registry.Find("r", 100, 8).value()}};
  f.request->uses_shared_memory = true;
  Response response;
  response.outputs = {{"OUT", DType::kInt32, {2}, testing::Ints({7, -1})}};
  f.request->Answer(std::move(response));
  CHECK(f.sink->response.outputs.at(0).placed);
  CHECK(f.sink->response.outputs.at(0).data.empty());
  CHECK_EQ(std::memcmp(object.data() + 100, testing::Ints({7, -1}).data(), 8), 0);

  Fixture small(registry);
  small.request->requested_outputs = {{"OUT", 0, registry.Find("r", 100, 7).value()}};
  small.request->uses_shared_memory = true;
  response.outputs = {{"OUT", DType::kInt32, {2}, testing::Ints({1, 1})}};
  small.request->Answer(std::move(response));
  CHECK_EQ(small.sink->message(),
           "shared memory size specified with the request for output 'OUT' (7 bytes) should be at least 8 bytes to "
           "hold the results");
  CHECK(small.sink->code() == Code::kInternal);
  CHECK_EQ(object.data()[100], uint8_t{7});  // nothing was written
}

TEST(SharedMemory, WhoReadsZerosFindsThatTheRegionIsBroken) {
  // Of several threads that look at once, the one that does not fault itself must not be faster than the news.
  for (int round = 0; round < 30; ++round) {
    Object object(64 * kPage);
    std::memset(object.data(), 7, 64 * kPage);
    SharedMemoryRegistry registry(true);
    CHECK(registry.RegisterSystem("r", object.key(), 0, 64 * kPage).ok());
    const SharedMemoryPart part = registry.Find("r", 0, 64 * kPage).value();
    const Slice shared = part.region->Read(0, 64 * kPage, true).value();
    object.Resize(kPage);
    std::atomic<int> unnoticed{0};
    std::vector<std::thread> threads;
    for (size_t number = 0; number < 4; ++number) {
      threads.emplace_back([&, number] {
        for (size_t page = number; page < 64; page += 4) {
          const volatile uint8_t* data = shared.data() + page * kPage;
          if (data[0] == 0 && part.region->Check().ok()) ++unnoticed;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQ(unnoticed.load(), 0);
  }
}

TEST(SharedMemory, OutputsMayTakeThePlacesOfInputs) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  Fixture f(registry);
  Tensor first{"A", DType::kUint8, {4}, {}}, second{"B", DType::kUint8, {4}, {}};
  CHECK(ReadInput(registry.Find("r", 0, 4).value(), first, *f.request).ok());
  CHECK(ReadInput(registry.Find("r", 4, 4).value(), second, *f.request).ok());
  f.request->requested_outputs = {{"A", 0, registry.Find("r", 4, 4).value()},
                                  {"B", 0, registry.Find("r", 0, 4).value()}};
  Response response;
  response.outputs = {first, second};
  f.request->Answer(std::move(response));
  CHECK(f.sink->code() == Code::kOk);
  CHECK_EQ(std::memcmp(object.data(), "\4\5\6\7\0\1\2\3", 8), 0);
}

TEST(SharedMemory, NothingIsWrittenForAClientThatHasGone) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  Fixture f(registry);
  f.request->requested_outputs = {{"OUT", 0, registry.Find("r", 100, 8).value()}};
  f.request->uses_shared_memory = true;
  f.sink->cancel = true;
  Response response;
  response.outputs = {{"OUT", DType::kInt32, {2}, testing::Ints({7, -1})}};
  f.request->Answer(std::move(response));
  CHECK_EQ(object.data()[100], uint8_t{100});
}

TEST(SharedMemory, RegionsHaveALimit) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  for (size_t i = 0; i < 4096; ++i) {
    CHECK(registry.RegisterSystem(std::to_string(i), object.key(), 0, 1).ok());
  }
  CHECK(registry.RegisterSystem("more", object.key(), 0, 1).code() == Code::kUnavailable);
  CHECK(registry.Unregister(Kind::kCuda, "17").ok());  // of the other kind: nothing happens
  CHECK(registry.RegisterSystem("more", object.key(), 0, 1).code() == Code::kUnavailable);
  CHECK(registry.Unregister(Kind::kSystem, "17").ok());
  CHECK(registry.RegisterSystem("more", object.key(), 0, 1).ok());
}

TEST(SharedMemory, FixedSizeInputsAreSharedAndBytesAreCopied) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
  Fixture f(registry);
  Tensor ints{"IN", DType::kInt32, {2}, {}};
  Tensor text{"TEXT", DType::kBytes, {1}, {}};
  CHECK(ReadInput(registry.Find("r", 0, 8).value(), ints, *f.request).ok());
  CHECK(ReadInput(registry.Find("r", 8, 8).value(), text, *f.request).ok());
  object.data()[0] = 200;
  object.data()[8] = 200;
  CHECK_EQ(ints.data.data()[0], uint8_t{200});
  CHECK_EQ(text.data.data()[0], uint8_t{8});
  // An answer made of shared memory is copied before it is sent.
  Response response;
  response.outputs = {{"OUT", DType::kInt32, {2}, ints.data}};
  f.request->Answer(std::move(response));
  CHECK(!f.sink->response.outputs.at(0).data.foreign());
}

TEST(SharedMemory, AnAnswerFromABrokenRegionIsAnError) {
  Object object(2 * kPage);
  SharedMemoryRegistry registry(true);
  CHECK(registry.RegisterSystem("r", object.key(), 0, 2 * kPage).ok());
  Fixture f(registry);
  Tensor input{"IN", DType::kInt32, {2}, {}};
  CHECK(ReadInput(registry.Find("r", kPage, 8).value(), input, *f.request).ok());
  object.Resize(0);
  Response response;
  response.outputs = {{"OUT", DType::kInt32, {2}, Slice::Copy(input.data.data(), 8)}};  // the executor reads it
  f.request->Answer(std::move(response));
  CHECK(f.sink->code() == Code::kInvalidArg);
}

TEST(SharedMemory, UnregisterWhileInUse) {
  Object object(kPage);
  SharedMemoryRegistry registry(true);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto part = registry.Find("r", 0, kPage);
        if (!part.ok()) continue;
        const Slice slice = part.value().region->Read(0, kPage, true).value();
        CHECK_EQ(slice.data()[kPage - 1], object.data()[kPage - 1]);
      }
    });
  }
  for (int i = 0; i < 500; ++i) {
    CHECK(registry.RegisterSystem("r", object.key(), 0, kPage).ok());
    std::this_thread::yield();
    CHECK(registry.Unregister(Kind::kSystem, "r").ok());
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CudaDriver, WithoutOneARegistrationSaysSo) {
  if (CudaDriver::Get().ok()) return;
  SharedMemoryRegistry registry(true);
  const auto refusal = [&](const std::string& handle) { return registry.RegisterCuda("c", handle, 0, 4).message(); };
  CHECK(refusal(std::string(64, 'h')).find("this server has no CUDA device") != std::string::npos);
  for (const size_t size : {size_t{0}, size_t{63}, size_t{65}}) {
    CHECK(refusal(std::string(size, 'h')).find("a cudaIpcMemHandle_t has 64") != std::string::npos);
  }
}

}  // namespace
}  // namespace pyinfer
