// SPDX-License-Identifier: Apache-2.0
// grpc_host.h - what the calls of inference need of their connection. Loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"
#include "memory/output.h"

namespace pyinfer {

class Mailbox;
class Trace;

// A call is named by its HTTP/2 stream; one that is gone is ignored.
class GrpcHost {
 public:
  virtual ~GrpcHost() = default;
  virtual Mailbox& mailbox() = 0;
  // The answer that is sent next is traced until it has been handed to the transport in full.
  virtual void Trace(int32_t call, std::shared_ptr<pyinfer::Trace> trace) = 0;
  // One message of the answer.
  virtual void SendMessage(int32_t call, Output message) = 0;
  // The end of the answer, after the messages that were sent before.
  virtual void End(int32_t call, const Status& status) = 0;
  // The same at once: messages that are waiting to be taken are dropped.
  virtual void Break(int32_t call, const Status& status) = 0;
  // Bytes of messages that the client has not taken.
  virtual size_t unsent(int32_t call) const = 0;
  // How many of these a client may leave: `most`, and the less the more the clients of all connections leave.
  virtual size_t MayLeave(size_t most) const = 0;

  // Requests whose sinks have not been answered, those of reset calls too: a client can not buy work by resetting.
  size_t outstanding = 0;
};

}  // namespace pyinfer
