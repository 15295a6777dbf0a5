#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace internvl {
namespace {

constexpr size_t kMapFrom = size_t{1}
                            << 20;  // from here on pages come from mmap: zeroed, and untouched until used
constexpr size_t kChunkBytes = size_t{32} << 20;

size_t RoundUp(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlignment - 1) & ~(kAlignment - 1); }

/// Pages are reserved without being backed, so that a size beyond the machine would only fail, fatally, when
/// touched.
size_t MachineBytes() {
  static const size_t bytes =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  return bytes;
}

}  // namespace

std::byte* HostMemory::Take(size_t bytes) {
  if (bytes > MachineBytes()) throw std::bad_alloc();
  if (bytes >= kMapFrom) {
    void* mapped =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    // Weights are read in long runs: large pages, where the machine grants them, save most of the address
    // translation.
    madvise(mapped, bytes, MADV_HUGEPAGE);
    return static_cast<std::byte*>(mapped);
  }
  void* data = std::aligned_alloc(kAlignment, RoundUp(bytes));
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, bytes);
  return static_cast<std::byte*>(data);
}

void HostMemory::Give(std::byte* data, size_t bytes) {
  if (bytes >= kMapFrom) {
    munmap(data, bytes);
  } else {
    std::free(data);
  }
}

Memory::Memory(MemorySource& source, size_t bytes) : source_(&source), bytes_(RoundUp(bytes)) {
  if (bytes_ < bytes) throw std::bad_alloc();
  data_ = source.Take(bytes_);
}

Memory::Memory(Memory&& other) noexcept
    : source_(std::exchange(other.source_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(source_, other.source_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Memory::~Memory() {
  if (data_ != nullptr) source_->Give(data_, bytes_);
}

void* Arena::Allocate(size_t bytes) {
  const size_t size = RoundUp(bytes);
  if (size < bytes) throw std::bad_alloc();
  // First fit from the current chunk on. New chunks are only ever appended, so that a repeated sequence of
  // calls lands where it did.
  Position at = top_;
  while (at.chunk < chunks_.size() && chunks_[at.chunk].bytes() - at.offset < size) at = {at.chunk + 1, 0};
  if (at.chunk == chunks_.size()) chunks_.emplace_back(*source_, std::max(size, kChunkBytes));
  top_ = {at.chunk, at.offset + size};
  peak_ = std::max(peak_, used());
  return chunks_[at.chunk].data() + at.offset;
}

size_t Arena::used() const {
  size_t total = top_.offset;
  for (size_t c = 0; c < top_.chunk; ++c) total += chunks_[c].bytes();
  return total;
}

size_t Arena::reserved() const {
  size_t total = 0;
  for (const Memory& chunk : chunks_) total += chunk.bytes();
  return total;
}

}  // namespace internvl
