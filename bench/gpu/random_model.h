// A model for timing.
#pragma once

#include <memory>

#include "engine/model.h"

namespace bench {

using namespace longhaul;

/// Llama-3.1-8B's shapes but for the number of layers, with retaining heads where wanted; every layer has the same random numbers, which costs the
/// GPU as much as any others.
std::shared_ptr<Model> random_model(const std::shared_ptr<Backend>& backend, bool heads, int layers = 32);

}  // namespace bench
