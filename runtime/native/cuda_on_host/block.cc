#include "block.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <new>
#include <utility>

#include "fiber_switch.h"

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};

namespace cuda_on_host {
namespace {

constexpr size_t kStackBytes = 64 << 10, kGuardBytes = 4096;

std::string Place(const Location& location) {
  const char* file = std::strrchr(location.file_name(), '/');
  return std::string(file ? file + 1 : location.file_name()) + ":" + std::to_string(location.line());
}

bool Same(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

std::string Triple(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
}

}  // namespace

Stacks::~Stacks() {
  for (std::byte* stack : stacks_) munmap(stack, kStackBytes + kGuardBytes);
}

std::byte* Stacks::Top(size_t index) {
  while (stacks_.size() <= index) {
    void* mapped = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    mprotect(mapped, kGuardBytes, PROT_NONE);
    stacks_.push_back(static_cast<std::byte*>(mapped));
  }
  return stacks_[index] + kGuardBytes + kStackBytes;
}

Block& Block::Current() {
  static thread_local Block block;
  return block;
}

void Block::Run(dim3 grid, dim3 block, uint3 index, bool backwards, const std::function<void()>& run) {
  const unsigned count = block.x * block.y * block.z;
  threads_.assign(count, Thread{});
  for (unsigned i = 0; i < count; ++i) {
    threads_[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
  warps_.assign((count + 31) / 32, Warp{});
  for (unsigned i = 0; i < count; ++i) warps_[i / 32].alive |= 1u << (i % 32);
  for (BarrierState& barrier : barriers_) barrier.waiting.clear();
  ready_.resize(count);
  ready_first_ = ready_count_ = 0;
  started_ = ended_ = 0;
  fibers_ = 0;
  backwards_ = backwards;
  run_ = &run;
  failure_.clear();
  gridDim = grid;
  blockDim = block;
  blockIdx = index;

  running_ = true;
  cuda_on_host_switch(&caller_, FreshStack(stacks_.Top(fibers_++), FiberMain));
  running_ = false;
  // What a failed block leaves behind on its stacks is forgotten: kernels own nothing.
  if (!failure_.empty()) throw KernelFailure(failure_);
}

/// Runs threads from beginning to end, one after the other on this stack, for as long as they do not wait.
void Block::FiberMain() noexcept {
  Block& block = Current();
  while (block.started_ < block.size()) {
    const unsigned nth = block.started_++;
    block.MakeCurrent(block.backwards_ ? block.size() - 1 - nth : nth);
    const unsigned thread = block.current_;
    (*block.run_)();
    block.threads_[thread].ended = true;
    block.warps_[thread / 32].alive &= ~(1u << (thread % 32));
    ++block.ended_;
  }
  void* abandoned;
  block.BackToCaller(&abandoned);
  __builtin_unreachable();
}

void Block::MakeCurrent(unsigned thread) {
  current_ = thread;
  threadIdx = threads_[thread].index;
}

/// Goes on with a thread that may; the current one has ended or waits. Returns when it is its turn again.
void Block::BackToCaller(void** stack_pointer) {
  if (ready_count_ > 0) {
    const unsigned next = ready_[ready_first_];
    ready_first_ = ready_first_ + 1 == ready_.size() ? 0 : ready_first_ + 1;
    --ready_count_;
    MakeCurrent(next);
    cuda_on_host_switch(stack_pointer, threads_[next].stack_pointer);
    return;
  }
  if (started_ < size()) {
    cuda_on_host_switch(stack_pointer, FreshStack(stacks_.Top(fibers_++), FiberMain));
    return;
  }
  if (ended_ < size()) failure_ = Stuck();
  cuda_on_host_switch(stack_pointer, caller_);
}

void Block::Wait(const char* what, const Location& location) {
  Thread& thread = threads_[current_];
  thread.waits_for = what;
  thread.where = location;
  BackToCaller(&thread.stack_pointer);
}

void Block::Release(unsigned thread) {
  threads_[thread].waits_for = nullptr;
  ready_[(ready_first_ + ready_count_++) % ready_.size()] = thread;
}

void Block::Barrier(int id, unsigned threads, const Location& location) {
  if (id < 0 || id >= static_cast<int>(barriers_.size()) || threads == 0 || threads > size())
    Fail("barrier " + std::to_string(id) + " of " + std::to_string(threads) + " threads", &location);
  BarrierState& barrier = barriers_[static_cast<size_t>(id)];
  if (barrier.waiting.empty()) {
    barrier.where = location;
    barrier.threads = threads;
  } else if (!Same(barrier.where, location) || barrier.threads != threads) {
    Fail("a barrier at which other threads of the block wait at " + Place(barrier.where), &location);
  }
  if (barrier.waiting.size() + 1 < threads) {
    barrier.waiting.push_back(current_);
    Wait("a barrier", location);
    return;
  }
  for (const unsigned thread : barrier.waiting) Release(thread);
  barrier.waiting.clear();
}

void Block::Rendezvous(unsigned mask, const void* mine, void* out, Deliver deliver,
                       const Location& location) {
  Warp& warp = warps_[current_ / 32];
  const unsigned first = current_ / 32 * 32, me = 1u << (current_ % 32);
  if ((mask & me) == 0) Fail("a warp collective whose mask leaves out its caller", &location);
  if ((mask & ~warp.alive) != 0)
    Fail("a warp collective whose mask names lanes that have ended or do not exist", &location);
  if (const unsigned others = warp.waiting & mask; others != 0) {
    const Thread& other = threads_[first + static_cast<unsigned>(__builtin_ctz(others))];
    if (other.mask != mask || other.deliver != deliver || !Same(other.where, location)) {
      Fail("a warp collective while other lanes of its mask wait in one at " + Place(other.where), &location);
    }
  }
  Thread& thread = threads_[current_];
  thread.mask = mask;
  thread.mine = mine;
  thread.out = out;
  thread.deliver = deliver;
  warp.waiting |= me;
  if ((warp.waiting & mask) != mask) {
    Wait("a warp collective", location);
    return;
  }
  // All of them stand still with their values on their stacks.
  const void* lanes[32] = {};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) lanes[lane] = threads_[first + lane].mine;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) deliver(lanes, static_cast<int>(lane), threads_[first + lane].out);
  }
  warp.waiting &= ~mask;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) && first + lane != current_) Release(first + lane);
  }
}

void Block::Fail(const std::string& message, const Location* location) {
  failure_ = "thread " + Triple(threadIdx.x, threadIdx.y, threadIdx.z) + " of block " +
             Triple(blockIdx.x, blockIdx.y, blockIdx.z) + ": " + message +
             (location ? " (" + Place(*location) + ")" : "");
  void* abandoned;
  cuda_on_host_switch(&abandoned, caller_);
  __builtin_unreachable();
}

std::string Block::Stuck() const {
  std::map<std::string, unsigned> waits;
  for (const Thread& thread : threads_) {
    if (thread.waits_for != nullptr)
      ++waits[std::string(thread.waits_for) + " (" + Place(thread.where) + ")"];
  }
  std::string text = "block " + Triple(blockIdx.x, blockIdx.y, blockIdx.z) + " is stuck: of " +
                     std::to_string(size()) + " threads " + std::to_string(ended_) + " have ended";
  for (const auto& [what, count] : waits) text += ", " + std::to_string(count) + " wait for " + what;
  return text;
}

void WarpRendezvous(unsigned mask, const void* mine, void* out, Deliver deliver, const Location& location) {
  Block::Current().Rendezvous(mask, mine, out, deliver, location);
}

void BlockBarrier(int id, unsigned threads, const Location& location) {
  Block::Current().Barrier(id, threads, location);
}

void BlockBarrier(const Location& location) {
  Block& block = Block::Current();
  block.Barrier(0, block.size(), location);
}

void Fail(const char* message, const Location& location) { Block::Current().Fail(message, &location); }

int Lane() { return Block::Current().lane(); }

}  // namespace cuda_on_host
