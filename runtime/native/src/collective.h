// The ranks' group of one environment: a full mesh of Gloo's TCP pairs, made without a rendezvous store
// because the ranks exchange addresses over their own channel.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace internvl {

class Mesh;

/// A peer died, closed its connection or did not answer in time.
class CollectiveFailure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// After the first failure the group is lost: its connections are closed, so that the other ranks fail at
/// once too, and every later call fails.
class Collective {
 public:
  /// world_size >= 2. Throws CollectiveFailure, as every function here does.
  Collective(int rank, int world_size, const std::string& hostname, std::chrono::milliseconds timeout);
  ~Collective();

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  /// Per peer the address at which it finds this rank (empty for itself).
  const std::vector<std::vector<char>>& addresses() const { return addresses_; }

  /// addresses[j] is what rank j has prepared for this rank.
  void Connect(const std::vector<std::vector<char>>& addresses);
  /// Sums in place around a ring: for many values.
  void AllReduce(std::span<float> values);
  /// `all` holds world_size times as many bytes as `mine`: rank 0's first. Every rank sends to every other
  /// one directly, which takes one hop instead of a ring's many. `what` is the operation for messages.
  void AllGather(const char* what, std::span<const uint8_t> mine, std::span<uint8_t> all);
  void Broadcast(std::span<uint8_t> bytes, int root);

 private:
  template <typename F>
  void Attempt(const char* what, F&& f);
  void Close() noexcept;

  const int rank_, world_size_;
  std::shared_ptr<Mesh> mesh_;
  std::vector<std::vector<char>> addresses_;
  bool connected_ = false;
  uint32_t exchanges_ = 0;  // equal on all ranks, which call the same collectives in the same order
  std::string lost_;        // why the group is lost; empty while it lives
};

}  // namespace internvl
