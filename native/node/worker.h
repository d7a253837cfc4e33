// An engine's own long-lived thread, and the way back to JavaScript's loop.
//
// Never libuv's pool: four prefills of a minute each would starve files, DNS and crypto.
#pragma once

#include <napi.h>

#include <chrono>
#include <functional>
#include <memory>

namespace longhaul::node {

class Worker {
 public:
  using Job = std::function<void()>;
  using OnLoop = std::function<void(Napi::Env)>;

  /// Posts from the engine's thread to the loop; harmless once the worker is closed.
  class Poster {
   public:
    void operator()(OnLoop task) const;

   private:
    friend class Worker;
    struct State;
    std::shared_ptr<State> state_;
  };

  explicit Worker(Napi::Env env);
  ~Worker();

  /// Jobs run in order on the thread and must not throw.
  void run(Job job);
  const Poster& poster() const { return poster_; }

  /// A held loop does not end: JavaScript is waiting for a result.
  void hold(Napi::Env env);
  void let_go(Napi::Env env);

  /// Nothing is posted to the loop any more, queued jobs are dropped, and the thread ends after the
  /// job in progress. Waits for it no longer than `patience`; a thread that is still computing then
  /// goes on by itself, touching nothing of JavaScript, until it or the process ends. Idempotent.
  void close(std::chrono::milliseconds patience);

 private:
  Poster poster_;
};

}  // namespace longhaul::node
