#include "group_watch.h"

#include <algorithm>

namespace internvl::cuda {
namespace {

constexpr std::chrono::milliseconds kLookEvery{20};

/// A rank that has left may have done its part of what this one still waits for: so long it may take to end.
constexpr std::chrono::milliseconds kGrace{500};

}  // namespace

GroupWatch::GroupWatch(const Collective& links, std::function<void()> stop, Lost lost)
    : links_(links), stop_(std::move(stop)), lost_(std::move(lost)), thread_([this] { Run(); }) {}

GroupWatch::~GroupWatch() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::string GroupWatch::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

std::string GroupWatch::Look(Clock::time_point now) {
  if (!gone_) {
    gone_ = links_.GonePeer();
    gone_since_ = now;
  }
  const Clock::duration since = waits_since_;
  if (since == Clock::duration::zero()) return "";
  const Clock::time_point waits_since{since};
  if (gone_ && now - std::max(gone_since_, waits_since) > kGrace)
    return "rank " + std::to_string(*gone_) + " has closed its connection";
  return lost_ ? lost_(now) : "";
}

void GroupWatch::Run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kLookEvery, [&] { return ending_; })) {
    std::string found = Look(Clock::now());
    if (found.empty()) continue;
    reason_ = std::move(found);
    lock.unlock();
    stop_();
    return;
  }
}

}  // namespace internvl::cuda
