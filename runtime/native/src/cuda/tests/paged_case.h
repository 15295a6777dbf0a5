// Random sequences over a paged cache, for tests of kernels on the emulation.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../paged_attention.h"
#include "attention_reference.h"
#include "cache_copy.h"
#include "device_array.h"

namespace internvl::cuda {

struct Sequence {
  int32_t queries, context;
};

struct Layout {
  int64_t heads, kv_heads, dim, block_size;
};

/// Sequences with shuffled blocks in a cache, and what is on the device of them.
template <typename T, typename Cached = T>
class PagedCase {
 public:
  PagedCase(std::vector<Sequence> sequences, const Layout& layout, int64_t max_blocks)
      : layout_(layout),
        max_blocks_(max_blocks),
        blocks_(3 + max_blocks * static_cast<int64_t>(sequences.size())),
        k_(blocks_ * layout.block_size, layout.kv_heads, layout.dim),
        v_(blocks_ * layout.block_size, layout.kv_heads, layout.dim) {
    free_.resize(static_cast<size_t>(blocks_));
    for (size_t i = 0; i < free_.size(); ++i) free_[i] = static_cast<int32_t>(i);
    std::shuffle(free_.begin(), free_.end(), random_numbers);
    Fill(std::move(sequences));
    qkv_device_ = std::make_unique<DeviceArray<T>>(qkv_);
    out_ = std::make_unique<DeviceArray<T>>(static_cast<size_t>(rows() * width()));
    starts_device_ = std::make_unique<DeviceArray<int32_t>>(starts_);
    contexts_device_ = std::make_unique<DeviceArray<int32_t>>(contexts_);
    tables_device_ = std::make_unique<DeviceArray<int32_t>>(tables_);
  }

  void Launch(float scale, Scratch& scratch) {
    AttendPages(Matrix(*qkv_device_, qkv_width()),
                {.k = k_.tensor(),
                 .v = v_.tensor(),
                 .slots = blocks_ * layout_.block_size,
                 .block_size = layout_.block_size},
                {.query_start = {Matrix(*starts_device_, 1), starts_},
                 .context_lengths = {Matrix(*contexts_device_, 1), contexts_},
                 .block_tables = {Matrix(*tables_device_, 1), tables_},
                 .max_blocks = max_blocks_},
                {.heads = layout_.heads, .kv_heads = layout_.kv_heads, .dim = layout_.dim}, scale,
                Matrix(*out_, width()), kMultiprocessors, scratch, Stream());
  }

  /// Other sequences in the same places of the device, in as many rows.
  void Replace(std::vector<Sequence> sequences) {
    Fill(std::move(sequences));
    qkv_device_->Write(qkv_);
    out_->Write(std::vector<T>(out_->size(), FromFloat<T>(NAN)));
    starts_device_->Write(starts_);
    contexts_device_->Write(contexts_);
    tables_device_->Write(tables_);
  }

  std::string Compare(float scale, Worst& worst) const {
    const int64_t group = layout_.heads / layout_.kv_heads, dim = layout_.dim;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const Sequence& sequence = sequences_[s];
      for (int32_t i = 0; i < sequence.queries; ++i) {
        // Of many rows some, the ends among them.
        if (sequence.queries > 60 && i > 20 && i < sequence.queries - 20 && i % 11 != 0) continue;
        const int64_t row = starts_[s] + i;
        for (int64_t head = 0; head < layout_.heads; ++head) {
          std::vector<const T*> keys, values;
          for (int32_t p = 0; p <= sequence.context - sequence.queries + i; ++p) {
            keys.push_back(k_.row(Slot(s, p), head / group));
            values.push_back(v_.row(Slot(s, p), head / group));
          }
          const std::string wrong = CompareRow(qkv_.data() + row * qkv_width() + head * dim, keys, values,
                                               dim, scale, out_->data() + row * width() + head * dim, worst);
          if (wrong.empty()) continue;
          return "sequence " + std::to_string(s) + " (" + std::to_string(sequence.queries) + " of " +
                 std::to_string(sequence.context) + ") row " + std::to_string(i) + " head " +
                 std::to_string(head) + " " + wrong;
        }
      }
    }
    return "";
  }

 private:
  static constexpr int kMultiprocessors = 6;

  int64_t width() const { return layout_.heads * layout_.dim; }
  int64_t kv_width() const { return layout_.kv_heads * layout_.dim; }
  int64_t qkv_width() const { return width() + 2 * kv_width(); }
  int64_t rows() const { return starts_.back(); }
  int64_t Slot(size_t s, int32_t position) const {
    const auto block = static_cast<size_t>(position / layout_.block_size);
    return tables_[s * static_cast<size_t>(max_blocks_) + block] * layout_.block_size +
           position % layout_.block_size;
  }

  void Fill(std::vector<Sequence> sequences) {
    sequences_ = std::move(sequences);
    starts_ = {0};
    contexts_.clear();
    tables_.assign(sequences_.size() * static_cast<size_t>(max_blocks_), -1);
    k_.Clear();
    v_.Clear();
    size_t next = 0;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      starts_.push_back(starts_.back() + sequences_[s].queries);
      contexts_.push_back(sequences_[s].context);
      for (int64_t b = 0; b * layout_.block_size < sequences_[s].context; ++b) {
        tables_[s * static_cast<size_t>(max_blocks_) + static_cast<size_t>(b)] = free_.at(next++);
      }
      for (int32_t p = 0; p < sequences_[s].context; ++p) {
        k_.Set(Slot(s, p));
        v_.Set(Slot(s, p));
      }
    }
    qkv_ = Random<T>(static_cast<size_t>(rows() * qkv_width()));
  }

  const Layout layout_;
  const int64_t max_blocks_, blocks_;
  CacheCopy<T, Cached> k_, v_;
  std::vector<Sequence> sequences_;
  std::vector<T> qkv_;
  std::vector<int32_t> free_, starts_, contexts_, tables_;
  std::unique_ptr<DeviceArray<T>> qkv_device_, out_;
  std::unique_ptr<DeviceArray<int32_t>> starts_device_, contexts_device_, tables_device_;
};

}  // namespace internvl::cuda
