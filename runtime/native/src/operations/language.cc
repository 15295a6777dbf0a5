// The paged cache of keys and values.
#include "../operations.h"

namespace internvl {
namespace {

HeadShape ReadHeads(const Call& call, int index) {
  return {.heads = call.Integer(index, "numHeads", 1, 1 << 20),
          .kv_heads = call.Integer(index + 1, "numKvHeads", 1, 1 << 20),
          .dim = call.Integer(index + 2, "headDim", 1, 1 << 14)};
}

Tensor ReadQkv(const Call& call, const HeadShape& heads) {
  const Tensor qkv = call.Matrix(0, "qkv");
  REQUIRE(call, qkv.cols() == heads.qkv_width(),
          "qkv " + Describe(qkv) + " must have (numHeads + 2 numKvHeads) headDim = " +
              std::to_string(heads.qkv_width()) + " columns");
  return qkv;
}

PagedCache ReadCache(const Call& call, int index, DType dtype, const HeadShape& heads) {
  const bool float8 = call.Any(index, "kCache").dtype == DType::kFloat8;
  const DType type = float8 ? DType::kFloat8 : dtype;
  const int64_t width = float8 ? heads.dim : heads.kv_width();
  PagedCache cache;
  cache.k = call.MatrixOf(index, "kCache", type, -1, width);
  cache.v = call.MatrixOf(index + 1, "vCache", type, cache.k.rows(), width);
  cache.slots = cache.k.rows();
  if (float8) {
    REQUIRE(call, cache.slots % heads.kv_heads == 0,
            "kCache " + Describe(cache.k) + " must have as many rows for each of " +
                std::to_string(heads.kv_heads) + " heads");
    cache.slots /= heads.kv_heads;
  }
  return cache;
}

void CheckSequences(const Call& call, const Tensor& qkv, const PagedCache& cache,
                    const PagedSequences& sequences) {
  const int64_t count = sequences.count(), max_blocks = sequences.max_blocks;
  const Indices& query_start = sequences.query_start;
  REQUIRE(call, query_start.size() == count + 1, "queryStart must have one element more than contextLengths");
  REQUIRE(call, sequences.block_tables.size() == count * max_blocks,
          "blockTables must have maxBlocks elements per sequence");
  REQUIRE(call, query_start[0] == 0 && query_start[count] == qkv.rows(),
          "queryStart must run from 0 to the rows of qkv " + Describe(qkv));
  for (int64_t s = 0; s < count; ++s) {
    const int64_t queries = sequences.queries(s), length = sequences.context_lengths[s];
    const auto sequence = [s] { return "sequence " + std::to_string(s); };
    REQUIRE(call, queries >= 0, "queryStart must not fall at " + sequence());
    REQUIRE(call, length >= queries && length <= max_blocks * cache.block_size,
            "contextLengths: " + std::to_string(length) + " of " + sequence() + " must be at least its " +
                std::to_string(queries) + " query rows and fit into maxBlocks * blockSize");
    for (int64_t b = 0; b * cache.block_size < length; ++b) {
      const int64_t block = sequences.block_tables[s * max_blocks + b];
      REQUIRE(call, block >= 0 && (block + 1) * cache.block_size <= cache.slots,
              "blockTables: block " + std::to_string(block) + " of " + sequence() + " lies outside kCache " +
                  Describe(cache.k));
    }
  }
}

}  // namespace

Napi::Value RopeAndStoreKv(const Call& call) {
  const HeadShape heads = ReadHeads(call, 6);
  REQUIRE(call, heads.dim % 2 == 0, "headDim must be even, not " + std::to_string(heads.dim));
  const Tensor qkv = ReadQkv(call, heads);
  const Indices positions = call.Values(1, "positions"), slots = call.Values(2, "slots");
  const Tensor cos_sin = call.MatrixOf(3, "cosSin", DType::kFloat32, -1, heads.dim);
  const PagedCache cache = ReadCache(call, 4, qkv.dtype, heads);
  REQUIRE(call, positions.size() == qkv.rows() && slots.size() == qkv.rows(),
          "positions and slots must have one element per row of qkv " + Describe(qkv));
  for (int64_t r = 0; r < qkv.rows(); ++r) {
    REQUIRE(call, positions[r] >= 0 && positions[r] < cos_sin.rows(),
            "positions holds " + std::to_string(positions[r]) + ", outside cosSin " + Describe(cos_sin));
    REQUIRE(call, slots[r] >= 0 && slots[r] < cache.slots,
            "slots holds " + std::to_string(slots[r]) + ", outside kCache " + Describe(cache.k));
  }
  call.backend().RopeAndStoreKv(qkv, positions.tensor, slots.tensor, cos_sin, cache, heads);
  return call.env().Undefined();
}

Napi::Value PagedAttention(const Call& call) {
  const HeadShape heads = ReadHeads(call, 8);
  const auto scale = static_cast<float>(call.Number(11, "scale"));
  const Tensor qkv = ReadQkv(call, heads);
  REQUIRE(call, heads.heads % heads.kv_heads == 0, "numHeads must be a multiple of numKvHeads");
  PagedCache cache = ReadCache(call, 1, qkv.dtype, heads);
  cache.block_size = call.Integer(7, "blockSize", 1, 1 << 16);
  const PagedSequences sequences{.query_start = call.Values(3, "queryStart"),
                                 .context_lengths = call.Values(4, "contextLengths"),
                                 .block_tables = call.Values(5, "blockTables"),
                                 .max_blocks = call.Integer(6, "maxBlocks", 0, 1 << 24)};
  CheckSequences(call, qkv, cache, sequences);
  const Result out = call.Make(qkv.dtype, qkv.rows(), heads.heads * heads.dim);
  call.backend().PagedAttention(qkv, cache, sequences, heads, scale, out.tensor);
  return out.handle;
}

}  // namespace internvl
