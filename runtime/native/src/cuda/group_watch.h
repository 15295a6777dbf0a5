// Whoever waits for the device waits for the other ranks too, and cannot look at the links meanwhile. A
// thread looks for it, and ends the wait when there is nobody to wait for.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "../collective.h"

namespace internvl::cuda {

class GroupWatch {
 public:
  using Clock = std::chrono::steady_clock;

  /// Why there is nobody to wait for any more; empty: there may be.
  using Lost = std::function<std::string(Clock::time_point now)>;

  /// `stop` is called once, by the watch's own thread, and makes the device give up what waits for other
  /// ranks. `lost` is asked by it while a thread waits, where kernels do not know when to give up; else
  /// empty.
  GroupWatch(const Collective& links, std::function<void()> stop, Lost lost);
  /// No more calls of `stop`.
  ~GroupWatch();

  /// While it lives, its thread waits for the device.
  class Wait {
   public:
    explicit Wait(GroupWatch& watch) : watch_(watch) {
      watch_.waits_since_ = Clock::now().time_since_epoch();
    }
    ~Wait() { watch_.waits_since_ = Clock::duration::zero(); }
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    GroupWatch& watch_;
  };

  /// Why the watch ended a wait; empty: it did not.
  std::string reason() const;

 private:
  void Run();
  std::string Look(Clock::time_point now);

  const Collective& links_;
  const std::function<void()> stop_;
  const Lost lost_;
  std::atomic<Clock::duration> waits_since_{Clock::duration::zero()};  // zero: nobody waits
  std::optional<int> gone_;
  Clock::time_point gone_since_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  std::string reason_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace internvl::cuda
