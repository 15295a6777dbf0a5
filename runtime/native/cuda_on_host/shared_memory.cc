#include "shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "allocations.h"
#include "device.h"
#include "streams.h"

namespace cuda_on_host {
namespace {

/// What a handle holds: where the file is, and which, as numbers of processes and files come again.
struct Handle {
  pid_t process;
  int file;
  ino_t inode;
  size_t offset, bytes;  // of the allocation's start; of the file
};
static_assert(sizeof(Handle) <= sizeof(cudaIpcMemHandle_t));

struct Shared {
  std::mutex mutex;
  std::map<const void*, int> files;                        // by start of this process's allocations
  std::map<const void*, std::pair<void*, size_t>> opened;  // mappings by what was given out
};
Shared& TheShared() {
  static auto* shared = new Shared;
  return *shared;
}

/// The same addresses, but backed by a file; -1 when there is none to be had.
int Convert(const Pages& pages) {
  const int file = memfd_create("cuda_on_host", MFD_CLOEXEC);
  if (file < 0) return -1;
  if (ftruncate(file, static_cast<off_t>(pages.bytes)) == 0 &&
      pwrite(file, pages.first, pages.bytes, 0) == static_cast<ssize_t>(pages.bytes) &&
      mmap(pages.first, pages.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED)
    return file;
  close(file);
  return -1;
}

}  // namespace

void ForgetShared(const void* start) {
  Shared& shared = TheShared();
  const std::lock_guard lock(shared.mutex);
  const auto found = shared.files.find(start);
  if (found == shared.files.end()) return;
  close(found->second);
  shared.files.erase(found);
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* pointer) {
  RunEverything();
  const Pages pages = PagesOf(pointer);
  if (pages.bytes == 0) return Report(cudaErrorInvalidValue);
  Shared& shared = TheShared();
  const std::lock_guard lock(shared.mutex);
  const auto [entry, is_new] = shared.files.try_emplace(pointer, -1);
  if (is_new) entry->second = Convert(pages);
  struct stat status {};
  if (entry->second < 0 || fstat(entry->second, &status) != 0) {
    shared.files.erase(entry);
    return Report(cudaErrorMemoryAllocation);
  }
  const Handle contents{getpid(), entry->second, status.st_ino,
                        static_cast<size_t>(static_cast<std::byte*>(pointer) - pages.first), pages.bytes};
  *handle = {};
  std::memcpy(handle, &contents, sizeof(contents));
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** pointer, cudaIpcMemHandle_t handle, unsigned) {
  *pointer = nullptr;
  Handle contents;
  std::memcpy(&contents, &handle, sizeof(contents));
  if (FromEnvironment("CUDA_ON_HOST_IPC", 1) == 0) return Report(cudaErrorPeerAccessUnsupported);
  // A process has its own memory already.
  if (contents.process == getpid()) return Report(cudaErrorInvalidResourceHandle);
  const std::string path =
      "/proc/" + std::to_string(contents.process) + "/fd/" + std::to_string(contents.file);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || fstat(file, &status) != 0 || status.st_ino != contents.inode) {
    if (file >= 0) close(file);
    return Report(cudaErrorInvalidResourceHandle);
  }
  void* mapped = mmap(nullptr, contents.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (mapped == MAP_FAILED) return Report(cudaErrorMemoryAllocation);
  *pointer = static_cast<std::byte*>(mapped) + contents.offset;
  Shared& shared = TheShared();
  const std::lock_guard lock(shared.mutex);
  shared.opened[*pointer] = {mapped, contents.bytes};
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* pointer) {
  RunEverything();
  Shared& shared = TheShared();
  const std::lock_guard lock(shared.mutex);
  const auto found = shared.opened.find(pointer);
  if (found == shared.opened.end()) return Report(cudaErrorInvalidValue);
  munmap(found->second.first, found->second.second);
  shared.opened.erase(found);
  return cudaSuccess;
}
