#include "worker.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace longhaul::node {

/// Shared with the thread, which may outlive the Worker.
struct Worker::Poster::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Job> jobs;
  bool closed = false;
  bool ended = false;
  napi_threadsafe_function to_loop = nullptr;  // valid until closed
  std::thread thread;                          // of the Worker alone

  void loop() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return closed || !jobs.empty(); });
      if (closed) break;
      Job job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job();
      job = nullptr;  // what it owns is freed here, not under the lock
      lock.lock();
    }
    ended = true;
    changed.notify_all();
  }
};

namespace {

/// Runs on the loop; `env` is null when the environment goes away with tasks still queued.
void call_js(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Worker::OnLoop> task(static_cast<Worker::OnLoop*>(data));
  if (env == nullptr) return;
  Napi::HandleScope scope(env);
  try {
    (*task)(env);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());  // a progress callback threw: an uncaught exception
  }
}

}  // namespace

void Worker::Poster::operator()(OnLoop task) const {
  const std::lock_guard lock(state_->mutex);
  if (state_->closed) return;
  auto* data = new OnLoop(std::move(task));
  if (napi_call_threadsafe_function(state_->to_loop, data, napi_tsfn_nonblocking) != napi_ok) delete data;
}

Worker::Worker(Napi::Env env) {
  auto state = std::make_shared<Poster::State>();
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "longhaul engine"), 0, 1, nullptr, nullptr, nullptr, call_js,
      &state->to_loop);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, state->to_loop);
  poster_.state_ = state;
  state->thread = std::thread([state] { state->loop(); });
}

Worker::~Worker() { close(std::chrono::seconds(1)); }

void Worker::run(Job job) {
  const std::lock_guard lock(poster_.state_->mutex);
  if (poster_.state_->closed) return;
  poster_.state_->jobs.push_back(std::move(job));
  poster_.state_->changed.notify_all();
}

void Worker::hold(Napi::Env env) { napi_ref_threadsafe_function(env, poster_.state_->to_loop); }
void Worker::let_go(Napi::Env env) { napi_unref_threadsafe_function(env, poster_.state_->to_loop); }

void Worker::close(std::chrono::milliseconds patience) {
  Poster::State& state = *poster_.state_;
  std::deque<Job> dropped;
  {
    std::unique_lock lock(state.mutex);
    if (state.closed) return;
    state.closed = true;
    dropped.swap(state.jobs);
    state.changed.notify_all();
    state.changed.wait_for(lock, patience, [&] { return state.ended; });
    if (!state.ended) state.thread.detach();
  }
  if (state.thread.joinable()) state.thread.join();
  napi_release_threadsafe_function(state.to_loop, napi_tsfn_release);
}

}  // namespace longhaul::node
