// One pending call of JavaScript on an engine: plain C++, shared by the two threads.
#pragma once

#include <atomic>

#include "../engine/engine.h"

namespace longhaul::node {

struct Call {
  Control control;
  std::atomic<bool> aborted{false};

  void abort() {
    aborted = true;
    control.stop = true;  // a rank alone makes no collective that the communicator could break
  }
  void throw_if_aborted() const {
    if (aborted) throw CommError("aborted", "the call was aborted; connect the engine again before the next one");
  }
};

}  // namespace longhaul::node
