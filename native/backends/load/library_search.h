// Where NVIDIA's libraries lie: the system's, a toolkit's, or a Python package's.
#pragma once

#include <glob.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

namespace longhaul {

/// Appends the files that the pattern matches.
inline void add_files(const std::string& pattern, std::vector<std::string>& to) {
  glob_t found{};
#ifdef GLOB_TILDE
  const int flags = GLOB_TILDE;
#else
  const int flags = 0;
#endif
  if (::glob(pattern.c_str(), flags, nullptr, &found) == 0)
    for (size_t i = 0; i < found.gl_pathc; ++i) to.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
}

/// The folders that hold bin/python3 of each PATH entry: an activated environment's packages.
inline std::vector<std::string> python_prefixes() {
  std::vector<std::string> prefixes = {"/usr", "/usr/local", "~/.local", ".venv"};
  const char* path = std::getenv("PATH");
  std::istringstream entries(path ? path : "");
  for (std::string entry; std::getline(entries, entry, ':');) {
    std::error_code ignored;
    if (std::filesystem::exists(entry + "/python3", ignored))
      prefixes.push_back(std::filesystem::path(entry).parent_path().string());
  }
  return prefixes;
}

/// Appends the library `file` (a glob pattern) of each of NVIDIA's Python packages named.
inline void add_python_files(std::initializer_list<const char*> packages, const std::string& file,
                             std::vector<std::string>& to) {
  for (const std::string& prefix : python_prefixes())
    for (const char* folder : {"site-packages", "dist-packages"})
      for (const char* package : packages)
        add_files(prefix + "/lib/python3*/" + folder + "/nvidia/" + package + "/lib/" + file, to);
}

}  // namespace longhaul
