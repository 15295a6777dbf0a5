// One block at a time on the calling OS thread: its threads are fibers that run until they wait for others.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel_language.h"
#include "warp.h"

namespace cuda_on_host {

/// A kernel did what a device does not survive.
struct KernelFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Stacks of fibers, each above a page that must not be touched; they are kept for later blocks.
class Stacks {
 public:
  Stacks() = default;
  Stacks(const Stacks&) = delete;
  ~Stacks();
  /// One past the highest byte of stack `index`, where a fiber starts.
  std::byte* Top(size_t index);

 private:
  std::vector<std::byte*> stacks_;
};

class Block {
 public:
  /// The calling OS thread's.
  static Block& Current();

  /// Calls `run` in every thread of block `index`. `backwards`: later threads first, so that code that relies
  /// on an order shows itself. Throws KernelFailure.
  void Run(dim3 grid, dim3 block, uint3 index, bool backwards, const std::function<void()>& run);
  bool running() const { return running_; }

  void Barrier(int id, unsigned threads, const Location& location);
  void Rendezvous(unsigned mask, const void* mine, void* out, Deliver deliver, const Location& location);
  [[noreturn]] void Fail(const std::string& message, const Location* location);
  int lane() const { return static_cast<int>(current_ % 32); }
  unsigned size() const { return static_cast<unsigned>(threads_.size()); }

 private:
  struct Thread {
    void* stack_pointer;  // while it waits
    uint3 index;
    bool ended;
    const char* waits_for;  // null: for nothing
    Location where;
    // of a warp collective
    unsigned mask;
    const void* mine;
    void* out;
    Deliver deliver;
  };
  struct BarrierState {
    Location where;
    unsigned threads = 0;  // how many it waits for
    std::vector<unsigned> waiting;
  };
  struct Warp {
    unsigned alive = 0, waiting = 0;  // sets of lanes
  };

  static void FiberMain() noexcept;
  void MakeCurrent(unsigned thread);
  void Wait(const char* what, const Location& location);
  void Release(unsigned thread);
  void BackToCaller(void** stack_pointer);
  std::string Stuck() const;

  Stacks stacks_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<BarrierState> barriers_ = std::vector<BarrierState>(16);
  std::vector<unsigned> ready_;  // a ring of those that may go on
  size_t ready_first_ = 0, ready_count_ = 0;
  unsigned current_ = 0, started_ = 0, ended_ = 0;
  size_t fibers_ = 0;
  bool backwards_ = false, running_ = false;
  const std::function<void()>* run_ = nullptr;
  void* caller_ = nullptr;  // stack pointer of Run
  std::string failure_;
};

}  // namespace cuda_on_host
