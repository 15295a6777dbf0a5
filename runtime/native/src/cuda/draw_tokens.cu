// Draws of tokens without putting them in order. A row is spread over blocks that weigh its tokens into a
// histogram; the histogram tells how far down the order a draw can come, and blocks gather the tokens up to
// there, mostly some hundreds. One block then finds in those what top-k, top-p and the share ask for: each is
// the place at which sums taken in rank order (the most likely first, equals by id) reach a number, and each
// is closed in on by 9 bits of the rank at a time. Without a cut the order is that of the ids, and the sums
// of the parts lead to the part in which the token lies.
//
// All sums are of whole numbers (token_weight.h): blocks may add in any order. Each logit is read twice (by
// id once and a part of them), after the pass that found the most likely.
#include "block_scan.h"
#include "draw_tokens.h"
#include "launch.h"

namespace internvl::cuda {
namespace {

constexpr int kThreads = kDrawBuckets;  // a thread for each bucket
constexpr int kLogitsOfThread = 8;
constexpr int64_t kPart = int64_t{kThreads} * kLogitsOfThread;
/// Gathered tokens of a row that are written down; where there are more, the row itself is walked.
constexpr unsigned kMostListed = 8192;

struct Rows {
  const float* logits;
  int64_t stride, columns;

  __device__ const float* operator[](unsigned row) const { return logits + int64_t{row} * stride; }
};

/// Calls f(column, logit) for the block's part of the row; with -infinity beyond the row's end, so that whole
/// warps call it together.
template <typename F>
__device__ inline void ForEachOfPart(const Rows& rows, F&& f) {
  const float* row = rows[blockIdx.x];
  const int64_t first = blockIdx.y * kPart + threadIdx.x;
  float logits[kLogitsOfThread];
#pragma unroll
  for (int i = 0; i < kLogitsOfThread; ++i) {
    const int64_t column = first + i * kThreads;
    logits[i] = column < rows.columns ? row[column] : -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < kLogitsOfThread; ++i) f(static_cast<unsigned>(first + i * kThreads), logits[i]);
}

__device__ inline int BucketOf(float exponent) {
  return static_cast<int>(fminf(-exponent * (kDrawBuckets / (kMassBits + 1.0f)), kDrawBuckets - 1));
}

/// A histogram in shared memory. Masses are in halves: devices add 32-bit words there without a loop.
struct Buckets {
  unsigned low[kDrawBuckets], high[kDrawBuckets], counts[kDrawBuckets];
  unsigned ids[kDrawBuckets];  // of the bucket's token where it has one alone

  /// The calling thread's bucket.
  __device__ void Clear() { low[threadIdx.x] = high[threadIdx.x] = counts[threadIdx.x] = 0; }
  __device__ void Add(int bucket, Mass mass, unsigned id) {
    const auto half = static_cast<unsigned>(mass);
    const unsigned before = atomicAdd(&low[bucket], half);
    const unsigned carried = static_cast<unsigned>(mass >> 32) + (before + half < before ? 1 : 0);
    if (carried > 0) atomicAdd(&high[bucket], carried);
    atomicAdd(&counts[bucket], 1u);
    ids[bucket] = id;
  }
  __device__ Mass mass(int bucket) const { return Mass{high[bucket]} << 32 | low[bucket]; }
};

/// blockIdx: row, part.
__global__ void __launch_bounds__(kThreads)
    WeighKernel(Rows rows, const RowDraw* draws, DrawHistogram* histograms, Mass* part_masses) {
  const RowDraw& draw = draws[blockIdx.x];
  const Weigher weigher = draw.weigher;
  if (draw.way == RowDraw::kById) {
    Mass sum = 0;
    ForEachOfPart(rows, [&](unsigned, float logit) { sum += weigher(logit); });
    sum = RunningSum<kThreads>(sum);
    if (threadIdx.x == kThreads - 1) part_masses[int64_t{blockIdx.x} * gridDim.y + blockIdx.y] = sum;
  } else if (draw.way == RowDraw::kByRank) {
    __shared__ Buckets buckets;
    buckets.Clear();
    __syncthreads();
    ForEachOfPart(rows, [&](unsigned column, float logit) {
      const Mass mass = weigher(logit);
      if (mass > 0) buckets.Add(BucketOf(weigher.Exponent(logit)), mass, column);
    });
    __syncthreads();
    const int bucket = static_cast<int>(threadIdx.x);
    if (buckets.counts[bucket] > 0) {
      atomicAdd(&histograms[blockIdx.x].masses[bucket], buckets.mass(bucket));
      atomicAdd(&histograms[blockIdx.x].counts[bucket], buckets.counts[bucket]);
    }
  }
}

/// The last bucket that a draw can come to: that of the top-k-th token, or else the one in which the tokens
/// that top-p keeps end.
__device__ inline int LastBucket(const RowDraw& draw, const DrawHistogram& histogram) {
  __shared__ int last;
  if (threadIdx.x == 0) last = kDrawBuckets - 1;
  const Mass value = draw.top_k > 0 ? histogram.counts[threadIdx.x] : histogram.masses[threadIdx.x];
  const Mass sum = RunningSum<kThreads>(value);
  const Mass wanted =
      draw.top_k > 0 ? draw.top_k : RowDraw::Reaching(draw.top_p, OfLastThread<kThreads>(sum));
  if (sum >= wanted && sum - value < wanted) last = static_cast<int>(threadIdx.x);
  __syncthreads();
  return last;
}

/// blockIdx: row, part. In no order: ranks tell all that matters of it.
__global__ void __launch_bounds__(kThreads)
    GatherKernel(Rows rows, RowDraw* draws, const DrawHistogram* histograms, unsigned* lists) {
  RowDraw& draw = draws[blockIdx.x];
  if (draw.way != RowDraw::kByRank) return;
  const Weigher weigher = draw.weigher;
  const int last = LastBucket(draw, histograms[blockIdx.x]);
  __shared__ unsigned farthest;
  if (threadIdx.x == 0) farthest = 0;
  __syncthreads();
  unsigned* const list = lists + int64_t{blockIdx.x} * kMostListed;
  const unsigned most = OrderOf(weigher.most), lane = threadIdx.x % 32;
  ForEachOfPart(rows, [&](unsigned column, float logit) {
    const bool gathered = BucketOf(weigher.Exponent(logit)) <= last && weigher(logit) > 0;
    const unsigned lanes = __ballot_sync(0xffffffffu, gathered);
    if (lanes == 0) return;
    unsigned place = 0;
    if (lane == 0) place = atomicAdd(&draw.reachable, static_cast<unsigned>(__popc(lanes)));
    place = __shfl_sync(0xffffffffu, place, 0) + static_cast<unsigned>(__popc(lanes & ((1u << lane) - 1)));
    if (!gathered) return;
    if (place < kMostListed) list[place] = column;
    atomicMax(&farthest, most - OrderOf(logit));
  });
  __syncthreads();
  if (threadIdx.x == 0 && farthest > 0) atomicMax(&draw.farthest, farthest);
}

/// The tokens that a draw by rank can come to.
struct Reachable {
  const float* row;
  const unsigned* list;  // null: those of the whole row that lie no farther than `farthest`
  unsigned count, farthest;
  Weigher weigher;

  __device__ Reachable(const Rows& rows, const RowDraw& draw, const unsigned* lists)
      : row(rows[blockIdx.x]),
        list(draw.reachable <= kMostListed ? lists + int64_t{blockIdx.x} * kMostListed : nullptr),
        count(list != nullptr ? draw.reachable : static_cast<unsigned>(rows.columns)),
        farthest(draw.farthest),
        weigher(draw.weigher) {}

  /// Calls f(id, distance behind the most likely token, logit).
  template <typename F>
  __device__ void ForEach(F&& f) const {
    const unsigned most = OrderOf(weigher.most);
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < count; i += kThreads) {
      const unsigned id = list != nullptr ? list[i] : i;
      const float logit = row[id];
      const unsigned distance = most - OrderOf(logit);
      if (distance <= farthest) f(id, distance, logit);
    }
  }
};

/// What sums are reached by.
enum class Sum { kCount, kMass };

/// The place at which a sum is reached, and the sum of the masses up to it, itself included.
struct Place {
  Mass masses;
  unsigned id;  // of a place that is one token
};

__device__ inline int BitWidth(unsigned value) { return 32 - __clz(static_cast<int>(value)); }

/// The first place in rank order at which the sum is at least `wanted`, which it comes to. id_bits: those of
/// ids, or 0: then equals are one place.
__device__ Place Find(const Reachable& tokens, Sum by, Mass wanted, int id_bits) {
  struct Found {
    Mass masses_before, counts_before;
    Place place;
    unsigned bucket, count;
  };
  __shared__ Buckets buckets;
  __shared__ Found found;
  constexpr int kBits = 9;
  static_assert(1 << kBits == kDrawBuckets);

  Mass masses = 0, counts = 0;  // before the ranks that begin with `prefix`
  Mass prefix = 0;
  for (int bits = BitWidth(tokens.farthest) + id_bits;;) {
    const int left = bits > kBits ? bits - kBits : 0;  // bits of a rank behind those that are told apart now
    buckets.Clear();
    __syncthreads();
    tokens.ForEach([&](unsigned id, unsigned distance, float logit) {
      const Mass rank = id_bits > 0 ? Mass{distance} << id_bits | id : distance;
      if (rank >> bits != prefix) return;
      const Mass mass = tokens.weigher(logit);
      if (mass > 0) buckets.Add(static_cast<int>(rank >> left & ((Mass{1} << (bits - left)) - 1)), mass, id);
    });
    __syncthreads();
    const int bucket = static_cast<int>(threadIdx.x);
    const Mass mass = buckets.mass(bucket);
    const unsigned count = buckets.counts[bucket];
    const Mass mass_sum = masses + RunningSum<kThreads>(mass);
    const Mass count_sum = by == Sum::kCount ? counts + RunningSum<kThreads>(count) : 0;
    const Mass sum = by == Sum::kCount ? count_sum : mass_sum;
    const Mass added = by == Sum::kCount ? count : mass;
    if (sum >= wanted && sum - added < wanted) {
      found = {mass_sum - mass, count_sum - count, {mass_sum, buckets.ids[bucket]}, threadIdx.x, count};
    }
    __syncthreads();
    if (found.count == 1 || left == 0) break;
    masses = found.masses_before;
    counts = found.counts_before;
    prefix = prefix << (bits - left) | found.bucket;
    bits = left;
    __syncthreads();  // `found` has been read
  }
  const Place place = found.place;
  __syncthreads();
  return place;
}

__device__ unsigned DrawByRank(const Rows& rows, const RowDraw& draw, const DrawHistogram& histogram,
                               const unsigned* lists) {
  const Reachable tokens(rows, draw, lists);
  const int id_bits = BitWidth(static_cast<unsigned>(rows.columns));
  Mass mass = 0;
  if (draw.top_k > 0 && draw.reachable >= draw.top_k) {
    mass = Find(tokens, Sum::kCount, draw.top_k, 0).masses;
  } else {
    mass = OfLastThread<kThreads>(RunningSum<kThreads>(histogram.masses[threadIdx.x]));
  }
  if (draw.top_p < 1) mass = Find(tokens, Sum::kMass, RowDraw::Reaching(draw.top_p, mass), id_bits).masses;
  return Find(tokens, Sum::kMass, RowDraw::Exceeding(draw.share, mass), id_bits).id;
}

__device__ unsigned DrawById(const Rows& rows, const RowDraw& draw, const Mass* part_masses, int64_t parts) {
  __shared__ unsigned id;
  Mass total = 0;
  for (int64_t part = 0; part < parts; ++part) total += part_masses[part];
  const Mass wanted = RowDraw::Exceeding(draw.share, total);
  Mass before = 0;
  int64_t part = 0;
  while (before + part_masses[part] < wanted) before += part_masses[part++];
  const float* row = rows[blockIdx.x];
  for (int64_t first = part * kPart; before < wanted; first += kThreads) {
    const int64_t column = first + threadIdx.x;
    const Mass mass = column < rows.columns ? draw.weigher(row[column]) : 0;
    const Mass sum = before + RunningSum<kThreads>(mass);
    if (sum >= wanted && sum - mass < wanted) id = static_cast<unsigned>(column);
    before = OfLastThread<kThreads>(sum);
  }
  return id;
}

/// blockIdx.x: row.
__global__ void __launch_bounds__(kThreads)
    DrawKernel(Rows rows, const RowDraw* draws, const DrawHistogram* histograms, const unsigned* lists,
               const Mass* part_masses, int64_t parts, int32_t* ids) {
  const RowDraw& draw = draws[blockIdx.x];
  if (draw.way == RowDraw::kNone) return;
  const unsigned id = draw.way == RowDraw::kById
                          ? DrawById(rows, draw, part_masses + blockIdx.x * parts, parts)
                          : DrawByRank(rows, draw, histograms[blockIdx.x], lists);
  if (threadIdx.x == 0) ids[blockIdx.x] = static_cast<int32_t>(id);
}

}  // namespace

void DrawTokens(const Tensor& logits, int64_t columns, RowDraw* draws, DrawHistogram* histograms,
                const Tensor& ids, Scratch& scratch, cudaStream_t stream) {
  const auto count = static_cast<unsigned>(logits.rows());
  const int64_t parts = (columns + kPart - 1) / kPart;
  if (parts == 0) return;
  const Rows rows{logits.as<float>(), logits.cols(), columns};
  auto* lists = scratch.Get<unsigned>(int64_t{count} * kMostListed);
  auto* part_masses = scratch.Get<Mass>(count * parts);
  const dim3 all_parts(count, static_cast<unsigned>(parts));
  Launch(WeighKernel, all_parts, kThreads, 0, stream, rows, draws, histograms, part_masses);
  Launch(GatherKernel, all_parts, kThreads, 0, stream, rows, draws, histograms, lists);
  Launch(DrawKernel, count, kThreads, 0, stream, rows, draws, histograms, lists, part_masses, parts,
         ids.as<int32_t>());
}

}  // namespace internvl::cuda
