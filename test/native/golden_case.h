// The golden cases in test/cases (see its README): reading, running and comparing them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/json.h"
#include "engine/model.h"
#include "engine/safetensors.h"

namespace longhaul::testing {

struct GoldenCase {
  explicit GoldenCase(const std::string& name);  // a folder of test/cases

  std::string name, model_directory;
  LayoutRequest layout;
  std::vector<uint32_t> document, query;
  std::vector<uint32_t> in_anchor;  // the query, or nothing
  Select select = Select::Heads;
  uint64_t select_seed = 0;
  DecodeRequest decode;  // query, max_new_tokens and eos of the case; no teacher

  std::vector<uint32_t> tokens;  // expected from here on
  bool ended = false;
  double logit_std = 0;
  Json expected;
  Checkpoint tensors;

  /// Values of a float or int32 tensor of expected.safetensors; empty when it is not there.
  std::vector<double> values(const std::string& tensor) const;
  /// What rank `rank` is given; spans into this case.
  PrefillRequest prefill(int rank) const;
};

std::vector<std::string> golden_case_names();

/// All ranks' engines of a case, over threads.
std::vector<std::unique_ptr<Engine>> make_engines(const GoldenCase& golden,
                                                  std::vector<std::unique_ptr<Communicator>> communicators,
                                                  const std::function<std::shared_ptr<Backend>()>& backend);

/// Worst errors found; logits in units of logit_std.
struct CaseErrors {
  double logits = 0, lse = 0, merged_lse = 0, hidden = 0, scores = 0, norms = 0;
};

/// Prefill, teacher-forced decoding with a trace, greedy decoding without a teacher, and the comparison
/// with the golden values at float32 tolerances. Fails the test where something differs.
CaseErrors run_case(const GoldenCase& golden, std::vector<std::unique_ptr<Engine>>& engines, int64_t chunk_rows);

}  // namespace longhaul::testing
