// A few threads that share the items of one loop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace longhaul::cpu {

/// Idle threads sleep: the ranks of a cohort share a machine's cores, and a rank that waits for
/// the others must not take a core from them. Between the ops of one layer they look out for the
/// next one for some microseconds first, which is less than waking takes.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the calling thread is one of them
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(item, worker) for every item in [0, items), worker in [0, threads()); returns when
  /// all are done and rethrows the first exception. Which worker gets an item is left to chance, so
  /// a body's result may not depend on it. `parallel` = false keeps the loop on the calling thread,
  /// for work that is shorter than waking a thread.
  void run(int64_t items, bool parallel, const std::function<void(int64_t item, int worker)>& body);

 private:
  void serve(int worker);
  void take_items(int worker);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<uint64_t> generation_{0};  // of loops; a worker takes part in each once
  std::atomic<int> busy_{0};             // workers still in this loop
  bool quit_ = false;
  const std::function<void(int64_t, int)>* body_ = nullptr;
  int64_t items_ = 0;
  std::atomic<int64_t> next_{0};
  std::exception_ptr error_;
};

}  // namespace longhaul::cpu
