// The ranks' group of one environment. The ranks exchange addresses over their own channel, so that no
// rendezvous store is needed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "peer_links.h"

namespace internvl {

/// A peer died, closed its connection or did not answer in time.
class CollectiveFailure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// After the first failure the group is lost: its connections are closed, so that the other ranks fail at
/// once too, and every later call fails. Every rank calls the same collectives in the same order.
class Collective {
 public:
  /// world_size >= 2. Throws CollectiveFailure, as every function here does.
  Collective(int rank, int world_size, const std::string& hostname, std::chrono::milliseconds timeout);

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  /// Where every peer finds this rank.
  const std::vector<char>& address() const { return address_; }

  /// addresses[j] is rank j's address.
  void Connect(const std::vector<std::vector<char>>& addresses);
  /// Sums in place around a ring, for many values: each rank sends and receives 2 (world_size - 1) /
  /// world_size times the values. Every rank gets the same bits. `received` takes RingShare(values) values.
  void AllReduce(std::span<float> values, std::span<float> received);
  int64_t RingShare(int64_t values) const { return (values + world_size_ - 1) / world_size_; }
  /// `all` holds world_size times as many bytes as `mine`: rank 0's first. Every rank sends to every other
  /// one directly, which takes one hop instead of a ring's many. `what` is the operation for messages.
  void AllGather(const char* what, std::span<const uint8_t> mine, std::span<uint8_t> all);
  void Broadcast(std::span<uint8_t> bytes, int root);
  /// Two ranks send each other `out`, both ways at once; the rest of the group only counts the exchange.
  void Swap(std::span<const uint8_t> out, std::span<uint8_t> in, int first, int second);

  /// A rank whose connection has ended. May be called by any thread, at any time.
  std::optional<int> GonePeer() const { return links_->GonePeer(); }
  /// The group failed outside of the links: they are closed, so that the other ranks learn of it.
  [[noreturn]] void Lose(const char* what, const std::string& why);

 private:
  template <typename F>
  void Attempt(const char* what, F&& f);
  template <typename F>
  void Together(const char* what, F&& f);

  const int rank_, world_size_;
  const std::chrono::milliseconds timeout_;
  std::unique_ptr<PeerLinks> links_;
  std::vector<char> address_;
  bool connected_ = false;
  std::string lost_;  // why the group is lost; empty while it lives
};

}  // namespace internvl
