// A shared library that is looked for when it is needed: the addon loads on machines that have neither it nor
// a device.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace internvl::cuda {

class DynamicLibrary {
 public:
  /// Opens the first of `names` that is found, looking for each name in turn where libraries are:
  /// - the folders of INTERNVL_CUDA_LIBRARIES, separated by colons,
  /// - where the system looks (LD_LIBRARY_PATH, its cache),
  /// - an installed toolkit: $CUDA_HOME or /usr/local/cuda,
  /// - NVIDIA's packages of the python3 on the PATH, or of $VIRTUAL_ENV.
  /// Throws DeviceError that says what was tried.
  DynamicLibrary(const std::string& what, std::span<const char* const> names);
  /// Libraries stay loaded: what they started may run on in threads of theirs.
  ~DynamicLibrary() = default;

  /// Throws DeviceError where the library has no such function: it is too old.
  template <typename Function>
  void Get(const char* name, Function*& function) const {
    function = reinterpret_cast<Function*>(Symbol(name));
  }

  /// The name or path it was opened by.
  const std::string& path() const { return path_; }

 private:
  void* Symbol(const char* name) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace internvl::cuda
