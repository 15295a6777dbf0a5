// Causal attention over the paged cache: which kernels take which sequences, and the plain one.
#include "cuda_backend.h"
#include "paged_attention.h"
#include "paged_decode.h"
#include "paged_prefill.h"
#include "plain_attention.h"

namespace internvl::cuda {
namespace {

/// One block: head blockIdx.y of row blockIdx.x.
template <typename T, typename Cached>
__global__ void __launch_bounds__(kPlainThreads) PlainPages(const Pages<T, Cached> pages) {
  const int head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.x);
  const int sequence = pages.Find(row, [&](int s) { return pages.query_start[s]; });
  // Its last row sees all of the context.
  const int sees = pages.context_lengths[sequence] - (pages.query_start[sequence + 1] - 1 - row);
  const int kv_head = head / pages.group();
  PlainAttention(
      pages.qkv + row * pages.qkv_width() + static_cast<int64_t>(head) * pages.dim, pages.dim, pages.scale,
      sees, [&](int i) { return pages.Key(pages.Row(kv_head, sequence, i)); },
      [&](int i) { return pages.Value(pages.Row(kv_head, sequence, i)); },
      pages.out + row * pages.width() + static_cast<int64_t>(head) * pages.dim, DynamicShared<float>());
}

template <typename T, typename Cached>
void LaunchPlain(const Pages<T, Cached>& pages, int64_t rows, cudaStream_t stream) {
  AllowDynamicShared(PlainPages<T, Cached>, PlainSharedBytes(pages.dim));
  Launch(PlainPages<T, Cached>, dim3(static_cast<unsigned>(rows), static_cast<unsigned>(pages.heads)),
         dim3(kPlainThreads), PlainSharedBytes(pages.dim), stream, pages);
}

template <typename Cached>
void LaunchFast(const Pages<BFloat16, Cached>& pages, const PagedSequences& sequences, int64_t rows,
                int multiprocessors, Scratch& scratch, cudaStream_t stream) {
  bool one = false, several = false;
  for (int64_t s = 0; s < sequences.count(); ++s) {
    const auto at = static_cast<size_t>(s);
    const int32_t queries = sequences.query_start.values[at + 1] - sequences.query_start.values[at];
    one |= queries == 1;
    several |= queries > 1;
  }
  if (several) LaunchPagedPrefill(pages, rows, stream);
  if (!one) return;
  DecodePartials partials{.output = nullptr, .log_sum = nullptr, .splits = 1};
  partials.splits = DecodeSplits<Cached>(pages.sequences, pages.heads, pages.kv_heads,
                                         sequences.max_blocks * pages.block_size, multiprocessors);
  if (partials.splits > 1) {
    partials.output =
        scratch.Get<float>(DecodePartials::Floats(pages.sequences, pages.heads, pages.dim, partials.splits));
    partials.log_sum =
        partials.output + static_cast<int64_t>(pages.sequences) * pages.heads * partials.splits * pages.dim;
  }
  LaunchPagedDecode(pages, partials, stream);
}

/// Calls f with null pointers of the types of queries and of what is in the cache.
template <typename F>
void WithCached(DType dtype, const PagedCache& cache, F&& f) {
  WithElement(dtype, [&]<typename T>(T* element) {
    if (cache.float8()) {
      f(element, static_cast<Float8*>(nullptr));
    } else {
      f(element, element);
    }
  });
}

}  // namespace

void AttendPages(const Tensor& qkv, const PagedCache& cache, const PagedSequences& sequences,
                 const HeadShape& heads, float scale, const Tensor& out, int multiprocessors,
                 Scratch& scratch, cudaStream_t stream) {
  if (qkv.rows() == 0) return;
  WithCached(qkv.dtype, cache, [&]<typename T, typename Cached>(T*, Cached*) {
    const Pages<T, Cached> pages{.qkv = qkv.as<T>(),
                                 .k_cache = cache.k.as<Cached>(),
                                 .v_cache = cache.v.as<Cached>(),
                                 .k_scales = cache.float8() ? cache.k.scales() : nullptr,
                                 .v_scales = cache.float8() ? cache.v.scales() : nullptr,
                                 .out = out.as<T>(),
                                 .query_start = sequences.query_start.tensor.as<int32_t>(),
                                 .context_lengths = sequences.context_lengths.tensor.as<int32_t>(),
                                 .block_tables = sequences.block_tables.tensor.as<int32_t>(),
                                 .sequences = static_cast<int>(sequences.count()),
                                 .max_blocks = static_cast<int>(sequences.max_blocks),
                                 .block_size = static_cast<int>(cache.block_size),
                                 .slots = static_cast<int>(cache.slots),
                                 .heads = static_cast<int>(heads.heads),
                                 .kv_heads = static_cast<int>(heads.kv_heads),
                                 .dim = static_cast<int>(heads.dim),
                                 .scale = scale};
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (scale > 0 && (heads.dim == 128 || heads.dim == 64) && pages.group() <= kMostGroup) {
        return LaunchFast(pages, sequences, qkv.rows(), multiprocessors, scratch, stream);
      }
    }
    LaunchPlain(pages, qkv.rows(), stream);
  });
}

void CudaBackend::PagedAttention(const Tensor& qkv, const PagedCache& cache, const PagedSequences& sequences,
                                 const HeadShape& heads, float scale, const Tensor& out) {
  Scratch scratch(arena());
  AttendPages(qkv, cache, sequences, heads, scale, out, multiprocessors_, scratch, stream());
}

}  // namespace internvl::cuda
