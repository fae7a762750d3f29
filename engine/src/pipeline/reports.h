// Reports for people, tests and other languages: each is one JSON value.
#pragma once

#include <vector>

#include "device/device.h"
#include "io/json.h"
#include "pipeline/model.h"
#include "planning/planner.h"
#include "runtime/profile.h"

namespace sdcpp {

// Devices and backends of the ggml in use.
Json devices_json();
// The components that models are made of and how users give their files, as sdcpp_components() describes them.
Json components_json();
// The tensors of a file, or of a diffusers folder whose files' folders stand before their names.
Json listing_json(const ModelPath& path);
// The model's networks and inputs, and its defaults of options.
Json model_json(const Model& model);
// A plan with its stages, segments and pieces, and when each is uploaded and computed in a steady step.
Json plan_json(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan);
// A network's plan, and the sums over its runs.
Json run_json(const std::string& network, const RunReport& report);
// The runs of each network since the last call, for those that ran.
Json take_runs(Model& model);
// Bytes held at most, of each class and of all together, and what is mapped from files.
Json memory_json(const DeviceMemory::Bytes& peak, uint64_t mapped);
// The same since the last call. Then workspaces that need no loading to come back are freed.
Json take_memory(Model& model);
Json profile_json(const std::vector<ProfileRow>& rows);

}  // namespace sdcpp
