// All ranks' columns side by side, through the ranks' memory.
#include "peer_exchange.h"
#include "peer_meeting.h"

namespace internvl::cuda {
namespace {

constexpr int kThreads = 512;

/// Elements [first, first + count) of x, which fill a slot at most, as Words of which a row has whole ones.
/// Within this kernel everything is counted in Words.
template <typename Word>
__global__ void __launch_bounds__(kThreads, 1)
    GatherColumns(const __grid_constant__ PeerViews views, const Word* x, Word* out, int64_t width,
                  int64_t first, int count) {
  const Meeting meeting(views);
  if (!meeting.begun()) return;
  const uint64_t exchange = meeting.exchange();
  const int begin = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int step = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = begin; i < count; i += step) {
    const Word mine = x[first + i];
    for (int peer = 0; peer < views.world; ++peer) {
      if (peer != views.rank) reinterpret_cast<Word*>(views.sent(peer, exchange, views.rank))[i] = mine;
    }
  }
  if (!meeting.AllCame(0)) return;
  for (int i = begin; i < count; i += step) {
    const int64_t row = (first + i) / width, column = (first + i) % width;
    Word* const target = out + row * views.world * width + column;
    for (int from = 0; from < views.world; ++from) {
      target[from * width] = from == views.rank
                                 ? x[first + i]
                                 : reinterpret_cast<const Word*>(views.sent(views.rank, exchange, from))[i];
    }
  }
}

template <typename Word>
void Gather(const PeerViews& views, cudaStream_t stream, const Tensor& x, const Tensor& out) {
  constexpr int64_t kElements = sizeof(Word) / sizeof(float);
  constexpr auto kPiece = static_cast<int64_t>(kSlotBytes / sizeof(Word));
  const int64_t width = x.cols() / kElements, count = x.elements() / kElements;
  for (int64_t first = 0; first < count; first += kPiece) {
    const int now = static_cast<int>(std::min(kPiece, count - first));
    Launch(GatherColumns<Word>, PeerGrid(now, kThreads), kThreads, 0, stream, views, x.as<Word>(),
           out.as<Word>(), width, first, now);
  }
}

}  // namespace

void PeerExchange::AllGatherColumns(const Tensor& x, const Tensor& out) {
  if (x.cols() % 4 == 0) {
    Gather<float4>(memory_.views(), stream_, x, out);
  } else {
    Gather<float>(memory_.views(), stream_, x, out);
  }
}

}  // namespace internvl::cuda
