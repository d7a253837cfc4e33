#include "thread_pool.h"

#include <chrono>
#include <utility>

namespace longhaul::cpu {
namespace {

constexpr std::chrono::microseconds kLookOut{40};

/// Waits for `done` without sleeping, for a short while.
template <class Done>
void look_out(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kLookOut;
  while (!done() && std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 8; ++i) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { serve(worker); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::run(int64_t items, bool parallel, const std::function<void(int64_t, int)>& body) {
  if (workers_.empty() || !parallel || items <= 1) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    body_ = &body;
    items_ = items;
    next_ = 0;
    busy_ = static_cast<int>(workers_.size());
    ++generation_;
  }
  wake_.notify_all();
  take_items(0);
  const auto done = [this] { return busy_ == 0; };
  look_out(done);
  std::unique_lock lock(mutex_);
  done_.wait(lock, done);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::take_items(int worker) {
  try {
    for (int64_t item = next_++; item < items_; item = next_++) (*body_)(item, worker);
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
    next_ = items_;  // the others stop early
  }
}

void ThreadPool::serve(int worker) {
  uint64_t seen = 0;
  while (true) {
    const auto called = [&] { return generation_ != seen; };
    look_out(called);
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return quit_ || called(); });
    if (quit_) return;
    seen = generation_;
    lock.unlock();
    take_items(worker);
    if (--busy_ > 0) continue;
    lock.lock();  // the caller may be about to sleep
    done_.notify_one();
  }
}

}  // namespace longhaul::cpu
