#include "collective.h"

#include <gloo/allreduce.h>
#include <gloo/broadcast.h>
#include <gloo/context.h>
#include <gloo/math.h>
#include <gloo/transport/context.h>
#include <gloo/transport/device.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>
#include <gloo/types.h>

#include <cstring>

namespace internvl {
namespace {

constexpr uint8_t kExchangeSlotPrefix = 0x40;  // none of the prefixes that Gloo's own collectives use

}  // namespace

/// A Gloo context whose pairs are created first and connected when the peers' addresses have arrived.
class Mesh : public gloo::Context {
 public:
  Mesh(int rank, int size, const std::string& hostname, std::chrono::milliseconds timeout)
      : gloo::Context(rank, size) {
    gloo::transport::tcp::attr attributes;
    attributes.hostname = hostname;
    device_ = gloo::transport::tcp::CreateDevice(attributes);
    setTimeout(timeout);
    transportContext_ = device_->createContext(rank, size);
    transportContext_->setTimeout(timeout);
  }

  std::vector<char> Prepare(int peer) { return transportContext_->createPair(peer)->address().bytes(); }
  void Connect(int peer, const std::vector<char>& address) {
    transportContext_->getPair(peer)->connect(address);
  }
};

template <typename F>
void Collective::Attempt(const char* what, F&& f) {
  const std::string who =
      std::string(what) + " on rank " + std::to_string(rank_) + " of " + std::to_string(world_size_) + ": ";
  if (!lost_.empty()) throw CollectiveFailure(who + "the group is lost since " + lost_);
  try {
    f();
  } catch (const std::exception& error) {
    lost_ = who + error.what();
    Close();
    throw CollectiveFailure(lost_);
  }
}

Collective::Collective(int rank, int world_size, const std::string& hostname,
                       std::chrono::milliseconds timeout)
    : rank_(rank), world_size_(world_size) {
  Attempt("createCollective", [&] {
    mesh_ = std::make_shared<Mesh>(rank, world_size, hostname, timeout);
    for (int peer = 0; peer < world_size; ++peer) {
      addresses_.push_back(peer == rank ? std::vector<char>() : mesh_->Prepare(peer));
    }
  });
}

void Collective::Close() noexcept {
  if (!mesh_) return;
  try {
    mesh_->closeConnections();
  } catch (const std::exception&) {
    // A pair that is broken already has nothing left to close.
  }
}

Collective::~Collective() { Close(); }

void Collective::Connect(const std::vector<std::vector<char>>& addresses) {
  Attempt("connectCollective", [&] {
    if (connected_) throw std::runtime_error("the group is connected already");
    for (int peer = 0; peer < world_size_; ++peer) {
      if (peer != rank_) mesh_->Connect(peer, addresses[static_cast<size_t>(peer)]);
    }
    connected_ = true;
  });
}

void Collective::AllReduce(std::span<float> values) {
  Attempt("allReduce", [&] {
    if (!connected_) throw std::runtime_error("the group is not connected");
    if (values.empty()) return;
    gloo::AllreduceOptions options(mesh_);
    options.setOutput(values.data(), values.size());
    options.setReduceFunction(
        static_cast<void (*)(void*, const void*, const void*, size_t)>(&gloo::sum<float>));
    gloo::allreduce(options);
  });
}

void Collective::AllGather(const char* what, std::span<const uint8_t> mine, std::span<uint8_t> all) {
  Attempt(what, [&] {
    if (!connected_) throw std::runtime_error("the group is not connected");
    if (mine.empty()) return;
    const size_t size = mine.size();
    std::memcpy(all.data() + static_cast<size_t>(rank_) * size, mine.data(), size);
    const uint64_t slot = gloo::Slot::build(kExchangeSlotPrefix, exchanges_++);
    const auto incoming = mesh_->createUnboundBuffer(all.data(), all.size());
    const auto outgoing = mesh_->createUnboundBuffer(const_cast<uint8_t*>(mine.data()), size);
    // Every receive is posted before the first send, and each rank starts with its right neighbour, so that
    // no peer is the target of all others at once.
    for (int step = 1; step < world_size_; ++step) {
      const int peer = (rank_ - step + world_size_) % world_size_;
      incoming->recv(peer, slot, static_cast<size_t>(peer) * size, size);
    }
    for (int step = 1; step < world_size_; ++step)
      outgoing->send((rank_ + step) % world_size_, slot, 0, size);
    for (int step = 1; step < world_size_; ++step) {
      if (!outgoing->waitSend(mesh_->getTimeout())) throw std::runtime_error("sending was aborted");
      if (!incoming->waitRecv(mesh_->getTimeout())) throw std::runtime_error("receiving was aborted");
    }
  });
}

void Collective::Broadcast(std::span<uint8_t> bytes, int root) {
  Attempt("broadcast", [&] {
    if (!connected_) throw std::runtime_error("the group is not connected");
    if (bytes.empty()) return;
    gloo::BroadcastOptions options(mesh_);
    options.setOutput(bytes.data(), bytes.size());
    options.setRoot(root);
    gloo::broadcast(options);
  });
}

}  // namespace internvl
