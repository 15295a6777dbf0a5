// Aligned, zeroed memory of the host or of a device, and the bump arena that results of operations come from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace internvl {

constexpr size_t kAlignment = 64;

/// Where memory comes from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// Zeroed, aligned to at least 64 bytes; bytes > 0. Throws std::bad_alloc.
  virtual std::byte* Take(size_t bytes) = 0;
  virtual void Give(std::byte* data, size_t bytes) = 0;
};

/// The operating system's; pages are touched only when used.
class HostMemory final : public MemorySource {
 public:
  std::byte* Take(size_t bytes) override;
  void Give(std::byte* data, size_t bytes) override;
};

/// A piece of a source's memory, which must outlive it. Movable, frees itself.
class Memory {
 public:
  Memory() = default;
  /// Throws std::bad_alloc.
  Memory(MemorySource& source, size_t bytes);
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  MemorySource* source_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

/// A stack of bytes in chunks that are kept for reuse: the same calls after the same position give the same
/// addresses.
class Arena {
 public:
  struct Position {
    size_t chunk = 0;
    size_t offset = 0;
    bool operator==(const Position&) const = default;
  };

  explicit Arena(MemorySource& source) : source_(&source) {}

  /// Uninitialised memory, aligned to 64 bytes. Throws std::bad_alloc.
  void* Allocate(size_t bytes);
  Position position() const { return top_; }
  void Rewind(Position position) { top_ = position; }
  size_t used() const;
  /// The most that was ever used.
  size_t peak() const { return peak_; }
  size_t reserved() const;

 private:
  MemorySource* source_;
  std::vector<Memory> chunks_;
  Position top_;
  size_t peak_ = 0;
};

/// Working memory of one operation: given back when the operation ends.
class Scratch {
 public:
  explicit Scratch(Arena& arena) : arena_(arena), start_(arena.position()) {}
  ~Scratch() { arena_.Rewind(start_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <typename T>
  T* Get(int64_t count) {
    return static_cast<T*>(arena_.Allocate(static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  Arena& arena_;
  Arena::Position start_;
};

}  // namespace internvl
