// Where libraries are looked for, and what is said where there is none. libm stands for any library.
#include "../dynamic_library.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "../../../cuda_on_host/tests/expect.h"
#include "../../backend.h"

namespace internvl::cuda {
namespace {

namespace fs = std::filesystem;

fs::path PathOfLibm() {
  void* handle = dlopen("libm.so.6", RTLD_NOW);
  link_map* map = nullptr;
  dlinfo(handle, RTLD_DI_LINKMAP, &map);
  return map->l_name;
}

/// The path by which one of `names` was opened, or the error's text.
std::string Open(std::initializer_list<const char*> names) {
  try {
    return DynamicLibrary("a library", {names.begin(), names.size()}).path();
  } catch (const DeviceError& error) {
    return error.what();
  }
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void RunAll(const fs::path& folder) {
  const fs::path named = folder / "named", python = folder / "python";
  const fs::path packages = python / "lib/python3.12/site-packages/nvidia/cu13/lib";
  for (const fs::path& made : {named, packages, python / "bin"}) fs::create_directories(made);
  std::ofstream(python / "bin/python3") << "#!/bin/sh\n";
  fs::permissions(python / "bin/python3", fs::perms::owner_all);
  unsetenv("VIRTUAL_ENV");
  setenv("PATH", ((folder / "empty").string() + ":" + (python / "bin").string()).c_str(), 1);
  setenv("INTERNVL_CUDA_LIBRARIES", ("::" + named.string()).c_str(), 1);

  Expect(Open({"libm.so.6"}) == "libm.so.6", "what the system has is found by name");
  Expect(Open({"libnothing.so.9", "libm.so.6"}) == "libm.so.6", "the second name is tried after the first");

  const std::string missing = Open({"libnothing.so.9", "libnothing.so.8"});
  Expect(Contains(missing,
                  "a library was not found: none of libnothing.so.9, libnothing.so.8 in " + named.string()) &&
             Contains(missing, "/usr/local/cuda/lib64") && Contains(missing, packages.string()) &&
             Contains(missing, "INTERNVL_CUDA_LIBRARIES"),
         "the error names all that was tried: " + missing);

  fs::copy(PathOfLibm(), packages / "libnothing.so.9");
  Expect(Open({"libnothing.so.9"}) == packages / "libnothing.so.9", "python3's packages are found");
  fs::copy(PathOfLibm(), named / "libnothing.so.9");
  Expect(Open({"libnothing.so.9"}) == named / "libnothing.so.9", "a named folder comes first");

  std::ofstream(named / "libbroken.so.1") << "not a library";
  Expect(Contains(Open({"libbroken.so.1"}), "file too short") ||
             Contains(Open({"libbroken.so.1"}), "invalid ELF"),
         "why one that is there does not load is said: " + Open({"libbroken.so.1"}));

  const char* const libm[] = {"libm.so.6"};
  const DynamicLibrary library("libm", libm);
  double (*cosine)(double) = nullptr;
  library.Get("cos", cosine);
  Expect(cosine(0) == 1, "functions are found");
  try {
    library.Get("cublasLtCreate", cosine);
    Expect(false, "a function that is not there is an error");
  } catch (const DeviceError& error) {
    Expect(std::string(error.what()) == "libm.so.6 has no cublasLtCreate: it is too old", error.what());
  }
}

}  // namespace
}  // namespace internvl::cuda

int main() {
  const auto folder =
      std::filesystem::temp_directory_path() / ("dynamic-library-" + std::to_string(getpid()));
  internvl::cuda::RunAll(folder);
  std::filesystem::remove_all(folder);
  return Finish();
}
