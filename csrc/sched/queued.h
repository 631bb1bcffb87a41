// SPDX-License-Identifier: Apache-2.0
// queued.h - what all queues do alike with the requests that they hold.
#pragma once

#include <vector>

#include "base/status.h"
#include "infer/request.h"

namespace pyinfer {

// May these run in one batch? Same inputs, and the same shape but for the batch dimension, unless the
// input may be ragged; where the model pads, the shape that they are padded to.
// Requires: the model has a batch dimension.
bool SameShapes(const Request& a, const Request& b);

// When the time that the request gives itself (its parameter timeout) is over; 0: never.
TimeNs OwnDeadline(const Request& request);

// Answers a request that is not being executed with an error; one whose answers leave in order, out of turn.
void GiveUp(RequestPtr request, FailureReason reason, Status status) noexcept;
void AnswerCancelled(std::vector<RequestPtr>& requests);
// Their time in the queue is over.
void AnswerExpired(std::vector<RequestPtr>& requests);

// The refusal of a queue that is closed.
Status StoppingStatus();

}  // namespace pyinfer
