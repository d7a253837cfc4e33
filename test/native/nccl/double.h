// What tests and the double of NCCL share, besides NCCL's own interface.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace longhaul::testing {

/// What the double takes for a cudaStream_t: work in order, on a thread of its own.
class DoubleStream {
 public:
  DoubleStream() : thread_([this] { run(); }) {}
  ~DoubleStream() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void enqueue(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    ++pending_;
    work_.push_back(std::move(work));
    changed_.notify_all();
  }
  bool idle() const { return pending_ == 0; }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return ended_ || !work_.empty(); });
      if (work_.empty()) return;
      const auto work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      work();
      lock.lock();
      --pending_;
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool ended_ = false;
  std::atomic<int> pending_{0};
  std::thread thread_;
};

/// Exported as `nccl_double`: what happened, and what shall go wrong.
struct DoubleControl {
  std::atomic<int> live{0};         // communicators neither destroyed nor aborted
  std::atomic<int> aborted{0};      // communicators aborted
  std::atomic<int> slow_polls{0};   // how often each call is answered "in progress" before it is through
  std::atomic<int> async_error{0};  // what communicators say of themselves; 0: nothing is wrong
  std::atomic<bool> multicast{true};  // whether NCCL_NVLS_ENABLE allowed it when the first id was made
};

}  // namespace longhaul::testing
