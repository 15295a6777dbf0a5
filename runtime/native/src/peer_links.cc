#include "peer_links.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace internvl {
namespace {

using Clock = std::chrono::steady_clock;

/// For so long a rank looks again and again before it sleeps: ranks of one model reach an exchange almost
/// together, and waking a thread takes longer than most of them wait.
constexpr std::chrono::microseconds kLookOut{60};

/// Connections that have not shown the secret yet, at most.
constexpr size_t kMostStrangers = 64;

[[noreturn]] void Fail(const std::string& what, int code) {
  throw std::runtime_error(what + ": " + std::strerror(code));
}

std::string Named(int peer) { return "rank " + std::to_string(peer); }

/// Milliseconds to the deadline for poll, rounded up; 0 when it has passed.
int Left(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

/// Messages are small and answers are waited for.
void SendAtOnce(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/// The same for secrets that agree and that do not.
bool Equal(const char* a, const char* b, size_t n) {
  unsigned char difference = 0;
  for (size_t i = 0; i < n; ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

/// What a rank says on a connection that it has opened.
struct Greeting {
  char secret[16];
  uint32_t rank;
};

/// What precedes the bytes of an exchange, so that ranks that are out of step notice.
struct Header {
  uint32_t exchange;
  uint32_t bytes;
};

/// One transfer under way: positions count the header in.
struct Progress {
  const Transfer* transfer;
  int socket;
  Header out, in;
  size_t sent = 0, received = 0;

  size_t to_send() const { return transfer->out.empty() ? 0 : sizeof(Header) + transfer->out.size(); }
  size_t to_receive() const { return transfer->in.empty() ? 0 : sizeof(Header) + transfer->in.size(); }
  bool done() const { return sent == to_send() && received == to_receive(); }
};

/// The rest of header and bytes from `done` on.
int Rest(iovec (&rest)[2], void* header, void* bytes, size_t count, size_t done) {
  const size_t body = done < sizeof(Header) ? 0 : done - sizeof(Header);
  iovec* next = rest;
  if (done < sizeof(Header)) *next++ = {static_cast<char*>(header) + done, sizeof(Header) - done};
  *next++ = {static_cast<char*>(bytes) + body, count - body};
  return static_cast<int>(next - rest);
}

/// Moves what can be moved without waiting. True when something was.
bool Send(Progress& progress) {
  const Transfer& transfer = *progress.transfer;
  if (progress.sent == progress.to_send()) return false;
  iovec rest[2];
  msghdr message{};
  message.msg_iov = rest;
  message.msg_iovlen = Rest(rest, &progress.out, const_cast<uint8_t*>(transfer.out.data()),
                            transfer.out.size(), progress.sent);
  const ssize_t count = sendmsg(progress.socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    Fail("sending to " + Named(transfer.peer) + " failed", errno);
  }
  progress.sent += static_cast<size_t>(count);
  return count > 0;
}

bool Receive(Progress& progress) {
  const Transfer& transfer = *progress.transfer;
  if (progress.received == progress.to_receive()) return false;
  iovec rest[2];
  msghdr message{};
  message.msg_iov = rest;
  message.msg_iovlen = Rest(rest, &progress.in, transfer.in.data(), transfer.in.size(), progress.received);
  const ssize_t count = recvmsg(progress.socket, &message, MSG_DONTWAIT);
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    Fail("receiving from " + Named(transfer.peer) + " failed", errno);
  }
  if (count == 0) throw std::runtime_error(Named(transfer.peer) + " has closed its connection");
  const bool header_came = progress.received < sizeof(Header);
  progress.received += static_cast<size_t>(count);
  if (header_came && progress.received >= sizeof(Header) &&
      (progress.in.exchange != progress.out.exchange || progress.in.bytes != transfer.in.size())) {
    throw std::runtime_error(
        Named(transfer.peer) + " is at exchange " + std::to_string(progress.in.exchange) + " with " +
        std::to_string(progress.in.bytes) + " bytes, this rank at exchange " +
        std::to_string(progress.out.exchange) + " with " + std::to_string(transfer.in.size()));
  }
  return true;
}

}  // namespace

PeerLinks::PeerLinks(int rank, int world_size, const std::string& hostname, std::chrono::milliseconds timeout)
    : rank_(rank), world_size_(world_size), timeout_(timeout), sockets_(static_cast<size_t>(world_size), -1) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(hostname.c_str(), nullptr, &hints, &found);
  if (code != 0) {
    throw std::runtime_error("cannot resolve '" + hostname + "': " + gai_strerror(code));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, &freeaddrinfo);
  const std::string where = "cannot listen on '" + hostname + "'";
  listener_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener_ < 0) Fail(where, errno);
  if (bind(listener_, found->ai_addr, found->ai_addrlen) != 0 || listen(listener_, world_size + 8) != 0) {
    const int error = errno;
    Close(false);
    Fail(where, error);
  }
  if (getrandom(secret_.data(), secret_.size(), 0) != static_cast<ssize_t>(secret_.size())) {
    const int error = errno;
    Close(false);
    Fail("no randomness for the group's secret", error);
  }
}

PeerLinks::~PeerLinks() { Close(false); }

void PeerLinks::Close(bool abort) noexcept {
  if (listener_ >= 0) close(listener_);
  listener_ = -1;
  const std::lock_guard lock(changing_);
  for (int& socket : sockets_) {
    if (socket < 0) continue;
    const linger at_once{1, 0};
    if (abort) setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(socket);
    socket = -1;
  }
}

std::vector<char> PeerLinks::address() const {
  sockaddr_in6 here{};  // large enough for both families
  socklen_t length = sizeof(here);
  getsockname(listener_, reinterpret_cast<sockaddr*>(&here), &length);
  std::vector<char> bytes(kSecretBytes + sizeof(here));
  std::copy(secret_.begin(), secret_.end(), bytes.begin());
  std::memcpy(bytes.data() + kSecretBytes, &here, sizeof(here));
  return bytes;
}

// Each pair has one connection, opened by the higher rank.
void PeerLinks::Connect(std::span<const std::vector<char>> addresses) {
  const auto deadline = Clock::now() + timeout_;
  for (int peer = 0; peer < rank_; ++peer) ConnectTo(peer, addresses[static_cast<size_t>(peer)], deadline);
  AcceptHigher(deadline);
  close(listener_);
  listener_ = -1;
}

void PeerLinks::ConnectTo(int peer, const std::vector<char>& address, Clock::time_point deadline) {
  const std::string what = "connecting to " + Named(peer) + " failed";
  sockaddr_in6 there{};
  std::memcpy(&there, address.data() + kSecretBytes, sizeof(there));
  const auto* to = reinterpret_cast<const sockaddr*>(&there);
  if (to->sa_family != AF_INET && to->sa_family != AF_INET6) {
    throw std::runtime_error(what + ": its address is of no family that is known");
  }
  const int made = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) Fail(what, errno);
  Keep(peer, made);
  const socklen_t length = to->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (connect(made, to, length) != 0 && errno != EINPROGRESS) Fail(what, errno);
  pollfd ready{made, POLLOUT, 0};
  if (poll(&ready, 1, Left(deadline)) <= 0) Fail(what, ETIMEDOUT);
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(made, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) Fail(what, error);
  SendAtOnce(made);
  Greeting greeting{};
  std::memcpy(greeting.secret, address.data(), kSecretBytes);
  greeting.rank = static_cast<uint32_t>(rank_);
  // The first bytes on a connection always find room.
  if (send(made, &greeting, sizeof(greeting), MSG_NOSIGNAL) != sizeof(greeting)) Fail(what, errno);
}

void PeerLinks::Keep(int peer, int socket) {
  const std::lock_guard lock(changing_);
  sockets_[static_cast<size_t>(peer)] = socket;
}

std::optional<int> PeerLinks::GonePeer() const {
  const std::lock_guard lock(changing_);
  std::vector<pollfd> asked;
  // Negative numbers are passed over.
  for (const int socket : sockets_) asked.push_back({socket, POLLRDHUP, 0});
  if (poll(asked.data(), asked.size(), 0) <= 0) return std::nullopt;
  const auto gone = std::find_if(asked.begin(), asked.end(), [](const pollfd& p) { return p.revents != 0; });
  return static_cast<int>(gone - asked.begin());
}

void PeerLinks::AcceptHigher(Clock::time_point deadline) {
  struct Stranger {
    int socket;
    Greeting greeting;
    size_t received;
  };
  std::vector<Stranger> strangers;
  const auto missing = [&] {
    return std::find(sockets_.begin() + rank_ + 1, sockets_.end(), -1) - sockets_.begin();
  };
  /// False when it is not, or not yet, a peer.
  const auto greeted = [&](Stranger& stranger) {
    const ssize_t count =
        recv(stranger.socket, reinterpret_cast<char*>(&stranger.greeting) + stranger.received,
             sizeof(Greeting) - stranger.received, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    stranger.received += static_cast<size_t>(std::max<ssize_t>(count, 0));
    if (count > 0 && stranger.received < sizeof(Greeting)) return false;
    const uint32_t rank = stranger.greeting.rank;
    const bool known = count > 0 && Equal(stranger.greeting.secret, secret_.data(), kSecretBytes) &&
                       rank > static_cast<uint32_t>(rank_) && rank < static_cast<uint32_t>(world_size_) &&
                       sockets_[rank] < 0;
    if (known) {
      SendAtOnce(stranger.socket);
      Keep(static_cast<int>(rank), stranger.socket);
    } else {
      close(stranger.socket);  // whoever it is, it is none of the group
    }
    return true;
  };
  while (missing() < world_size_) {
    std::vector<pollfd> ready{{listener_, POLLIN, 0}};
    for (const Stranger& stranger : strangers) ready.push_back({stranger.socket, POLLIN, 0});
    const int count = poll(ready.data(), ready.size(), Left(deadline));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      for (const Stranger& stranger : strangers) close(stranger.socket);
      throw std::runtime_error(Named(static_cast<int>(missing())) + " has not connected within " +
                               std::to_string(timeout_.count()) + " ms");
    }
    std::erase_if(strangers, greeted);
    const int came = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (came < 0) continue;
    if (strangers.size() < kMostStrangers) {
      strangers.push_back({came, {}, 0});
    } else {
      close(came);
    }
  }
  for (const Stranger& stranger : strangers) close(stranger.socket);
}

void PeerLinks::Exchange(std::span<const Transfer> transfers) {
  ++exchanges_;
  std::vector<Progress> all;
  all.reserve(transfers.size());
  for (const Transfer& transfer : transfers) {
    all.push_back({.transfer = &transfer,
                   .socket = sockets_[static_cast<size_t>(transfer.peer)],
                   .out = {exchanges_, static_cast<uint32_t>(transfer.out.size())},
                   .in = {}});
  }
  auto moved_at = Clock::now();
  for (;;) {
    bool moved = false, done = true;
    for (Progress& progress : all) {
      moved |= Send(progress);
      moved |= Receive(progress);
      done &= progress.done();
    }
    if (done) return;
    const auto now = Clock::now();
    if (moved) {
      moved_at = now;
    } else if (now - moved_at > kLookOut) {
      std::vector<pollfd> waited;
      for (const Progress& progress : all) {
        if (progress.done()) continue;
        const int in = progress.received < progress.to_receive() ? POLLIN : 0;
        const int out = progress.sent < progress.to_send() ? POLLOUT : 0;
        waited.push_back({progress.socket, static_cast<short>(in | out), 0});
      }
      const int count = poll(waited.data(), waited.size(), Left(moved_at + timeout_));
      if (count == 0 && Clock::now() >= moved_at + timeout_) {
        const auto slow = std::find_if(all.begin(), all.end(), [](const Progress& p) { return !p.done(); });
        throw std::runtime_error("no answer from " + Named(slow->transfer->peer) + " within " +
                                 std::to_string(timeout_.count()) + " ms");
      }
    }
  }
}

}  // namespace internvl
