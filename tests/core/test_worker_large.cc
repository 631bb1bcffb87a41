// SPDX-License-Identifier: Apache-2.0
// Large tensors between a server and a worker, which runs on a thread here.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "scheduling.h"
#include "worker/guest.h"
#include "worker/host.h"

namespace pyinfer {
namespace {

using testing::IntsOf;
using testing::KeepingSink;

constexpr int32_t kWidth = 300'000;

// Answers each request with its input.
void Echo(Guest& guest) {
  for (;;) {
    StatusOr<Batch> batch = guest.Next();
    if (!batch.ok() || batch->empty()) return;
    for (size_t i = 0; i < batch->size(); ++i) {
      Tensor tensor = batch->request(i).inputs.at(0);
      tensor.name = "OUT";
      batch->Respond(i, {std::move(tensor)}, {});
    }
    guest.Finish(batch.value());
  }
}

std::vector<Response> Execute(WorkerHost& host, int32_t first) {
  const SystemClock clock;
  const auto model = testing::Shared(testing::IntModel({8, true, {}, 0}));
  std::vector<testing::SinkPtr> sinks = {std::make_shared<KeepingSink>(), std::make_shared<KeepingSink>()};
  std::vector<RequestPtr> requests;
  for (const testing::SinkPtr& sink : sinks) requests.push_back(testing::IntRequest(model, sink, 1, kWidth, first++));
  Batch batch(std::move(requests), model, nullptr, clock, clock.Now());
  host.Execute(batch);
  batch.Finish();
  return {std::move(sinks[0]->response), std::move(sinks[1]->response)};
}

// An output that is an input is not copied back, and stays as it is while its answer is on its way.
TEST(WorkerLarge, InputsAreAnsweredFromWhereTheyAre) {
  const WorkerLanes lanes = WorkerLanes::Create().value();
  WorkerHost host(0);
  const std::shared_ptr<Guest> guest = Guest::Make(dup(lanes.requests->fd()), dup(lanes.answers->fd())).value();
  std::thread worker([guest] { Echo(*guest); });
  const auto session = host.Announce(lanes, [] {});
  host.Attach(session);
  std::vector<std::pair<int32_t, Response>> held;
  for (int32_t round = 0; round < 10; ++round) {
    std::vector<Response> responses = Execute(host, 2 * round);
    held.emplace_back(2 * round, std::move(responses.at(0)));
    held.emplace_back(2 * round + 1, std::move(responses.at(1)));
    if (round % 3 == 2) held.erase(held.begin() + 1, held.begin() + 4);
    for (const auto& [value, response] : held) {
      const Slice& data = response.outputs.at(0).data;
      CHECK(data.foreign() && IntsOf(data) == std::vector<int32_t>(kWidth, value));
    }
  }
  struct stat answers{};
  CHECK(fstat(lanes.answers->fd(), &answers) == 0);
  CHECK(static_cast<size_t>(answers.st_size) < kWidth * sizeof(int32_t));
  host.Stop();
  worker.join();
  CHECK(held.front().second.outputs.at(0).data.view().substr(0, 4) == std::string(4, '\0'));
}

}  // namespace
}  // namespace pyinfer
