// Ranks as threads: each with its own engine, run together, their errors kept apart.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "comm/communicator.h"
#include "engine/engine.h"
#include "engine/model.h"

namespace longhaul::testing {

/// Runs body(rank) on a thread per rank and waits; the exceptions, null where there was none.
inline std::vector<std::exception_ptr> run_ranks(int ranks, const std::function<void(int)>& body) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      try {
        body(r);
      } catch (...) {
        errors[static_cast<size_t>(r)] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// "code: message" of an engine or communicator error, "" for none.
inline std::string error_text(const std::exception_ptr& error) {
  if (!error) return "";
  try {
    std::rethrow_exception(error);
  } catch (const EngineError& e) {
    return e.code() + ": " + e.what();
  } catch (const CommError& e) {
    return e.code() + ": " + e.what();
  } catch (const std::exception& e) {
    return std::string("?: ") + e.what();
  }
}

/// Fails the test with the first error.
inline void rethrow(const std::vector<std::exception_ptr>& errors) {
  for (const auto& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace longhaul::testing
