#include "cuda_probe.h"

#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <sstream>
#include <tuple>

#include "../../comm/nccl_library.h"
#include "../../engine/errors.h"

extern char** environ;

namespace longhaul {
namespace {

constexpr std::chrono::seconds kPatience{60};  // a cold driver takes seconds

/// What a child that did not answer as expected means.
cuda::Report broken(const std::string& what) {
  cuda::Report report;
  report.nccl_missing = "needs the CUDA backend";
  report.missing.push_back("a working CUDA driver: the probe of the GPU in a process of its own " + what +
                           "; check the driver with nvidia-smi");
  return report;
}

/// The child's output, or what went wrong with it in `problem`.
std::string run_child(const std::vector<std::string>& arguments, std::string& problem) {
  int ends[2];
  if (::pipe(ends) != 0) return problem = std::string("could not be started: ") + std::strerror(errno), "";
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, ends[0]);
  ::posix_spawn_file_actions_addclose(&actions, ends[1]);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error != 0) {
    ::close(ends[0]);
    return problem = std::string("could not be started: ") + std::strerror(error), "";
  }
  std::string output;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (char buffer[4096];;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd waiting{ends[0], POLLIN, 0};
    const int ready = left > 0 ? ::poll(&waiting, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      problem = "did not answer within " + std::to_string(kPatience.count()) + " s";
      ::kill(child, SIGKILL);
      break;
    }
    const ssize_t count = ::read(ends[0], buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    output.append(buffer, static_cast<size_t>(count));
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  if (!problem.empty()) return output;
  if (WIFSIGNALED(status)) problem = "died of signal " + std::to_string(WTERMSIG(status));
  else if (WEXITSTATUS(status) != 0) problem = "ended with code " + std::to_string(WEXITSTATUS(status));
  return output;
}

cuda::Report ask_child(const CudaOptions& options) {
  cuda::Report report;
  const std::string library = cuda_library_path(options);
  std::error_code ignored;
  if (!std::filesystem::exists(library, ignored)) {
    report.nccl_missing = "needs the CUDA backend";
    report.missing.push_back("libapb_cuda.so (" + library + "); build it with `make cuda`, or name it with the setting cudaLibrary (LONGHAUL_CUDA_LIBRARY)");
    return report;
  }
  std::string problem;
  const std::string output = run_child({own_folder() + "/longhaul-probe", library, std::to_string(options.device.device), options.device.cublas_lt, options.nccl}, problem);
  if (!problem.empty()) return broken(problem);
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) continue;
    const std::string key = line.substr(0, tab), value = line.substr(tab + 1);
    if (key == "description") report.description = value;
    if (key == "cublasLt") report.cublas_lt = value;
    if (key == "missing") report.missing.push_back(value);
    if (key == "nccl") report.nccl = value;
    if (key == "ncclMissing") report.nccl_missing = value;
  }
  if (report.description.empty() && report.missing.empty()) return broken("said nothing");
  return report;
}

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return text;
}

}  // namespace

const cuda::Report& probe_cuda(const CudaOptions& options) {
  static std::mutex mutex;
  static std::map<std::tuple<std::string, int64_t, std::string, std::string>, cuda::Report> known;
  const std::lock_guard lock(mutex);
  const auto key = std::tuple(cuda_library_path(options), options.device.device, options.device.cublas_lt, options.nccl);
  const auto at = known.find(key);
  return at != known.end() ? at->second : known.emplace(key, ask_child(options)).first->second;
}

int run_cuda_probe(const CudaOptions& options) {
  cuda::Report report;
  try {
    report = open_cuda_library(options).probe(options.device);
  } catch (const EngineError& error) {
    report.missing.emplace_back(error.what());
  }
  try {
    report.nccl = nccl::open(options.nccl).source;
  } catch (const EngineError& error) {
    report.nccl_missing = error.what();
  }
  if (!report.nccl.empty()) std::printf("nccl\t%s\n", one_line(report.nccl).c_str());
  if (!report.nccl_missing.empty()) std::printf("ncclMissing\t%s\n", one_line(report.nccl_missing).c_str());
  if (!report.description.empty()) std::printf("description\t%s\n", one_line(report.description).c_str());
  if (!report.cublas_lt.empty()) std::printf("cublasLt\t%s\n", one_line(report.cublas_lt).c_str());
  for (const std::string& missing : report.missing) std::printf("missing\t%s\n", one_line(missing).c_str());
  return 0;
}

}  // namespace longhaul
