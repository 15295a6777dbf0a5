// Sums over the ranks through their memory. Every rank adds in the order of the ranks, in float32, so that
// all have the same bits, and the same ones whichever kernel it was.
#include "peer_exchange.h"
#include "peer_meeting.h"
#include "wide_words.h"

namespace internvl::cuda {
namespace {

constexpr int kThreads = 512;

__device__ int FirstWord() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }
__device__ int WordStep() { return static_cast<int>(gridDim.x * blockDim.x); }

/// Calls f(peer) for every other rank. Known to end at kMostRanks, so that what f loads or stores is under
/// way for all of them at once.
template <typename F>
__device__ void ForOthers(const PeerViews& views, F&& f) {
#pragma unroll
  for (int peer = 0; peer < kMostRanks; ++peer) {
    if (peer < views.world && peer != views.rank) f(peer);
  }
}

/// Word `word` of what all ranks sent, and of what this rank has itself, as T holds the sum.
template <typename T>
__device__ uint4 Sum(const PeerViews& views, uint64_t exchange, int word, const uint4& mine) {
  uint4 parts[kMostRanks];
#pragma unroll
  for (int from = 0; from < kMostRanks; ++from) {
    parts[from] = from == views.rank   ? mine
                  : from < views.world ? views.sent(views.rank, exchange, from)[word]
                                       : make_uint4(0, 0, 0, 0);
  }
  float sum[kPerWord<T>], term[kPerWord<T>];
  Widen(parts[0], sum);
#pragma unroll
  for (int from = 1; from < kMostRanks; ++from) {
    if (from >= views.world) continue;
    Widen(parts[from], term);
#pragma unroll
    for (int i = 0; i < kPerWord<T>; ++i) sum[i] += term[i];
  }
  return Narrow(sum);
}

/// Everybody sends everything to everybody: one meeting. `count` elements fill a slot at most.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    ReduceAtOnce(const __grid_constant__ PeerViews views, T* x, int count) {
  const Meeting meeting(views);
  if (!meeting.begun()) return;
  const uint64_t exchange = meeting.exchange();
  const int words = (count + kPerWord<T> - 1) / kPerWord<T>;
  for (int word = FirstWord(); word < words; word += WordStep()) {
    const uint4 mine = LoadWord(x, word, count);
    ForOthers(views, [&](int peer) { views.sent(peer, exchange, views.rank)[word] = mine; });
  }
  if (!meeting.AllCame(0)) return;
  for (int word = FirstWord(); word < words; word += WordStep()) {
    StoreWord(x, word, count, Sum<T>(views, exchange, word, LoadWord(x, word, count)));
  }
}

/// Rank r gets everybody's part r, sums it and sends the sum to everybody: two meetings, but 2 / world of the
/// bytes. A part fills a slot at most.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    ReduceInParts(const __grid_constant__ PeerViews views, T* x, int count) {
  const Meeting meeting(views);
  if (!meeting.begun()) return;
  const uint64_t exchange = meeting.exchange();
  const int words = (count + kPerWord<T> - 1) / kPerWord<T>;
  const int part = (words + views.world - 1) / views.world;
  for (int word = FirstWord(); word < part; word += WordStep()) {
    ForOthers(views, [&](int peer) {
      const int at = peer * part + word;
      if (at < words) views.sent(peer, exchange, views.rank)[word] = LoadWord(x, at, count);
    });
  }
  if (!meeting.AllCame(0)) return;
  for (int word = FirstWord(); word < part; word += WordStep()) {
    const int at = views.rank * part + word;
    if (at >= words) continue;
    const uint4 sum = Sum<T>(views, exchange, word, LoadWord(x, at, count));
    StoreWord(x, at, count, sum);
    ForOthers(views, [&](int peer) { views.worked_out(peer, exchange, views.rank)[word] = sum; });
  }
  if (!meeting.AllCame(1)) return;
  for (int word = FirstWord(); word < part; word += WordStep()) {
    ForOthers(views, [&](int peer) {
      const int at = peer * part + word;
      if (at < words) StoreWord(x, at, count, views.worked_out(views.rank, exchange, peer)[word]);
    });
  }
}

template <typename T>
int Words(int64_t count) {
  return static_cast<int>((count + kPerWord<T> - 1) / kPerWord<T>);
}

template <typename T>
void Reduce(const PeerViews& views, cudaStream_t stream, T* x, int64_t count) {
  const auto world = static_cast<size_t>(views.world);
  // What is sent grows with the ranks, and a second meeting costs the same for any.
  const size_t at_once = 2 * kSlotBytes / world;
  if (static_cast<size_t>(count) * sizeof(T) <= at_once) {
    return Launch(ReduceAtOnce<T>, PeerGrid(Words<T>(count), kThreads), kThreads, 0, stream, views, x,
                  static_cast<int>(count));
  }
  const auto piece = static_cast<int64_t>(world * kSlotBytes / sizeof(T));
  for (int64_t first = 0; first < count; first += piece) {
    const int now = static_cast<int>(std::min(piece, count - first));
    const int part = (Words<T>(now) + views.world - 1) / views.world;
    Launch(ReduceInParts<T>, PeerGrid(part, kThreads), kThreads, 0, stream, views, x + first, now);
  }
}

}  // namespace

void PeerExchange::AllReduce(const Tensor& x) {
  WithElement(x.dtype, [&]<typename T>(T*) { Reduce(memory_.views(), stream_, x.as<T>(), x.elements()); });
}

}  // namespace internvl::cuda
