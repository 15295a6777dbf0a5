#include "collective.h"

#include <algorithm>
#include <cstring>

#include "cpu/row_math.h"

namespace internvl {

template <typename F>
void Collective::Attempt(const char* what, F&& f) {
  const std::string who =
      std::string(what) + " on rank " + std::to_string(rank_) + " of " + std::to_string(world_size_) + ": ";
  if (!lost_.empty()) throw CollectiveFailure(who + "the group is lost since " + lost_);
  try {
    f();
  } catch (const std::exception& error) {
    lost_ = who + error.what();
    if (links_) links_->Close(true);
    throw CollectiveFailure(lost_);
  }
}

template <typename F>
void Collective::Together(const char* what, F&& f) {
  Attempt(what, [&] {
    if (!connected_) throw std::runtime_error("the group is not connected");
    f();
  });
}

Collective::Collective(int rank, int world_size, const std::string& hostname,
                       std::chrono::milliseconds timeout)
    : rank_(rank), world_size_(world_size), timeout_(timeout) {
  Attempt("createCollective", [&] {
    links_ = std::make_unique<PeerLinks>(rank, world_size, hostname, timeout);
    address_ = links_->address();
  });
}

void Collective::Lose(const char* what, const std::string& why) {
  Attempt(what, [&] { throw std::runtime_error(why); });
  __builtin_unreachable();
}

void Collective::Connect(const std::vector<std::vector<char>>& addresses) {
  Attempt("connectCollective", [&] {
    if (connected_) throw std::runtime_error("the group is connected already");
    links_->Connect(addresses);
    connected_ = true;
  });
}

void Collective::AllReduce(std::span<float> values, std::span<float> received) {
  Together("allReduce", [&] {
    const auto count = static_cast<int64_t>(values.size()), share = RingShare(count);
    const auto part = [&](int index) {
      const int64_t first = std::min((index % world_size_) * share, count);
      return values.subspan(static_cast<size_t>(first), static_cast<size_t>(std::min(share, count - first)));
    };
    const int next = (rank_ + 1) % world_size_, previous = (rank_ + world_size_ - 1) % world_size_;
    const auto pass = [&](std::span<const float> out, std::span<float> in) {
      const std::span<const uint8_t> sent{reinterpret_cast<const uint8_t*>(out.data()), out.size_bytes()};
      const std::span<uint8_t> taken{reinterpret_cast<uint8_t*>(in.data()), in.size_bytes()};
      if (next == previous) {
        const Transfer both[]{{next, sent, taken}};
        links_->Exchange(both);
      } else {
        const Transfer around[]{{next, sent, {}}, {previous, {}, taken}};
        links_->Exchange(around);
      }
    };
    // Part p is summed on its way from rank p to rank p - 1, and then travels on as it is.
    for (int step = 0; step + 1 < world_size_; ++step) {
      const auto mine = part(rank_ - step - 1 + world_size_);
      pass(part(rank_ - step + world_size_), received.first(mine.size()));
      AddRow(received.data(), mine.data(), static_cast<int64_t>(mine.size()));
    }
    for (int step = 0; step + 1 < world_size_; ++step) {
      pass(part(rank_ - step + 1 + world_size_), part(rank_ - step + world_size_));
    }
  });
}

void Collective::AllGather(const char* what, std::span<const uint8_t> mine, std::span<uint8_t> all) {
  Together(what, [&] {
    const size_t size = mine.size();
    std::memcpy(all.data() + static_cast<size_t>(rank_) * size, mine.data(), size);
    std::vector<Transfer> transfers;
    // Each rank starts with its right neighbour, so that no peer is the target of all others at once.
    for (int step = 1; step < world_size_; ++step) {
      const int peer = (rank_ + step) % world_size_;
      transfers.push_back({peer, mine, all.subspan(static_cast<size_t>(peer) * size, size)});
    }
    links_->Exchange(transfers);
  });
}

void Collective::Broadcast(std::span<uint8_t> bytes, int root) {
  Together("broadcast", [&] {
    std::vector<Transfer> transfers;
    for (int peer = 0; peer < world_size_; ++peer) {
      if (rank_ == root && peer != root) transfers.push_back({peer, bytes, {}});
      if (rank_ != root && peer == root) transfers.push_back({root, {}, bytes});
    }
    links_->Exchange(transfers);
  });
}

void Collective::Swap(std::span<const uint8_t> out, std::span<uint8_t> in, int first, int second) {
  Together("swap", [&] {
    std::vector<Transfer> transfers;
    if (rank_ == first) transfers.push_back({second, out, in});
    if (rank_ == second) transfers.push_back({first, out, in});
    links_->Exchange(transfers);
  });
}

}  // namespace internvl
