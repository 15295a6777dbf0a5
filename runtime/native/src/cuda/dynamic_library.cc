#include "dynamic_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "../backend.h"

namespace internvl::cuda {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> SplitAtColons(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<std::string> Matches(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t found{};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

/// The prefix of the first python3 on the PATH (that of a virtual environment, then of what it was made
/// from).
std::vector<std::string> PythonPrefixes() {
  std::vector<std::string> prefixes;
  if (const std::string environment = Variable("VIRTUAL_ENV"); !environment.empty())
    prefixes.push_back(environment);
  for (const std::string& folder : SplitAtColons(Variable("PATH"))) {
    const std::filesystem::path python = std::filesystem::path(folder) / "python3";
    if (access(python.c_str(), X_OK) != 0) continue;
    prefixes.push_back(std::filesystem::path(folder).parent_path().string());
    std::error_code failed;
    const auto real = std::filesystem::canonical(python, failed);
    if (!failed) prefixes.push_back(real.parent_path().parent_path().string());
    break;
  }
  // Debian's pip installs there, not under the prefix of its python3.
  prefixes.push_back("/usr/local");
  if (const std::string home = Variable("HOME"); !home.empty()) prefixes.push_back(home + "/.local");
  return prefixes;
}

/// Folders in the order in which they are tried; "" is wherever the system looks.
std::vector<std::string> Folders() {
  std::vector<std::string> folders = SplitAtColons(Variable("INTERNVL_CUDA_LIBRARIES"));
  folders.push_back("");
  const std::string toolkit = Variable("CUDA_HOME");
  folders.push_back((toolkit.empty() ? "/usr/local/cuda" : toolkit) + "/lib64");
  for (const std::string& prefix : PythonPrefixes()) {
    // CUDA 13 has one folder for all (nvidia/cu13/lib), CUDA 12 and NCCL one for each (nvidia/nccl/lib).
    for (const char* packages : {"site-packages", "dist-packages"}) {
      for (std::string& folder : Matches(prefix + "/lib/python3*/" + packages + "/nvidia/*/lib")) {
        folders.push_back(std::move(folder));
      }
    }
  }
  return folders;
}

}  // namespace

DynamicLibrary::DynamicLibrary(const std::string& what, std::span<const char* const> names) {
  const std::vector<std::string> folders = Folders();
  std::string tried, failures;
  for (const char* name : names) {
    tried += (tried.empty() ? "" : ", ") + std::string(name);
    for (const std::string& folder : folders) {
      path_ = folder.empty() ? name : folder + "/" + name;
      // Most folders have none: only one that is there and does not load is worth telling.
      if (!folder.empty() && access(path_.c_str(), F_OK) != 0) continue;
      handle_ = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_ != nullptr) return;
      const char* reason = dlerror();
      if (!folder.empty()) failures += std::string("; ") + (reason == nullptr ? path_ : reason);
    }
  }
  std::string places;
  for (const std::string& folder : folders)
    places += (places.empty() ? "" : ", ") + (folder.empty() ? "the system's libraries" : folder);
  throw DeviceError(what + " was not found: none of " + tried + " in " + places + failures +
                    ". Install it, or name its folder in INTERNVL_CUDA_LIBRARIES");
}

void* DynamicLibrary::Symbol(const char* name) const {
  void* symbol = dlsym(handle_, name);
  if (symbol == nullptr) throw DeviceError(path_ + " has no " + name + ": it is too old");
  return symbol;
}

}  // namespace internvl::cuda
