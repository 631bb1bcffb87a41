// SPDX-License-Identifier: Apache-2.0
// statistics_report.h - what Triton's statistics extension tells of model versions, in the words of both protocols.
//
// Nothing is kept between reports: one takes a snapshot of each model and writes it. Any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/model.h"

namespace pyinfer {

// The document {"model_stats": [...]}. UTF-8, if names are.
std::string StatisticsJson(const std::vector<std::shared_ptr<Model>>& models);
// The message inference.ModelStatisticsResponse.
std::string StatisticsMessage(const std::vector<std::shared_ptr<Model>>& models);

}  // namespace pyinfer
