// TCP connections of one rank to all others, used by the one thread that waits for them: what a rank receives
// it reads itself, without another thread that would have to be woken first.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace internvl {

/// What goes to a peer and what comes from it in one exchange; either may be empty. Both sides agree on the
/// lengths.
struct Transfer {
  int peer;
  std::span<const uint8_t> out;
  std::span<uint8_t> in;
};

/// Every function throws std::runtime_error naming the peer.
class PeerLinks {
 public:
  /// Listens on a free port of `hostname`.
  PeerLinks(int rank, int world_size, const std::string& hostname, std::chrono::milliseconds timeout);
  ~PeerLinks();
  PeerLinks(const PeerLinks&) = delete;
  PeerLinks& operator=(const PeerLinks&) = delete;

  /// Where the others find this rank, and the secret that they must show. The same size on every rank.
  std::vector<char> address() const;

  /// addresses[j]: what address() gave on rank j; this rank's own is ignored.
  void Connect(std::span<const std::vector<char>> addresses);

  /// Sends and receives until everything is through. Every rank makes the same exchanges in the same order;
  /// one that meets another exchange, or no progress within the timeout, fails.
  void Exchange(std::span<const Transfer> transfers);

  /// A peer that has closed its connection or whose process has ended, whatever it sent before. The one
  /// function that another thread may call, at any time: it reads nothing.
  std::optional<int> GonePeer() const;

  /// Ends the connections; with `abort` so that peers that still write to them fail.
  void Close(bool abort) noexcept;

 private:
  static constexpr size_t kSecretBytes = 16;
  using Secret = std::array<char, kSecretBytes>;
  using Clock = std::chrono::steady_clock;

  void ConnectTo(int peer, const std::vector<char>& address, Clock::time_point deadline);
  void AcceptHigher(Clock::time_point deadline);
  void Keep(int peer, int socket);

  const int rank_, world_size_;
  const std::chrono::milliseconds timeout_;
  Secret secret_{};
  int listener_ = -1;
  std::vector<int> sockets_;  // by peer; -1: none
  // Held where sockets_ changes and where another thread reads it, so that it never asks about a number that
  // has become another file's.
  mutable std::mutex changing_;
  uint32_t exchanges_ = 0;
};

}  // namespace internvl
